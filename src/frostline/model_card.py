"""What a model directory says of itself: ``model.json``, checked against its own digest, and which images training has seen."""

from __future__ import annotations

import json
import math
import re
import stat
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frostline.errors import UserError, few
from frostline.files import digest_json
from frostline.preprocess import Preprocess

#: Version of ``model.json``.
SCHEMA = 1
CARD, GRAPH, WEIGHTS, SELFTEST, SEEN = "model.json", "graph.xml", "weights.safetensors", "selftest.npz", "seen.npy"
#: The graph for OpenVINO, and the same graph for where that cannot be installed.
GRAPH_FILES, ONNX = (GRAPH, "graph.bin"), "graph.onnx"
FILES = (WEIGHTS, SELFTEST, SEEN)
#: A longer ``model.json`` is none: with twenty thousand classes it has about one MiB.
MOST_BYTES = 1 << 24
#: What stands for a licence that nobody has stated.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class ModelCard:
    """What a model is, as ``model.json`` says it.

    Attributes:
        name: the run's name.
        classes: K names in the order of the probabilities.
        preprocess: how images become the graph's input.
        views: how many of ``data.views.SERVED`` are averaged: 1, 2 with the mirror image, or 6.
        temperature: divides the averaged log-probabilities; fitted on validation, already in the graph.
        precision: "bf16", "f32" or "int8": what the model was measured in.
        sure_from: the probability from which on 99 % of the answers were right on validation; 1: none is sure; None: not known.
        label_sets: the threshold of label sets for each coverage that can be promised, coverage → threshold (see ``conformal``);
            empty in cards older than these, and where validation gave none.
        licences: of the pretrained "weights" and of the "data", as they were stated; "unknown" where they were not.
        digest: of everything in the directory; the model's identity.
        values: all of ``model.json``.
    """

    name: str
    classes: tuple[str, ...]
    preprocess: Preprocess
    views: int
    temperature: float
    precision: str
    sure_from: float | None
    label_sets: Mapping[float, float]
    licences: Mapping[str, str]
    digest: str
    values: Mapping[str, Any]

    @property
    def knows_seen(self) -> bool:
        """Whether it is known which images training has seen; of an imported network it is not."""
        return bool(self.values.get("knows_seen", True))


def read_card(folder: Path) -> ModelCard:
    """``model.json``, checked against its own digest.

    Raises:
        UserError: there is none, it is no card, a newer Frostline's, changed since it was saved, or says what no model says.
    """
    try:
        values = _parsed(folder / CARD)
        told = values.pop("digest")
        if values["schema"] > SCHEMA:
            raise UserError(
                f"{folder} was saved by a newer Frostline.",
                expected=f"schema {SCHEMA}",
                received=str(values["schema"]),
                hint="pip install --upgrade frostline",
            )
        if digest_json(values) != told:
            raise UserError(f"{folder / CARD} was changed after it was saved.", expected=f"digest {told}")
        _check_names(folder, values["files"])
        return _card(values, told)
    except FileNotFoundError as error:
        raise UserError(
            f"There is no model at {folder}.",
            expected="a folder with model.json, as 'frostline train --out DIR' leaves it in DIR/model",
            received="a folder without model.json" if folder.is_dir() else "no such folder",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{folder / CARD} cannot be read.", received=f"{type(error).__name__}: {error}") from error


def _parsed(path: Path) -> dict[str, Any]:
    if path.is_symlink():
        raise OSError(f"a link to {path.readlink()}")
    if not stat.S_ISREG((found := path.stat()).st_mode):
        raise OSError("not a regular file")
    if (size := found.st_size) > MOST_BYTES:
        raise ValueError(f"{size:,} bytes, more than any card has")
    values = json.loads(path.read_text("utf-8"), parse_constant=_no_number, parse_float=_finite)
    if not isinstance(values, dict):
        raise TypeError(f"expected an object, received a {type(values).__name__}")
    return values


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _check_names(folder: Path, files: Mapping[str, str]) -> None:
    """Exactly a model's files; so no name leads anywhere else."""
    graph = [name for name in GRAPH_FILES if name in files]
    if set(files) - {*GRAPH_FILES, ONNX} != set(FILES) or len(graph) == 1 or (ONNX in files and not graph):
        raise UserError(
            f"{folder / CARD} names other files than a model has.",
            expected=", ".join((*FILES, *GRAPH_FILES, ONNX)),
            received=few(ascii(name) for name in files),
        )
    if not all(isinstance(digest, str) for digest in files.values()):
        raise TypeError("a digest is no text")


def _card(values: dict[str, Any], digest: str) -> ModelCard:
    classes, precision, temperature = values["classes"], values["precision"], float(values["temperature"])
    if not isinstance(classes, list) or not classes or len(set(map(str, classes))) < len(classes):
        raise ValueError("the classes are no list of different names")
    if precision not in ("bf16", "f32", "int8") or not 0 < temperature < math.inf or values["views"] not in (1, 2, 6):
        raise ValueError("a precision, temperature or number of views that no model has")
    return ModelCard(
        name=str(values["name"]),
        classes=tuple(map(str, classes)),
        preprocess=Preprocess.from_dict(values["preprocess"]),
        views=int(values["views"]),
        temperature=temperature,
        precision=precision,
        sure_from=None if values.get("sure_from") is None else float(values["sure_from"]),
        label_sets=_label_sets(values.get("label_sets") or ()),
        licences=_licences(values),
        digest=digest,
        values=values,
    )


def _label_sets(rows: Iterable[Mapping[str, Any]]) -> dict[float, float]:
    found = {float(row["promised"]): float(row["threshold"]) for row in rows}
    if not all(0 < coverage < 1 and 0 <= threshold <= 1 for coverage, threshold in found.items()):
        raise ValueError("label sets that no model has")
    return found


def _licences(values: Mapping[str, Any]) -> dict[str, str]:
    """Of weights and data. Older cards may state one of the whole, or name it with their weights' origin."""
    told = values.get("licences") or {}
    origin = str(values.get("architecture", {}).get("weights", ""))
    weights = told.get("weights") or values.get("licence") or licence_of(origin)
    return {"weights": str(weights), "data": str(told.get("data") or UNKNOWN)}


def licence_of(origin: str) -> str:
    """The licence that ends a description of weights, as ``models.weights`` writes it, in lower case; "unknown" without one."""
    found = re.search(r"\(([A-Za-z0-9.+-]+)\)$", origin)
    return found[1].lower() if found else UNKNOWN


def seen_digests(folder: Path) -> set[bytes]:
    """The 16-byte digests of the images that training and the choices in it have seen.

    Raises:
        UserError: the file holds something else; nothing in it is unpickled.
    """
    try:
        with open(folder / SEEN, "rb") as stream:
            found = np.load(stream, allow_pickle=False)
        if found.ndim != 1 or found.dtype.kind != "S" or found.dtype.itemsize > 16:
            raise ValueError(f"{found.dtype} {found.shape}")
    except (OSError, ValueError, EOFError, MemoryError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{folder / SEEN} is no list of digests.", received=f"{type(error).__name__}: {error}") from error
    return {bytes(value).ljust(16, b"\0") for value in found}
