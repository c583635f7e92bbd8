"""The first look for near duplicates: every image against every other as a thumbnail, brightness and contrast taken out.

One large matrix product. Where most images are alike at this size (X-rays, frames of one film, products on white), nearly every
pair passes: then only the most alike of each image do. Legend: N images, M pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

#: Side in pixels of the images that are compared, and of their thumbnails.
SIDE, THUMBNAIL = 32, 8
#: Correlation of thumbnails from which a pair is looked at again.
ALIKE = 0.95
#: Deviation of a thumbnail's values, of 255, below which an image shows too little to be told from others.
FLAT = 4.0
#: Pairs that are all looked at again: CIFAR-10 has about 3,000. Of more, each image's most alike are, at least so many of a kind.
LOOKS, LEAST = 200_000, 4
#: Images that are compared with all others at once.
_BLOCK = 2000
_LOWEST = np.nextafter(np.float32(ALIKE), np.float32(0))  # what is above it is at least ALIKE
_PAIR = np.dtype([("first", "i8"), ("second", "i8"), ("alike", "f4"), ("across", "?"), ("mirrored", "?")])


@dataclass(frozen=True)
class Candidates:
    """Pairs whose thumbnails are alike.

    Attributes:
        first, second: (M,) rows, ``first`` < ``second``.
        mirrored: (M,) whether the second one is like the first one's mirror image.
        each: None where all such pairs are here. Else each image is here with so many of its split, the most alike, and as many of
            other splits.
    """

    first: Rows
    second: Rows
    mirrored: NDArray[np.bool_]
    each: int | None

    def __len__(self) -> int:
        return len(self.first)


def deviation(images: NDArray[np.uint8]) -> Floats:
    """(N,) of the thumbnails' values: below ``FLAT`` an image shows too little."""
    parts = [_thumbnails(np.asarray(images[i : i + _BLOCK])).std(axis=1) for i in range(0, len(images), _BLOCK)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def candidates(images: NDArray[np.uint8], rows: Rows, splits: Rows, done: Callable[[int], Any]) -> Candidates:
    """The pairs whose thumbnails are alike, mirrored or not.

    Args:
        images: (N, 32, 32, 3) uint8 RGB.
        rows: those that are compared.
        splits: (N,) numbers of splits. Where candidates are too many, those across splits are kept beside those within.
        done: told of rows as they have been compared with all others.

    The work grows with N², memory and what is left do not: at most ``LOOKS`` pairs, or four times N times what an image keeps.
    """
    chunks = [chunk for split in np.unique(splits[rows]) for chunk in _blocks(rows[splits[rows] == split])]
    plain = [_directions(_thumbnails(images[chunk])) for chunk in chunks]
    kept = _Kept(splits)
    for number, chunk in enumerate(chunks):
        mirrored = _directions(_thumbnails(np.ascontiguousarray(images[chunk][:, :, ::-1])))
        for flipped, own in ((False, plain[number]), (True, mirrored)):
            for other in range(number, len(chunks)):
                kept.add(own @ plain[other].T, chunk, chunks[other], flipped)
        done(len(chunk))
    return kept.all()


def _blocks(rows: Rows) -> list[Rows]:
    return [rows[i : i + _BLOCK] for i in range(0, len(rows), _BLOCK)]


def _thumbnails(images: NDArray[np.uint8]) -> Floats:
    """(n, 192): each image as 8×8 pixels, as it was."""
    step = SIDE // THUMBNAIL
    blocks = images.reshape(len(images), THUMBNAIL, step, THUMBNAIL, step, 3)
    return blocks.mean(axis=(2, 4), dtype=np.float32).reshape(len(images), -1)


def _directions(values: Floats) -> Floats:
    """Rows with mean 0 and length 1: their products are correlations."""
    centred = values - values.mean(axis=1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)


class _Kept:
    """The candidates so far: all while they are few, then of each image the most alike within its split, and as many across."""

    def __init__(self, splits: Rows) -> None:
        self._splits, self._each = splits, max(LEAST, LOOKS // max(len(splits), 1))
        self._bars = np.full((2, len(splits)), _LOWEST, np.float32)  # within and across: above it a pair is among an image's best
        self._parts = [np.zeros(0, _PAIR)]
        self._count, self._room, self._limited = 0, LOOKS, False

    def add(self, alike: Floats, here: Rows, there: Rows, mirrored: bool) -> None:
        """Take from (n, m) correlations what is wanted; ``here`` and ``there`` are of one split each."""
        across = bool(self._splits[here[0]] != self._splits[there[0]])
        bars = self._bars[int(across)]
        near = alike > (np.minimum(bars[here][:, None], bars[there]) if self._limited else _LOWEST)
        if here is there:
            near = np.triu(near, 1)
        if self._count + np.count_nonzero(near) > self._room:
            self._limited = True
            near &= _largest(np.where(near, alike, -1), self._each)
        i, j = np.nonzero(near)
        found = np.empty(len(i), _PAIR)
        found["first"], found["second"] = np.minimum(here[i], there[j]), np.maximum(here[i], there[j])
        found["alike"], found["across"], found["mirrored"] = alike[i, j], across, mirrored
        self._parts.append(found)
        self._count += len(found)
        if self._count > self._room:
            self._prune()

    def _prune(self) -> None:
        """Keep what is among the best of either image, and raise the bars of those that have enough."""
        found = np.concatenate(self._parts)
        rows = np.concatenate([found["first"], found["second"]])
        alike, across = np.tile(found["alike"], 2), np.tile(found["across"], 2)
        group = 2 * rows + across
        order = np.lexsort((-alike, group))
        rank = np.arange(len(order)) - np.searchsorted(group[order], group[order])
        kept = np.zeros(len(found), bool)
        kept[order[rank < self._each] % len(found)] = True
        last = order[rank == self._each - 1]
        self._bars[across[last].astype(np.int64), rows[last]] = alike[last]
        self._parts = [found[kept]]
        self._count = int(kept.sum())
        self._room = max(LOOKS, 2 * self._count)

    def all(self) -> Candidates:
        """What is left."""
        if self._limited:
            self._prune()
        found = np.concatenate(self._parts)
        return Candidates(found["first"], found["second"], found["mirrored"], self._each if self._limited else None)


def _largest(values: Floats, k: int) -> NDArray[np.bool_]:
    """Which of (n, m) values are among the k largest of their row or of their column, equal ones not all."""
    kept = np.zeros(values.shape, bool)
    for axis in (0, 1):
        most = min(k, values.shape[axis])
        top = np.argpartition(values, -most, axis=axis).take(range(-most, 0), axis=axis)
        np.put_along_axis(kept, top, True, axis)
    return kept
