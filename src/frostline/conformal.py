"""Sets of labels that hold the truth with a stated probability: split conformal prediction.

A set is all classes whose probability is at least a threshold, which validation gives (Vovk, Gammerman and Shafer 2005,
"Algorithmic learning in a random world"; this score: Sadinle, Lei and Wasserman 2019, JASA 114:223). The promise is for the
average over images like those of validation, not for each class or image. Legend: N images, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import UNKNOWN
from frostline.errors import UserError
from frostline.predictions import Predictions

#: Shares of images whose truth a set is promised to hold.
COVERAGES = (0.9, 0.95, 0.99)


def fit_threshold(validation: Predictions, coverage: float) -> float:
    """The probability from which a class is in the set, such that sets hold the truth at least as often as ``coverage``.

    Of N validation images it is the ⌈(N + 1) · coverage⌉-th highest probability of a true class; 0, which puts every class into
    every set, where N is too small to promise more.

    Raises:
        UserError: a coverage outside (0, 1), or no image of a known class.
    """
    if not 0 < coverage < 1:
        raise UserError("A coverage lies between 0 and 1.", expected="for example 0.95", received=str(coverage))
    known = validation.labels != UNKNOWN
    own = validation.probabilities[known, validation.labels[known]].astype(np.float64)
    if not len(own):
        raise UserError("Label sets need validation images of known classes.", received="none")
    place = math.ceil((len(own) + 1) * coverage - 1e-9)  # 0.9 · 10 is 9 and not a hair more
    return float(np.sort(own)[::-1][place - 1]) if place <= len(own) else 0.0


def label_sets(probabilities: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
    """(N, K) which classes are in each image's set; the most probable always is, so that no set is empty."""
    sets = probabilities >= threshold
    sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
    return sets


def judge_sets(predictions: Predictions, threshold: float) -> dict[str, Any]:
    """How often sets hold the truth and how large they are: threshold, covered, size (mean), single (share of sets of one), n.

    An unknown class is never held.
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
        "size": float(sizes.mean()),
        "single": float((sizes == 1).mean()),
        "n": len(predictions),
    }


def promised(validation: Predictions, test: Predictions, coverages: Sequence[float] = COVERAGES) -> list[dict[str, Any]]:
    """For each promised coverage the threshold that validation gives, and what its sets do on test (``judge_sets``)."""
    if not (validation.labels != UNKNOWN).any():
        return []
    return [{"promised": coverage, **judge_sets(test, fit_threshold(validation, coverage))} for coverage in coverages]
