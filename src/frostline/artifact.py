"""The model directory: written whole, read with suspicion. No torch, no pickles, nothing in it is run but the graph.

``model.json`` says everything; ``graph.xml`` and ``graph.bin`` compute it; ``weights.safetensors`` holds the same weights by
name; ``selftest.npz`` holds drawn images and the probabilities they must give; ``seen.npy`` the digests of the images that
training or the choices made in it have seen. Test data leaves no trace here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from frostline import engine
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.files import digest_file, digest_json, sync_folder, write_json
from frostline.model_card import CARD, GRAPH, SCHEMA, SEEN, SELFTEST, WEIGHTS, ModelCard, read_card
from frostline.progress import say
from frostline.vino import ov

#: How far self-test probabilities may be off, by precision of computing.
TOLERANCE = {"f32": 1e-4, "bf16": 2e-2}


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
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        fresh = Path(scratch) / folder.name
        fresh.mkdir()
        if graph is not None:
            engine.save_graph(graph, fresh / GRAPH, half)
        save_file({name: np.ascontiguousarray(value) for name, value in weights.items()}, fresh / WEIGHTS)
        _write_selftest(fresh, card)
        np.save(fresh / SEEN, np.sort(np.array(sorted(seen), dtype="S16")))
        values = {"schema": SCHEMA, **card, "files": {path.name: digest_file(path) for path in sorted(fresh.iterdir())}}
        digest = digest_json(values)
        write_json(fresh / CARD, {**values, "digest": digest})
        _sync(fresh)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(fresh, folder)
    sync_folder(folder.parent)
    return digest


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
    sync_folder(folder)


def _write_selftest(folder: Path, card: Mapping[str, Any]) -> None:
    """Ten drawn images of the stored size with the probabilities that the written graph gives them."""
    height, width = card["preprocess"]["stored"]
    images = drawn_images(10, height, width, seed=10)
    graph = engine.read_graph(folder / GRAPH) if (folder / GRAPH).exists() else None
    runner = make_runner(graph, folder, card, card["precision"])
    np.savez(folder / SELFTEST, images=images, probabilities=runner.probabilities(images))


class Compiled:
    """A model's graph in two engines: the body in the model's precision, the head always in f32.

    Args:
        graph: as ``write_model`` takes it.
        precision: "bf16" or "f32".
        batch: images per inference.
        threads: processor threads; 0 for all.
    """

    def __init__(self, graph: ov.Model, precision: str, batch: int = engine.BATCH, threads: int = 0) -> None:
        self.body = engine.Engine(graph, precision, ("features",), batch, threads)
        self.head = engine.Engine(engine.split_head(graph), "f32", ("probabilities",), batch, threads)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, h, w, 3) uint8 of the stored size to (N, K)."""
        return self.head.features(self.body.features(images))


def make_runner(
    graph: ov.Model | None, folder: Path, card: Mapping[str, Any], precision: str, batch: int = engine.BATCH, threads: int = 0
) -> Any:
    """What computes a model: its compiled graph, or (said) torch, where there is none."""
    if graph is not None:
        return Compiled(graph, precision, batch, threads)
    try:
        from frostline.models.rebuilt import Rebuilt
    except ImportError as error:
        raise UserError(
            f"The network of {folder} could not be compiled when it was saved, so it needs torch to predict.",
            hint="pip install 'frostline[train]'",
        ) from error
    say("This model has no compiled graph: torch runs it, more slowly.", "yellow")
    return Rebuilt(folder / WEIGHTS, card)


def read_model(folder: Path) -> tuple[ModelCard, ov.Model | None]:
    """The card and the graph (None: see ``make_runner``) of a model directory, after every digest was checked.

    Raises:
        UserError: no model there, a newer schema, a file missing, extra names, or anything changed since it was written.
    """
    card = read_card(folder)
    for name, digest in card.values["files"].items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"The model {folder} is incomplete.", expected=name, received="no such file")
        if digest_file(path) != digest:
            raise UserError(
                f"{path} is not the file that this model was saved with.",
                expected=f"digest {digest}",
                received=f"digest {digest_file(path)}",
                hint="copy the model directory again, or train it again",
            )
    return card, engine.read_graph(folder / GRAPH) if GRAPH in card.values["files"] else None


def replay_selftest(folder: Path, compiled: Any, precision: str) -> None:
    """Compare what the model says about its self-test images here with what it said where it was saved.

    Raises:
        UserError: a probability is off by more than the tolerance: another computation than the one that was measured.
    """
    with np.load(folder / SELFTEST, allow_pickle=False) as archive:
        images, wanted = archive["images"], archive["probabilities"]
    found = compiled.probabilities(images)
    worst = float(np.abs(found - wanted).max())
    if not worst <= TOLERANCE[precision]:
        raise UserError(
            f"The model {folder} does not pass its self-test on this machine.",
            expected=f"probabilities within {TOLERANCE[precision]:g} of those it was saved with",
            received=f"a difference of {worst:.3g}",
            hint="--precision f32",
        )
