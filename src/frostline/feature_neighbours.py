"""Nearest neighbours by features: exact, as large matrix products in a few directions. Legend: N rows, D features, W directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.linear import CHUNK, Moments

Floats = NDArray[np.float32]

#: Directions that are kept, and rows that they are found from.
WIDTH, DRAWN = 128, 10_000
#: Rows that are compared with all others at once, and columns of which the largest is found first.
_BLOCK, _GROUP = 1000, 64
#: Likenesses that are held at once.
_AT_ONCE = 2**26


@dataclass(frozen=True)
class Directions:
    """Features as directions of length 1: centred, divided by their deviations, in the coordinates in which they vary most.

    Attributes:
        mean: (D,).
        scales: (D,) deviations.
        turn: (D, W), scaling and principal components (Jolliffe 2002, section 2.3) in one.
    """

    mean: Floats
    scales: Floats
    turn: Floats

    @classmethod
    def of(cls, features: Floats, width: int = WIDTH) -> Directions:
        """Those of features (N, D), from at most ``DRAWN`` rows."""
        drawn = np.sort(np.random.default_rng(len(features)).permutation(len(features))[:DRAWN])
        moments = Moments(features.shape[1], 1)
        for start in range(0, len(drawn), CHUNK):
            moments.add(features[drawn[start : start + CHUNK]], np.zeros(len(drawn[start : start + CHUNK]), np.int64))
        scales = moments.scales()
        _, axes = np.linalg.eigh(moments.covariance() / np.outer(scales, scales))
        turn = axes[:, -width:] / scales[:, None]
        return cls(moments.mean.astype(np.float32), scales.astype(np.float32), turn.astype(np.float32))

    def __call__(self, features: Floats) -> Floats:
        """(N, D) to (N, W)."""
        parts = [(features[i : i + CHUNK] - self.mean) @ self.turn for i in range(0, len(features), CHUNK)]
        turned = np.concatenate(parts) if parts else np.zeros((0, self.turn.shape[1]), np.float32)
        return np.asarray(turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-6), np.float32)


def nearest(queries: Floats, others: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
    """The k of ``others`` that point most the way that each query does.

    Args:
        queries: (N, W) of length 1.
        others: (M, W) of length 1.
        k: neighbours, at most M.

    Returns:
        (N, k) their rows and (N, k) cosines, the nearest first.
    """
    rows, cosines = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    block = max(1, min(_BLOCK, _AT_ONCE // max(1, len(others))))
    for start in range(0, len(queries), block):
        alike = queries[start : start + block] @ others.T
        at, column = np.nonzero(alike >= _least(alike, k)[:, None])
        values = alike[at, column]
        order = np.lexsort((column, -values, at))
        first = np.searchsorted(at[order], np.arange(len(alike)))
        taken = order[first[:, None] + np.arange(k)]
        rows[start : start + block], cosines[start : start + block] = column[taken], values[taken]
    return rows, cosines


def _least(alike: Floats, k: int) -> Any:
    """(n,) values that at least k of each row reach: the k-th of the largest of groups is found far sooner than that of all."""
    groups = alike.shape[1] // _GROUP
    if groups >= 4 * k:
        alike = alike[:, : groups * _GROUP].reshape(len(alike), groups, _GROUP).max(axis=2)
    return np.partition(alike, -k, axis=1)[:, -k]
