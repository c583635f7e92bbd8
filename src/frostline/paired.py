"""Two models on the same images: is their difference more than chance? Legend: N images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.errors import UserError
from frostline.metrics import Z95
from frostline.predictions import Predictions


def paired(name_a: str, a: Predictions, name_b: str, b: Predictions) -> dict[str, Any]:
    """Two models on the same images.

    Returns:
        a, b (names), n, only_a and only_b (images that only this one got right), p (exact McNemar test), difference (accuracy of a
        less that of b; null without images) and its interval (95 %).

    Raises:
        UserError: they were not judged on the same images with the same truth.
    """
    a, b = ordered(a), ordered(b)
    if reason := difference_of_rows(a, b):
        hint = "judge both with 'frostline evaluate' on the same data and split"
        raise UserError(f"{name_a} and {name_b} cannot be compared: {reason}.", expected="the same images and truth", hint=hint)
    only_a, only_b = int((a.correct & ~b.correct).sum()), int((b.correct & ~a.correct).sum())
    row = {"a": name_a, "b": name_b, "n": len(a), "only_a": only_a, "only_b": only_b, "p": mcnemar(only_a, only_b)}
    interval = list(paired_interval(only_a, only_b, len(a)))
    return row | {"difference": (only_a - only_b) / len(a) if len(a) else None, "interval": interval}


def ordered(p: Predictions) -> Predictions:
    """The same predictions in order of their ids."""
    order = np.argsort(p.ids)
    return Predictions(p.ids[order], p.labels[order], p.probabilities[order], p.classes, p.digests[order])


def difference_of_rows(a: Predictions, b: Predictions) -> str:
    """Why rows in order of their ids are not the same images with the same truth; empty when they are."""
    if len(a) != len(b):
        return f"one has {len(a)} rows, the other {len(b)}"
    if (other := a.ids != b.ids).any():
        return f"they hold different rows, such as {a.ids[other][0]} and {b.ids[other][0]}"
    if (other := a.digests != b.digests).any():
        return f"{other.sum()} images differ in content, such as {a.ids[other][0]}"
    if (other := _truth(a) != _truth(b)).any():
        return f"{other.sum()} images have another true class, such as {a.ids[other][0]}"
    return ""


def _truth(p: Predictions) -> NDArray[np.str_]:
    """(N,) names of true classes, as two models may order them differently; empty for an unknown one, the array's last."""
    return np.array([*p.classes, ""])[p.labels]


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p of the exact test that both are right equally often (McNemar 1947, Psychometrika 12:153; exact binomial).

    Among the images that exactly one got right, each is equally likely to be that one; the others tell nothing. Assumes
    independent images. Computed in whole numbers, without rounding.
    """
    n, few = only_a + only_b, min(only_a, only_b)
    term = total = 1
    for i in range(1, few + 1):
        term = term * (n - i + 1) // i
        total += term
    p: float = 2 * total / 2**n
    return min(1.0, p)


def paired_interval(only_a: int, only_b: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Interval of the difference of two accuracies on the same ``n`` images.

    After Bonett and Price 2012 (Br. J. Math. Stat. Psychol. 65:479): Wald's interval with one image more that only a got right,
    and one that only b did. Assumes independent images. It and the exact test may disagree about zero where p is near 0.05.
    """
    a, b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = z * math.sqrt((a + b - (a - b) ** 2) / (n + 2))
    return max(-1.0, a - b - half), min(1.0, a - b + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for their number, in the given order (Holm 1979, Scand. J. Stat. 6:65).

    Calling differences those below alpha, one or more of them is wrong with probability alpha at most.
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected
