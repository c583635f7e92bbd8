"""The model directory: written whole, read with suspicion. No torch, no pickles, nothing in it is run but the graph.

``model.json`` says everything; ``graph.xml`` and ``graph.bin`` compute it, and perhaps ``graph.onnx`` where there is no OpenVINO;
``weights.safetensors`` holds the same weights by name; ``selftest.npz`` holds drawn images and the probabilities they must give;
``seen.npy`` the digests of the images that training or the choices made in it have seen. Test data leaves no trace here.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from frostline import engine, vino
from frostline.errors import UserError
from frostline.files import digest_file, digest_json, named, sync_folder, write_bytes, write_json
from frostline.model_card import CARD, GRAPH, ONNX, SCHEMA, SEEN, WEIGHTS, ModelCard, read_card
from frostline.model_files import check_files
from frostline.onnx_engine import OnnxRunner
from frostline.progress import say
from frostline.runner import Runner
from frostline.selftest import write_selftest
from frostline.vino import ov

#: A disk with less room than this, in bytes, is full: what did not fit on it is gone again.
FULL = 2**24


def write_model(
    folder: Path,
    graph: ov.Model | None,
    weights: Mapping[str, NDArray[Any]],
    seen: set[bytes],
    card: Mapping[str, Any],
    half: bool = False,
) -> str:
    """Write a model directory, whole or not at all; returns the model's digest.

    Args:
        folder: to make; what is there is replaced.
        graph: from "images" to "probabilities", "features" and perhaps "map"; view average and temperature inside. None where
            the network could not be compiled: the model then needs torch to predict.
        weights: by name.
        seen: 16-byte digests of the images of training and validation.
        card: name, classes, preprocess (as a dict), views, temperature, precision, and whatever else should be known.
        half: keep the graph's weights in float16.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with named(folder), tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        fresh = Path(scratch) / folder.name
        fresh.mkdir()
        with _room(folder):
            if graph is not None:
                engine.save_graph(graph, fresh / GRAPH, half)
            save_file({name: np.ascontiguousarray(value) for name, value in weights.items()}, fresh / WEIGHTS)
            np.save(fresh / SEEN, np.sort(np.array(sorted(seen), dtype="S16")))
        if graph is not None:
            _write_onnx(fresh)
        written = engine.read_graph(fresh / GRAPH) if graph is not None else None
        runner = make_runner(written, fresh, card, card["precision"])
        exact = make_runner(written, fresh, card, "f32") if written is not None and card["precision"] != "f32" else None
        write_selftest(fresh, runner, card["preprocess"]["stored"], exact)
        shutil.copymode(fresh / SEEN, fresh / WEIGHTS)  # safetensors lets nobody else read what it writes
        values = {"schema": SCHEMA, **card, "files": {path.name: digest_file(path) for path in sorted(fresh.iterdir())}}
        digest = digest_json(values)
        write_json(fresh / CARD, {**values, "digest": digest})
        _sync(fresh)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(fresh, folder)
    sync_folder(folder.parent)
    return digest


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    """While inside, what libraries raise of a disk that takes no more is an ``OSError`` that says so and names the folder."""
    try:
        yield
    except (RuntimeError, SafetensorError, OSError) as error:
        told = isinstance(error, OSError) and error.errno is not None  # NumPy's has none: it only counts what was written
        if told or shutil.disk_usage(folder.parent).free > FULL:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error


def _write_onnx(folder: Path) -> None:
    """The same graph for ONNX Runtime, its weights in ``graph.bin``: tens of kilobytes, where OpenVINO cannot be installed."""
    try:
        from frostline.exports.onnx_graph import to_onnx
    except ImportError:
        say(f"The model has no {ONNX}, for where OpenVINO is missing: pip install 'frostline[export]'", "yellow")
        return
    try:
        write_bytes(folder / ONNX, to_onnx(folder / GRAPH, outside=True).SerializeToString(deterministic=True))
    except UserError as error:
        say(f"The model has no {ONNX}: {error.message}", "yellow")


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with open(path, "rb+") as stream:  # Windows syncs only what may be written to
            os.fsync(stream.fileno())
    sync_folder(folder)


class Compiled(Runner):
    """A model's graph in two engines: the body in the model's precision, the head always in f32.

    Args:
        graph: as ``write_model`` takes it.
        precision: "bf16" or "f32".
        batch: images per inference.
        threads: processor threads; 0 for all.

    Raises:
        UserError: the graph is none of a classifier.
    """

    def __init__(self, graph: ov.Model, precision: str, batch: int = engine.BATCH, threads: int = 0) -> None:
        try:
            self.body = engine.Engine(graph, precision, ("features",), batch, threads)
            self.head = engine.Engine(engine.split_head(graph), "f32", ("probabilities",), batch, threads)
        except (RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError("The model's graph cannot be compiled.", received=f"{type(error).__name__}: {reason}") from error
        self.how = {"engine": f"openvino {engine.version()}", "precision": precision, "batch": batch}


def make_runner(
    graph: ov.Model | None, folder: Path, card: Mapping[str, Any], precision: str, batch: int = engine.BATCH, threads: int = 0
) -> Any:
    """What computes a model: its compiled graph; without OpenVINO (said) ONNX Runtime; without a graph (said) torch."""
    if graph is not None:
        return Compiled(graph, precision, batch, threads)
    if GRAPH in card.get("files", ()):
        return _without_openvino(folder, card, batch, threads)
    try:
        from frostline.models.rebuilt import Rebuilt
    except ImportError as error:
        raise UserError(
            f"The network of {folder} could not be compiled when it was saved, so it needs torch to predict.",
            hint="pip install 'frostline[train]'",
        ) from error
    say("This model has no compiled graph: torch runs it, more slowly.", "yellow")
    return Rebuilt(folder / WEIGHTS, card)


def _without_openvino(folder: Path, card: Mapping[str, Any], batch: int, threads: int) -> OnnxRunner:
    if ONNX not in card["files"]:
        raise UserError(
            f"OpenVINO cannot be imported here, and {folder} has no {ONNX}, which ONNX Runtime would run.",
            received=vino.reason,
            hint="pip install openvino; or export the model with its ONNX graph where there is OpenVINO",
        )
    runner = OnnxRunner(folder / ONNX, batch, threads)
    say("OpenVINO cannot be imported here: ONNX Runtime runs this model, in f32.", "yellow")
    return runner


def read_model(folder: Path) -> tuple[ModelCard, ov.Model | None]:
    """The card and the graph (None: see ``make_runner``) of a model directory, after every digest was checked.

    Raises:
        UserError: no model there, a newer schema, a file missing, extra files, or anything changed since it was written.
    """
    card = read_card(folder)
    check_files(folder, card.values["files"])
    if GRAPH not in card.values["files"] or not vino.available:
        return card, None
    try:
        graph = engine.read_graph(folder / GRAPH)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder / GRAPH} cannot be read.", received=reason) from error
    _check_fit(folder, graph, card)
    return card, graph


def _check_fit(folder: Path, graph: ov.Model, card: ModelCard) -> None:
    """The graph must take images of the card's stored size and answer with as many classes as the card has names."""
    found = {name: str(port.get_partial_shape()) for port in (*graph.inputs, *graph.outputs) for name in port.get_names()}
    height, width = card.preprocess.stored
    wanted = {"images": f"[?,{height},{width},3]", "probabilities": f"[?,{len(card.classes)}]"}
    told = {name: found.get(name, "nothing") for name in wanted}
    if told != wanted:
        expected, received = (", ".join(f"{name} {shape}" for name, shape in each.items()) for each in (wanted, told))
        raise UserError(f"The graph of {folder} is not of the model that its card describes.", expected=expected, received=received)
