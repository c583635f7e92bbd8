"""The only inference door: raw images in, probabilities out. Evaluation, prediction and serving all come through here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frostline import inside
from frostline.artifact import make_runner, read_model
from frostline.conformal import Promise, named_sets, promise_of
from frostline.data.imageset import ImageSet
from frostline.data.reading import stored_blocks
from frostline.engine import BATCH
from frostline.environment import has_bf16
from frostline.errors import UserError
from frostline.model_card import ModelCard, seen_digests
from frostline.model_zip import unpacked
from frostline.predictions import Predictions
from frostline.progress import say, stage
from frostline.selftest import pass_selftest
from frostline.stored import ImageLike, read_stored


class Predictor:
    """A saved model, ready to predict.

    Args:
        folder: a model directory, a run that holds one, or a ZIP of one.
        precision: "auto" is what the model was measured in, or f32 (said) where the processor lacks it.
        batch: images per inference.
        threads: processor threads; 0 for all.

    Raises:
        UserError: see ``artifact.read_model`` and ``selftest.replay_selftest``.
    """

    def __init__(self, folder: str | Path, precision: str = "auto", batch: int = BATCH, threads: int = 0) -> None:
        self.folder = model_folder(Path(folder))
        self.card, self.graph = read_model(self.folder)
        wanted = self._resolve(precision)
        self._compiled = make_runner(self.graph, self.folder, self.card.values, wanted, batch, threads)
        self.precision, self.batch = self._compiled.how["precision"], batch
        tolerated = next((coarse for coarse in ("int8", "bf16") if coarse in (self.precision, self.card.precision)), "f32")
        pass_selftest(self.folder, self.card, self._compiled, tolerated, self._compiled.how)

    @property
    def classes(self) -> tuple[str, ...]:
        """The K class names, in the order of the probabilities."""
        return self.card.classes

    @property
    def how(self) -> Mapping[str, Any]:
        """What the numbers depend on beside the model: engine, precision of computing, batch."""
        return self._compiled.how

    @property
    def coverages(self) -> tuple[float, ...]:
        """The coverages that label sets can be asked for, rising; none where the model's card keeps no thresholds."""
        return tuple(sorted(self.card.label_sets))

    def promise(self, coverage: float) -> Promise:
        """What sets of one of ``coverages`` promise.

        Raises:
            UserError: the model's card keeps no threshold for it.
        """
        return promise_of(self.card.label_sets, coverage)

    def label_sets(self, probabilities: NDArray[np.floating], coverage: float) -> list[tuple[str, ...]]:
        """The set of classes of each image, likeliest first, that holds the truth as often as ``coverage`` says; see ``conformal``.

        Args:
            probabilities: (N, K), as ``predict`` gives them.
            coverage: one of ``coverages``.

        Raises:
            UserError: as ``promise``.
        """
        return named_sets(probabilities, self.classes, self.promise(coverage).threshold)

    def _resolve(self, wanted: str) -> str:
        there = ("auto", "bf16", "f32", *(("int8",) if self.card.precision == "int8" else ()))
        if wanted not in there:
            expected = f"precision {', '.join(there)}"
            raise UserError(f"The model {self.folder} does not compute like that.", expected=expected, received=wanted)
        precision = self.card.precision if wanted == "auto" else wanted
        if precision == "bf16" and not has_bf16():
            say("This processor does not compute in bf16, in which the model was measured: f32 is used.", "yellow")
            return "f32"
        return precision

    def predict(self, images: ImageLike | Sequence[ImageLike]) -> NDArray[np.float32]:
        """Probabilities, (N, K), of a list of images, or of one (N = 1). An (N, H, W, 3) uint8 array is N images."""
        if isinstance(images, bytes | str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim != 4):
            images = [images]
        blocks = list(self.stream(images))
        return np.concatenate(blocks) if blocks else np.empty((0, len(self.classes)), np.float32)

    def stream(self, images: Iterable[ImageLike]) -> Iterator[NDArray[np.float32]]:
        """Probabilities of any number of images in blocks of at most ``batch`` rows, in order and in constant memory."""
        stored = (read_stored(image, self.card.preprocess) for image in images)
        yield from self.stored(np.stack(block) for block in _chunks(stored, self.batch))

    def stored(self, blocks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Probabilities of blocks (n, h, w, 3) of images that have the stored size already."""
        yield from self._compiled.answers(blocks)

    def features(self, blocks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Features (n, V, D) of blocks of images of the stored size: of each view that the model averages, the image first."""
        yield from self._compiled.features(blocks)

    def from_features(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (n, K) of features (n, V, D), by the head alone."""
        return np.asarray(self._compiled.head.features(features), np.float32)

    def judge(self, images: ImageSet, labels: NDArray[np.int64] | None = None) -> Predictions:
        """Predictions of every row of a set; ``labels`` where the set's classes are not the model's."""
        rows = [np.arange(i, min(i + self.batch, len(images))) for i in range(0, len(images), self.batch)]
        found = np.empty((len(images), len(self.classes)), np.float32)
        with stage(f"predict {images.name}", len(images)) as bar:
            for index, probabilities in zip(rows, self.stored(stored_blocks(images, rows, self.card.preprocess)), strict=True):
                found[index] = probabilities
                bar.advance(len(index))
        if not (fine := np.isfinite(found).all(axis=1)).all():
            raise UserError(
                f"The model {self.folder} has no answer for {int((~fine).sum()):,} of {len(images):,} images.",
                expected="probabilities",
                received=f"numbers that are not finite, for {images.ids[~fine][0]}",
                hint="leave these images out; a network that divides by an image's own deviation has none for one colour",
            )
        return Predictions(images.ids, images.labels if labels is None else labels, found, self.classes, images.digests)

    def seen(self) -> set[bytes]:
        """Digests of the images that training and the choices in it have seen."""
        return seen_digests(self.folder)


def model_folder(folder: Path) -> Path:
    """The model directory of a run, of a ZIP of one, of the classifier in the package ("inside"), or the folder itself."""
    if str(folder) == inside.MODEL and not folder.exists():
        return inside.folder()
    if folder.is_file():
        return unpacked(folder)
    within = folder / "model"
    return within if (within / "model.json").is_file() and not (folder / "model.json").is_file() else folder


def load_model(folder: str | Path, **options: Any) -> Predictor:
    """A saved model by its directory, its run's, or a ZIP of one; see ``Predictor``."""
    return Predictor(folder, **options)


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    take: Callable[[], list[Any]] = lambda: list(islice(iterator, size))  # noqa: E731
    return iter(take, [])


__all__ = ["ImageLike", "ModelCard", "Predictor", "load_model", "model_folder"]
