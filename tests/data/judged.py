"""Predictions for the tests of what is computed from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from frostline.predictions import Predictions


def predictions(labels: Sequence[int] | np.ndarray, probabilities: np.ndarray) -> Predictions:
    n, k = probabilities.shape
    ids, digests = np.array([f"row/{i}" for i in range(n)]), np.array([b"%d" % i for i in range(n)], dtype="S16")
    return Predictions(ids.astype(np.str_), np.asarray(labels, np.int64), probabilities, tuple("abcdefghijklmnop"[:k]), digests)
