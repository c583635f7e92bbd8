"""What computes a saved model, in whatever engine: stored images to features, features to probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Runner:
    """A model in two parts.

    Attributes:
        body: with ``run``, from blocks (n, h, w, 3) uint8 of the stored size to ((n, V, D) features,), and ``batch``.
        head: with ``features``, from (n, V, D) features to (n, K) probabilities.
        how: what the numbers depend on beside the model: engine, precision of computing, batch.
    """

    body: Any
    head: Any
    how: Mapping[str, Any]

    def answers(self, blocks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """The (n, K) probabilities of each block of at most ``body.batch`` images, in order."""
        for features in self.features(blocks):
            yield self.head.features(features)

    def features(self, blocks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """The (n, V, D) features of each block, in order."""
        for (features,) in self.body.run(blocks):
            yield features

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, h, w, 3) uint8 of the stored size to (N, K)."""
        size = self.body.batch
        return np.concatenate(list(self.answers(images[i : i + size] for i in range(0, len(images), size))))
