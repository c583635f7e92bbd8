"""The training images that a saved model finds most like an image: nearest by the features that its graph gives. No torch.

N training images, D features. A model directory holds digests of what training has seen, and no image: the data is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import ImageSet
from frostline.data.sources import load_source
from frostline.decode import DECODER_VERSION
from frostline.errors import UserError
from frostline.explaining.galleries import picture
from frostline.feature_cache import STORED, FeatureCache, from_stored, in_storage_type
from frostline.features import extract
from frostline.files import scratch_array
from frostline.progress import stage
from frostline.serve.predictor import Predictor

#: Rows that are compared at once.
_TOGETHER = 4096


@dataclass(frozen=True)
class Neighbour:
    """A training image near another one.

    Attributes:
        id: its row's name in the data.
        label: its class there.
        distance: 1 − the cosine of the two images' features: 0 for the same direction, 1 for nothing in common.
        image: (H, W, 3) uint8, to be looked at.
    """

    id: str
    label: str
    distance: float
    image: NDArray[np.uint8]


class Neighbours:
    """The images of some data that a model has seen in training, by their features.

    Features come from the saved graph, of each image as it is (without its mirror image), and are kept in the feature cache under
    the model's digest.

    Args:
        predictor: the model.
        data: what ``data.sources.load_source`` takes.

    Raises:
        UserError: no such data, or the model has seen none of its images.
    """

    def __init__(self, predictor: Predictor, data: str | Path) -> None:
        self._engine = _FirstView(predictor)
        self._predictor = predictor
        self.sets = _seen(predictor, data)
        self.dtype, self._table = in_storage_type("auto", self._extracted)

    def __len__(self) -> int:
        return len(self._table)

    def _extracted(self, dtype: str) -> tuple[str, NDArray[Any]]:
        card = self._predictor.card
        key = {"model": card.digest, "network": f"model {card.name}", "view": "image", "precision": self._predictor.precision}
        key |= {**self._predictor.how, "batch": str(self._engine.batch), "decoder": DECODER_VERSION}
        cache = FeatureCache(key, self._engine.width, dtype)
        total = sum(map(len, self.sets))
        table = scratch_array((total, self._engine.width), STORED[dtype])
        done = 0
        with stage("features of training images", total) as bar:
            for images in self.sets:
                for block in extract(images, np.arange(len(images)), card.preprocess, self._engine, [cache]):
                    table[done : done + len(block.rows)] = block.features[:, 0]
                    done += len(block.rows)
                    bar.advance(len(block.rows))
        return dtype, table

    def nearest(self, stored: NDArray[np.uint8], count: int = 5) -> list[Neighbour]:
        """The ``count`` nearest to an image (H, W, 3) uint8 of the stored size, nearest first; of equals the first in the data."""
        wanted = _directions(next(self._engine.run([stored[None]]))[0])[0]
        distances = np.empty(len(self), np.float32)
        for start in range(0, len(self), _TOGETHER):
            rows = _directions(from_stored(self._table[start : start + _TOGETHER], self.dtype))
            distances[start : start + len(rows)] = 1 - rows @ wanted
        return [self._at(int(row), float(distances[row])) for row in np.argsort(distances, kind="stable")[:count]]

    def _at(self, row: int, distance: float) -> Neighbour:
        for images in self.sets:
            if row < len(images):
                return Neighbour(str(images.ids[row]), images.classes[images.labels[row]], max(distance, 0.0), picture(images, row))
            row -= len(images)
        raise IndexError(row)


def _directions(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, D), each of length 1; features that are all 0 stay so."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(lengths, 1e-30), np.float32)


def _seen(predictor: Predictor, data: str | Path) -> list[ImageSet]:
    """The data's images that training, or a choice in it, has seen: a set a split."""
    if not predictor.card.knows_seen:
        raise UserError("Which images this model was trained on is not known, so none of them can be shown.", hint="--neighbours 0")
    source, seen = load_source(data, training=False), predictor.seen()
    kept = [images.take(images.among(seen)) for images in source.sets.values()]
    if not any(map(len, kept)):
        raise UserError(
            f"This model has seen no image of {source.name} in training.",
            expected="the data that it was trained from",
            received=f"{sum(map(len, source.sets.values())):,} images, none of them known to it",
            hint="--data with that data, or --neighbours 0",
        )
    return [images for images in kept if len(images)]


class _FirstView:
    """A saved model's features of images as they are, (b, D): what ``features.extract`` asks of an engine."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.batch = predictor, predictor.batch
        blank = np.zeros((1, *predictor.card.preprocess.stored, 3), np.uint8)
        self.width = int(next(self.run([blank]))[0].shape[1])

    def run(self, blocks: Iterable[NDArray[Any]]) -> Iterator[tuple[NDArray[Any], ...]]:
        for features in self.predictor.features(blocks):
            yield (np.ascontiguousarray(features[:, 0]),)
