"""An answer at any time: extraction in an order that makes every prefix a fair sample, and a closed-form head that grows with it.

Validation images come first, then training images in a stratified random order; each block of features joins the running
normal equations, so that a classifier exists from the first seconds and its validation accuracy is a learning curve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import ImageSet, Splits
from frostline.feature_cache import STORED, from_stored
from frostline.features import FeatureBlock, compressed
from frostline.files import scratch_array
from frostline.linear import Linear, Moments, judge
from frostline.metrics import wilson_interval
from frostline.progress import Stage, stage
from frostline.stopping import StopRule

#: Validation images seen before the first training image: enough to judge within two points.
FIRST = 2000
#: Between two points of the learning curve the images grow by this factor; by the smaller one near an accuracy waited for.
GROWTH, CLOSELY = 1.25, 1.04
#: Near is within this of it.
NEAR = 0.03
#: Rows of an order among which every class is to be, if a class has to be there at all: those of a first block.
EARLY = 512

Rows = NDArray[np.int64]
Extract = Callable[[ImageSet, Rows], Iterator[FeatureBlock]]


def stratified_order(labels: NDArray[np.int64], seed: int) -> Rows:
    """(N,) a random order of rows in which every prefix has nearly the whole's class shares.

    Where a class is so small that its first row would come late, the first rows of all classes come first, so that work which is
    cut short has seen them all.
    """
    rng = np.random.default_rng([seed, len(labels)])
    position = np.empty(len(labels))
    first = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        position[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
        first.append(rows[0])
    order = np.argsort(position, kind="stable")
    if len(order) and np.isin(first, order[:EARLY]).all():
        return order
    position[first] -= 1
    return np.argsort(position, kind="stable")


class Unseen:
    """The classes of some rows of which nothing has been seen yet: until then work is not cut short."""

    def __init__(self, labels: NDArray[np.int64]) -> None:
        self._labels, self._left = labels, set(np.unique(labels).tolist())

    def see(self, rows: NDArray[np.integer]) -> bool:
        """Take up rows; whether a class is still left."""
        if self._left:
            self._left -= set(self._labels[rows].tolist())
        return bool(self._left)


class FeatureTable:
    """Features of the rows seen so far: (n, V, D) in the storage type, in the order in which they came."""

    def __init__(self, capacity: int, views: int, width: int, dtype: str) -> None:
        self.dtype, self.count = dtype, 0
        self.rows = np.empty(capacity, np.int64)
        self._features = scratch_array((capacity, views, width), STORED[dtype])

    def add(self, block: FeatureBlock) -> None:
        """Append a block: the first of the table's views, or all of them."""
        end = self.count + len(block.rows)
        self.rows[self.count : end] = block.rows
        self._features[self.count : end, : block.features.shape[1]] = block.features
        self.count = end

    def fill(self, place: int, first: int, block: FeatureBlock) -> None:
        """Views from number ``first`` on of rows that were added before, those at ``place`` and after it."""
        self._features[place : place + len(block.rows), first:] = block.features

    @property
    def seen(self) -> Rows:
        """(n,) row numbers, in the order of ``features``."""
        return self.rows[: self.count]

    @property
    def features(self) -> NDArray[Any]:
        """(n, V, D) in the storage type."""
        return self._features[: self.count]

    def compressed(self, power: float, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """(n, V, D) float32 as ``features.compressed`` has it; into ``out`` where given."""
        if out is None:
            out = np.empty(self.features.shape, np.float32)
        for start in range(0, self.count, 4096):
            out[start : start + 4096] = compressed(self.features[start : start + 4096], self.dtype, power)
        return out

    def averaged(self, power: float, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """(n, D) float32, the mean of ``compressed`` over the views; into ``out`` where given."""
        if out is None:
            out = np.empty((self.count, self.features.shape[2]), np.float32)
        for start in range(0, self.count, 4096):
            out[start : start + 4096] = compressed(self.features[start : start + 4096], self.dtype, power).mean(axis=1)
        return out


@dataclass
class Extracted:
    """What extraction leaves: tables of training and validation rows, and the learning curve.

    Attributes:
        moments: of the training rows' features, compressed by ``power``; every view is a row of its own.
        power: see ``features.compressed``; 1 where a feature can be negative.
    """

    train: FeatureTable
    validation: FeatureTable
    moments: Moments
    power: float = 1.0
    curve: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""


def extract_splits(
    splits: Splits,
    extract: Extract,
    tables: Callable[[int], FeatureTable],
    width: int,
    seed: int,
    stop: StopRule,
    on_point: Callable[[dict[str, Any]], None],
    power: float = 1.0,
) -> Extracted:
    """Features of validation and training images, until all are seen or ``stop`` says enough.

    Args:
        splits: where the rows come from; test is not touched.
        extract: features of some rows of a set, in blocks.
        tables: makes an empty table for so many rows.
        width: D.
        seed: of the order.
        stop: asked after every block with the newest validation accuracy.
        on_point: called with each new point of the learning curve.
        power: of features that are never negative; others stay as they are.
    """
    train, validation = splits.train, splits.validation
    found = Extracted(tables(len(train)), tables(len(validation)), Moments(width, len(splits.classes)), power=power)
    judges = stratified_order(validation.labels, seed)
    with stage("features", len(train) + len(validation)) as bar:
        for block in extract(validation, judges[:FIRST]):
            found.validation.add(block)
            if (from_stored(block.features, found.validation.dtype) < 0).any():
                found.power = 1.0
            bar.advance(len(block.rows))
            if stop.check() and "Ctrl-C" in stop.reason:
                break
        _extract_train(train, validation.labels, extract, found, seed, stop, on_point, bar)
        if not found.reason:
            for block in extract(validation, judges[FIRST:]):
                found.validation.add(block)
                bar.advance(len(block.rows))
    return found


def _extract_train(
    train: ImageSet,
    judged: NDArray[np.int64],
    extract: Extract,
    found: Extracted,
    seed: int,
    stop: StopRule,
    on_point: Callable[[dict[str, Any]], None],
    bar: Stage,
) -> None:
    curve, unseen = _Curve(found, judged[found.validation.seen], stop), Unseen(train.labels)
    for block in extract(train, stratified_order(train.labels, seed)):
        found.train.add(block)
        rows = compressed(block.features, found.train.dtype, found.power)
        found.moments.add(rows.reshape(-1, rows.shape[2]), np.repeat(train.labels[block.rows], rows.shape[1]))
        bar.advance(len(block.rows))
        last, few = found.train.count == len(train), unseen.see(block.rows)
        accuracy = None
        if last or curve.due():
            point = curve.add()
            accuracy = point["validation_accuracy"]
            bar.note(_said(point))
            on_point(point)
        if stop.check(accuracy) and not last and not few:
            found.reason = stop.reason
            break


class _Curve:
    """Points of the learning curve: ridge on what was seen, judged on the first validation images."""

    def __init__(self, found: Extracted, labels: NDArray[np.int64], stop: StopRule) -> None:
        self.found, self.labels, self.stop = found, labels, stop
        self.features = found.validation.averaged(found.power)
        self.l2, self.searched = 0.01, 0

    def due(self) -> bool:
        """Whether enough has come in since the last point: a point costs as much as the features of a few images."""
        if not self.found.curve:
            return True
        last = self.found.curve[-1]
        near = self.stop.stop_at is not None and last["validation_accuracy"] >= self.stop.stop_at - NEAR
        return self.found.train.count >= last["images"] * (CLOSELY if near else GROWTH)

    def add(self) -> dict[str, Any]:
        candidates = [self.l2]
        if self.found.train.count >= 2 * self.searched:  # more images ask for less regularisation: look again at every doubling
            # a tie changes nothing: it would else drift to one side
            candidates, self.searched = [self.l2, self.l2 * 4, self.l2 / 4], self.found.train.count
        judged = [(*judge(self.head(l2), self.features, self.labels), l2) for l2 in candidates]
        accuracy, _, self.l2 = max(judged, key=lambda item: item[0])
        low, high = wilson_interval(round(accuracy * len(self.labels)), len(self.labels))
        point = {
            "images": self.found.train.count,
            "seconds": round(self.stop.elapsed(), 3),
            "validation_accuracy": accuracy,
            "interval": [low, high],
            "validation_images": len(self.labels),
            "l2": self.l2,
        }
        self.found.curve.append(point)
        return point

    def head(self, l2: float) -> Linear:
        return self.found.moments.ridge(l2)


def _said(point: dict[str, Any]) -> str:
    low, high = point["interval"]
    return f"validation {point['validation_accuracy']:.1%} ({low:.1%} to {high:.1%}) after {point['images']:,} images"


def more_images(curve: list[dict[str, Any]]) -> str:
    """One sentence: would more images help? From the last doubling of the learning curve."""
    if len(curve) < 2 or curve[-1]["images"] < 2 * curve[0]["images"]:
        return "Too few points to say whether more images would help."
    last = curve[-1]
    half = min(curve[:-1], key=lambda point: abs(point["images"] - last["images"] / 2))
    gain = 100 * (last["validation_accuracy"] - half["validation_accuracy"])
    # the two are judged on the same images, so their difference varies less than either; half the interval is a fair bar
    noise = 50 * (last["interval"][1] - last["interval"][0]) / 2
    verdict = "more images would probably help" if gain > noise else "more images alone would change little"
    return f"From {half['images']:,} to {last['images']:,} images validation accuracy rose by {gain:.1f} points: {verdict}."
