"""Sets of labels that hold the truth with a stated probability: split conformal prediction.

A set is all classes whose probability is at least a threshold, which validation gives (Vovk, Gammerman and Shafer 2005,
"Algorithmic learning in a random world"; this score: Sadinle, Lei and Wasserman 2019, JASA 114:223). The promise is for the
average over images like those of validation, not for each class or image. A model's card keeps the thresholds of ``COVERAGES``
(``card_rows``), so that whoever predicts can ask for sets of one of them (``promise_of``). Legend: N images, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import UNKNOWN
from frostline.errors import UserError
from frostline.metrics import wilson_interval
from frostline.predictions import Predictions

#: Shares of images whose truth a set is promised to hold.
COVERAGES = (0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Promise:
    """Sets of a stated coverage.

    Attributes:
        coverage: the share of images like those of validation whose truth the sets hold, in the mean; in (0, 1).
        threshold: the probability from which a class is in the set, as validation gave it; 0: every class always is.
    """

    coverage: float
    threshold: float

    def __str__(self) -> str:
        """What is promised, in one sentence."""
        told = f"Label sets hold the true class of {percentage(self.coverage)} of images like those of validation, in the mean"
        few = "; there were too few of these to promise it with less than all classes" if self.threshold == 0 else ""
        return f"{told}{few}."


def percentage(coverage: float) -> str:
    """0.95 as "95 %"."""
    return f"{100 * coverage:g} %"


def fit_threshold(validation: Predictions, coverage: float) -> float:
    """The probability from which a class is in the set, such that sets hold the truth at least as often as ``coverage``.

    Of N validation images it is the ⌈(N + 1) · coverage⌉-th highest probability of a true class; 0, which puts every class into
    every set, where N is too small to promise more.

    Raises:
        UserError: a coverage outside (0, 1), or no image of a known class.
    """
    if not 0 < coverage < 1:
        raise UserError("A coverage lies between 0 and 1.", expected="for example 0.95", received=str(coverage))
    own = _of_the_truth(validation.probabilities, validation.labels)
    if not len(own):
        raise UserError("Label sets need validation images of known classes.", received="none")
    return _threshold(own, coverage)


def _of_the_truth(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The probability of the true class of each image that has a known one, highest first."""
    known = labels != UNKNOWN
    return np.sort(probabilities[known, labels[known]].astype(np.float64))[::-1]


def _threshold(own: NDArray[np.float64], coverage: float) -> float:
    place = math.ceil((len(own) + 1) * coverage - 1e-9)  # 0.9 · 10 is 9 and not a hair more
    return float(own[place - 1]) if place <= len(own) else 0.0


def card_rows(
    probabilities: NDArray[np.floating], labels: NDArray[np.int64], coverages: Sequence[float] = COVERAGES
) -> list[dict[str, Any]]:
    """What a model's card keeps: for each coverage the threshold that validation gives, and by how many images (n).

    Args:
        probabilities: (N, K) of validation images, as the model is served.
        labels: (N,) of these; rows of an unknown class have no part.
        coverages: to be promised.

    Returns:
        Rows of promised, threshold (never rising with what is promised) and n; none without an image of a known class.
    """
    own = _of_the_truth(probabilities, labels)
    return [{"promised": each, "threshold": _threshold(own, each), "n": len(own)} for each in coverages] if len(own) else []


def promise_of(thresholds: Mapping[float, float], coverage: float) -> Promise:
    """The promise of one of the coverages that a card keeps (coverage → threshold).

    Raises:
        UserError: it keeps none of this coverage, or none at all.
    """
    for known, threshold in thresholds.items():
        if math.isclose(known, coverage, rel_tol=0, abs_tol=1e-9):
            return Promise(known, threshold)
    if not thresholds:
        raise UserError(
            "This model's card keeps no thresholds for label sets.",
            expected="a model whose training has kept them, from its validation images",
            received="an older or an imported one",
            hint="train it again",
        )
    told = ", ".join(f"{each:g}" for each in sorted(thresholds))
    raise UserError("This model's card keeps no threshold for that coverage.", expected=f"one of {told}", received=f"{coverage:g}")


def label_sets(probabilities: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
    """(N, K) which classes are in each image's set; the most probable always is, so that no set is empty."""
    sets = probabilities >= threshold
    sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
    return sets


def named_sets(probabilities: NDArray[np.floating], classes: Sequence[str], threshold: float) -> list[tuple[str, ...]]:
    """The same by name, of each of (N, K) probabilities: likeliest first, of equals in the order of the classes."""
    held, order = label_sets(probabilities, threshold), np.argsort(-probabilities, axis=1, kind="stable")
    return [tuple(classes[k] for k in row if own[k]) for row, own in zip(order, held, strict=True)]


def judge_sets(predictions: Predictions, threshold: float) -> dict[str, Any]:
    """How often sets hold the truth and how large they are.

    Keys: threshold, covered (share) with its interval (95 %, Wilson), size (mean), single (share of sets of one), n. An unknown
    class is never held.
    """
    if len(predictions) == 0:
        raise UserError("There is nothing to score.", expected="at least one predicted image", received="none")
    sets = label_sets(predictions.probabilities, threshold)
    known = predictions.labels != UNKNOWN
    held = sets[np.arange(len(sets)), np.where(known, predictions.labels, 0)] & known
    sizes = sets.sum(axis=1)
    return {
        "threshold": threshold,
        "covered": float(held.mean()),
        "interval": list(wilson_interval(int(held.sum()), len(held))),
        "size": float(sizes.mean()),
        "single": float((sizes == 1).mean()),
        "n": len(predictions),
    }


def promised(validation: Predictions, test: Predictions, coverages: Sequence[float] = COVERAGES) -> list[dict[str, Any]]:
    """For each promised coverage the threshold that validation gives, and what its sets do on test (``judge_sets``)."""
    if not (validation.labels != UNKNOWN).any():
        return []
    return [{"promised": coverage, **judge_sets(test, fit_threshold(validation, coverage))} for coverage in coverages]
