"""A model that may say "not sure": how right its answers are when it answers only where it is sure enough.

An image is answered where the highest probability is at least a threshold; *coverage* is the share answered. After El-Yaniv and
Wiener 2010 (JMLR 11:1605) and Geifman and El-Yaniv 2017 (arXiv 1705.08500). Images of an unknown class are wrong wherever they are
answered. Choose a threshold on validation, and judge it on images that had no part in it. Legend: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.errors import UserError
from frostline.metrics import wilson_interval
from frostline.predictions import Predictions

#: Accuracies that people ask for.
WANTED = (0.9, 0.95, 0.98, 0.99, 0.995)

#: How often answers that a model calls sure must be right on validation, and how many of them there must be.
SURE, LEAST_SURE = 0.99, 100
#: The threshold of a model that is never sure.
NEVER = 1.0


@dataclass(frozen=True)
class Coverage:
    """Accuracy against coverage, a point for every confidence that occurs, from the surest images to all of them.

    Attributes:
        thresholds: (M,) falling: what is answered is at least as sure.
        answered: (M,) images answered.
        hits: (M,) of them rightly.
        n: images in all.
    """

    thresholds: NDArray[np.float64]
    answered: NDArray[np.int64]
    hits: NDArray[np.int64]
    n: int

    @property
    def coverage(self) -> NDArray[np.float64]:
        """(M,) rising, in (0, 1]."""
        return self.answered / self.n

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """(M,) of what is answered."""
        return self.hits / self.answered


def coverage_curve(predictions: Predictions) -> Coverage:
    """Accuracy against coverage of predictions.

    Raises:
        UserError: there are no rows.
    """
    if len(predictions) == 0:
        raise UserError("There is nothing to score.", expected="at least one predicted image", received="none")
    sure, correct = predictions.probabilities.max(axis=1).astype(np.float64), predictions.correct
    return _curve(sure, correct)


def _curve(sure: NDArray[np.float64], correct: NDArray[np.bool_]) -> Coverage:
    thresholds, places = np.unique(-sure, return_inverse=True)
    answered, hits = np.bincount(places), np.bincount(places, weights=correct).astype(np.int64)
    return Coverage(-thresholds, np.cumsum(answered), np.cumsum(hits), len(sure))


def threshold_for(curve: Coverage, accuracy: float) -> dict[str, Any] | None:
    """The lowest threshold at which answers are right at least as often as wanted; None where no threshold has that.

    Returns:
        threshold, coverage, accuracy, interval (95 %, Wilson, of the accuracy), answered and n, all on the rows of the curve: the
        threshold was chosen on them, so on others expect a little less.
    """
    enough = np.flatnonzero(curve.accuracy >= accuracy)
    return at_threshold(curve, float(curve.thresholds[enough[-1]])) if len(enough) else None


def sure_from(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.int64], accuracy: float = SURE) -> float | None:
    """The least highest probability (of (N, K) on validation) from which on answers are right as often as wanted.

    0 where all of them are; None where no threshold has that, or there are no rows.
    """
    if not len(labels):
        return None
    told, right = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels
    if right.mean() >= accuracy:
        return 0.0
    found = threshold_for(_curve(told, right), accuracy)
    return None if found is None else float(found["threshold"])


def stated_threshold(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> float | None:
    """What a model's card states as ``sure_from``: that for ``SURE`` on validation, (N, K) and (N,).

    At least the lowest probability that occurred. ``NEVER`` where no threshold has that, or only one that fewer than ``LEAST_SURE``
    images reach; None where there are not as many images: ten right answers of ten say little of the eleventh.
    """
    if len(labels) < LEAST_SURE:
        return None
    found, told = sure_from(probabilities, labels), probabilities.max(axis=1).astype(np.float64)
    if found is None or (told >= found).sum() < LEAST_SURE:
        return NEVER
    return max(found, float(told.min()))  # of an answer less certain than any that was checked nothing is known


def chosen_threshold(validation: Predictions, wanted: float) -> float | None:
    """The threshold that validation gives for a wanted accuracy, as ``sure_from`` has it.

    Raises:
        UserError: an accuracy outside (0, 1].
    """
    if not 0 < wanted <= 1:
        raise UserError("A wanted accuracy lies between 0 and 1.", expected="for example 0.97", received=f"{wanted:g}")
    return sure_from(validation.probabilities, validation.labels, wanted)


def judge_threshold(judged: Predictions, wanted: float, threshold: float | None) -> dict[str, Any]:
    """What a threshold that was chosen on validation does on other images: wanted, and the keys of ``at_threshold``.

    Without a threshold (None: validation has none for this accuracy) all but wanted and n is null.
    """
    row = at_threshold(coverage_curve(judged), 1.0 if threshold is None else threshold)
    return {"wanted": wanted, **(row if threshold is not None else {**dict.fromkeys(row), "n": row["n"]})}


def at_threshold(curve: Coverage, threshold: float) -> dict[str, Any]:
    """What a threshold gives: keys as in ``threshold_for``; accuracy and interval are null where nothing is answered."""
    place = int((curve.thresholds >= threshold).sum()) - 1
    answered, hits = (int(curve.answered[place]), int(curve.hits[place])) if place >= 0 else (0, 0)
    return {
        "threshold": threshold,
        "coverage": answered / curve.n,
        "accuracy": hits / answered if answered else None,
        "interval": list(wilson_interval(hits, answered)) if answered else None,
        "answered": answered,
        "n": curve.n,
    }


def thresholds(validation: Predictions, test: Predictions, wanted: Sequence[float] = WANTED) -> list[dict[str, Any]]:
    """For each wanted accuracy the threshold that validation gives, and what it does on test (``at_threshold``).

    Accuracies that the model has without abstaining are left out, as are those that no threshold gives on validation.
    """
    curve, judged = coverage_curve(validation), coverage_curve(test)
    found = [(accuracy, threshold_for(curve, accuracy)) for accuracy in wanted if accuracy > curve.accuracy[-1]]
    return [{"wanted": accuracy, **at_threshold(judged, row["threshold"])} for accuracy, row in found if row is not None]
