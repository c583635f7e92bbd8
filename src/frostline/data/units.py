"""Images that must stay together: copies of each other, images of one group, and whatever is connected through these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import ImageSet


@dataclass(frozen=True)
class Units:
    """What a cut may not divide: the rows of one content and, where there are groups, everything connected through them.

    Attributes:
        rows: the row numbers of each unit.
        counts: for each unit, its number of images of each label that it holds.
    """

    rows: list[NDArray[np.int64]]
    counts: list[dict[int, int]]


def unit_numbers(images: ImageSet) -> NDArray[np.int64]:
    """(N,) the same number where images must stay together: copies of each other, and images of one group."""
    unit = _copies(images.digests, images.otherwise)
    if images.groups is not None:
        unit = _connected(unit, np.unique(images.groups, return_inverse=True)[1])
    return np.asarray(unit, np.int64)


def _copies(digests: NDArray[np.bytes_], otherwise: NDArray[np.bytes_] | None) -> NDArray[np.int64]:
    """(N,) the same number where images are copies of each other; also of the same pixels in files of other bytes."""
    _, unit = np.unique(digests, return_inverse=True)
    if otherwise is not None:
        found, other = np.unique(otherwise, return_inverse=True)
        unit = _connected(unit, other) if len(found) < len(digests) else unit
    return np.asarray(unit, np.int64)


def with_common_digests(sets: Sequence[ImageSet]) -> list[ImageSet]:
    """The sets with digests that all copies share, within a set and across them; there is no other way to take them then."""
    digests = np.concatenate([images.digests for images in sets])
    others = [images.digests if images.otherwise is None else images.otherwise for images in sets]
    known = any(images.otherwise is not None for images in sets)
    copies = _copies(digests, np.concatenate(others) if known else None)
    _, first, number = np.unique(copies, return_index=True, return_inverse=True)
    parts = np.split(digests[first][number], np.cumsum([len(images) for images in sets])[:-1])
    return [replace(images, digests=part, otherwise=None) for images, part in zip(sets, parts, strict=True)]


def units_of(images: ImageSet) -> Units:
    """The units of a set, in no particular order."""
    unit = unit_numbers(images)
    order = np.argsort(unit, kind="stable")
    starts = np.flatnonzero(np.diff(unit[order])) + 1
    rows = np.split(order, starts)
    return Units(rows, [dict(Counter(images.labels[part].tolist())) for part in rows])


def _connected(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of each row's component, where rows are connected that are equal in ``first`` or in ``second``."""
    parent = list(range(int(first.max()) + int(second.max()) + 2))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    shift = int(first.max()) + 1
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        parent[root(a)] = root(b + shift)
    return np.array([root(a) for a in first.tolist()], dtype=np.int64)
