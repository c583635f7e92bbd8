"""What an image's nearest neighbours by features say: whether it is nearly another one, and whether it is unlike all others.

Legend: N images, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frostline.auditing.duplicates import Pair, same_edges
from frostline.feature_neighbours import Directions, nearest
from frostline.progress import stage

Floats = NDArray[np.float32]

#: Neighbours that are looked at; of them so many, the nearest, say how far an image is from all others.
NEIGHBOURS, NEAREST = 20, 5
#: Cosine of features and correlation of edges from which two images are nearly the same. Edges may agree less than where there are
#: only pixels to go by; thresholds were set on pairs looked at side by side (docs/log.md).
ALIKE, EDGES = 0.85, 0.5
#: Fewer images than this are too few to say anything.
ENOUGH = 50
_PAIRS = 4096


@dataclass(frozen=True)
class Neighbours:
    """The nearest others of every image.

    Attributes:
        features: (N, D), each column centred and divided by its deviation when it is compared.
        directions: says how.
        rows: (N, k) the nearest others, the nearest first; k is 0 for too few images.
        cosines: (N, k) of the directions in which features vary most.
    """

    features: Floats
    directions: Directions
    rows: NDArray[np.int64]
    cosines: Floats

    def far(self) -> Floats:
        """(N,) how far each image is from its nearest others, in typical deviations above the middle of all; 0 for too few images.

        The mean distance, 1 − cosine, to the nearest few (Kuan and Mueller 2022, "Back to the Basics", rank by such a mean too).
        """
        if not self.rows.shape[1]:
            return np.zeros(len(self.rows), np.float32)
        distance = 1 - self.cosines[:, :NEAREST].mean(axis=1)
        middle = np.median(distance)
        typical = 1.4826 * float(np.median(np.abs(distance - middle)))  # of a normal distribution the deviation
        return np.asarray((distance - middle) / max(typical, 1e-6), np.float32)

    def pairs(self, looked: NDArray[np.uint8]) -> list[Pair]:
        """Pairs of images that are nearly the same: features alike, and edges too, in (N, 32, 32, 3) uint8, mirrored or not."""
        here = np.repeat(np.arange(len(self.rows)), self.rows.shape[1])
        there, alike = self.rows.ravel(), self.cosines.ravel() >= ALIKE
        both = np.stack([np.minimum(here, there), np.maximum(here, there)], axis=1)[alike]
        both = np.unique(both, axis=0)
        found: list[Pair] = []
        for start in range(0, len(both), _PAIRS):
            a, b = both[start : start + _PAIRS].T
            same = (self._unit(a) * self._unit(b)).sum(axis=1) >= ALIKE
            found += _checked(looked, a[same], b[same])
        return found

    def _unit(self, rows: NDArray[np.int64]) -> Floats:
        centred = (self.features[rows] - self.directions.mean) / self.directions.scales
        return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6), np.float32)


def neighbours(features: Floats) -> Neighbours:
    """The nearest others of each of N images by their features (N, D)."""
    n = len(features)
    directions = Directions.of(features)
    if n < ENOUGH:
        return Neighbours(features, directions, np.zeros((n, 0), np.int64), np.zeros((n, 0), np.float32))
    with stage("nearest neighbours"):
        points = directions(features)
        found, cosines = nearest(points, points, NEIGHBOURS + 1)
    own = found == np.arange(n)[:, None]
    own[~own.any(axis=1), -1] = True  # it has more copies than are looked at
    return Neighbours(features, directions, found[~own].reshape(n, -1), cosines[~own].reshape(n, -1))


def _checked(looked: NDArray[np.uint8], a: NDArray[np.int64], b: NDArray[np.int64]) -> list[Pair]:
    plain, mirrored = (same_edges(shown, looked[b]) for shown in (looked[a], looked[a][:, :, ::-1]))
    likeness = np.maximum(plain, mirrored)
    return [
        Pair(int(a[i]), int(b[i]), bool(mirrored[i] > plain[i]), round(float(likeness[i]), 4))
        for i in np.flatnonzero(likeness >= EDGES)
    ]
