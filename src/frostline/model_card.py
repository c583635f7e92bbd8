"""What a model directory says of itself: ``model.json``, checked against its own digest, and which images training has seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frostline.errors import UserError
from frostline.files import digest_json
from frostline.preprocess import Preprocess

#: Version of ``model.json``.
SCHEMA = 1
CARD, GRAPH, WEIGHTS, SELFTEST, SEEN = "model.json", "graph.xml", "weights.safetensors", "selftest.npz", "seen.npy"
GRAPH_FILES = (GRAPH, "graph.bin")
FILES = (WEIGHTS, SELFTEST, SEEN)


@dataclass(frozen=True)
class ModelCard:
    """What a model is, as ``model.json`` says it.

    Attributes:
        name: the run's name.
        classes: K names in the order of the probabilities.
        preprocess: how images become the graph's input.
        views: how many of ``data.views.SERVED`` are averaged: 1, 2 with the mirror image, or 6.
        temperature: divides the averaged log-probabilities; fitted on validation, already in the graph.
        precision: "bf16" or "f32": what the model was measured in.
        sure_from: the probability from which on 99 % of the answers were right on validation; None: not known, or there is none.
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
    digest: str
    values: Mapping[str, Any]


def read_card(folder: Path) -> ModelCard:
    """``model.json``, checked against its own digest."""
    try:
        values = json.loads((folder / CARD).read_text("utf-8"))
        told = values.pop("digest")
        if values["schema"] > SCHEMA:
            raise UserError(
                f"{folder} was saved by a newer Frostline.", expected=f"schema {SCHEMA}", received=str(values["schema"])
            )
        if digest_json(values) != told:
            raise UserError(f"{folder / CARD} was changed after it was saved.", expected=f"digest {told}")
        if set(values["files"]) - set(GRAPH_FILES) != set(FILES) or len(set(values["files"]) & set(GRAPH_FILES)) == 1:
            raise UserError(f"{folder / CARD} names other files than a model has.", expected=", ".join((*FILES, *GRAPH_FILES)))
        return ModelCard(
            name=str(values["name"]),
            classes=tuple(map(str, values["classes"])),
            preprocess=Preprocess.from_dict(values["preprocess"]),
            views=int(values["views"]),
            temperature=float(values["temperature"]),
            precision=str(values["precision"]),
            sure_from=None if values.get("sure_from") is None else float(values["sure_from"]),
            digest=told,
            values=values,
        )
    except FileNotFoundError as error:
        raise UserError(
            f"There is no model at {folder}.",
            expected="a folder with model.json, as 'frostline train --out DIR' leaves it in DIR/model",
            received="a folder without model.json" if folder.is_dir() else "no such folder",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / CARD} cannot be read.", received=f"{type(error).__name__}: {error}") from error


def seen_digests(folder: Path) -> set[bytes]:
    """The 16-byte digests of the images that training and the choices in it have seen."""
    return {bytes(value).ljust(16, b"\0") for value in np.load(folder / SEEN, allow_pickle=False)}
