"""Whether a probability of 0.8 is right four times in five, and the temperature that makes it so.

Legend: N images, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import UNKNOWN
from frostline.progress import say

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]

#: Temperatures are looked for between these.
BOUNDS = (0.05, 20.0)

#: With fewer labelled images no temperature is fitted.
FEWEST = 10


def apply_temperature(logits: Floats, temperature: float) -> Floats:
    """Probabilities softmax(logits / T), (N, K), of the logits' type (Guo et al. 2017, arXiv 1706.04599).

    ``logits`` may as well be log-probabilities: softmax does not see a constant per row. T > 1 makes less sure, T < 1 surer;
    the order of the classes, and so the accuracy, stays.

    Raises:
        ValueError: the temperature is not a positive number.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"a temperature is a positive number, not {temperature}")
    return _softmax(_shifted(logits) / temperature).astype(logits.dtype)


def undetermined(logits: Floats, labels: Labels) -> str:
    """Why these rows determine no temperature, in words; empty when they do. Rows of an unknown class are not looked at."""
    known = labels != UNKNOWN
    n = int(known.sum())
    if logits.shape[1] < 2:
        return "there is a single class"
    if n < FEWEST:
        return f"only {n} labelled images, fewer than {FEWEST}"
    z = logits[known].astype(np.float64)
    own = np.take_along_axis(z, labels[known][:, None], axis=1)
    if (own >= z.max(axis=1, keepdims=True)).all():
        return "no mistake among the labelled images, so every lower temperature fits at least as well"
    return ""


def recorded_temperature(logits: Floats, labels: Labels) -> dict[str, Any]:
    """What a record says of validation rows: ``temperature``, and ``temperature_note``, which is also said, where it stays 1."""
    note = undetermined(logits, labels)
    if note:
        say(f"The temperature stays 1: {note}", "yellow")
    return {"temperature": fit_temperature(logits, labels), **({"temperature_note": note} if note else {})}


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """The temperature with the least negative log-likelihood on (N, K) logits (Guo et al. 2017), to be fitted on validation.

    The negative log-likelihood is convex in b = 1/T, with slope mean(E_p[z] - z_label) and curvature mean(Var_p[z]); the slope's
    root is found by Newton steps kept inside a shrinking bracket. T < 1 is allowed; the result lies in ``BOUNDS``, at a bound when
    the best lies beyond.

    Degenerate cases: where the rows determine no temperature (see ``undetermined``: K = 1, fewer than ten rows, all right) it is
    1.0, and the caller records the reason. Labels all of one class, or all wrong, are fitted like any other.

    Raises:
        ValueError: logits that are not finite, or shapes that do not fit.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not np.isfinite(logits).all():
        raise ValueError(f"logits must be finite, (N, K), one label each; received {logits.shape} and {labels.shape}")
    if undetermined(logits, labels):
        return 1.0
    known = labels != UNKNOWN
    return 1 / _best_inverse(_shifted(logits[known]), labels[known])


def _best_inverse(z: NDArray[np.float64], labels: Labels) -> float:
    low, high = 1 / BOUNDS[1], 1 / BOUNDS[0]
    if _slope(z, labels, low)[0] >= 0:
        return low
    if _slope(z, labels, high)[0] <= 0:
        return high
    b = 1.0
    for _ in range(100):
        slope, curvature = _slope(z, labels, b)
        low, high = (b, high) if slope < 0 else (low, b)
        step = b - slope / curvature if curvature > 0 else low
        # Far from the root Newton may leave the bracket; halving it in the logarithm always makes progress.
        b, before = (step if low < step < high else math.sqrt(low * high)), b
        if abs(b - before) <= 1e-12 * before:
            break
    return b


def _slope(z: NDArray[np.float64], labels: Labels, b: float) -> tuple[float, float]:
    """First and second derivative in b of the mean negative log-likelihood of softmax(b z)."""
    p = _softmax(b * z)
    mean = (p * z).sum(axis=1)
    own = z[np.arange(len(z)), labels]
    return float((mean - own).mean()), float(((p * z * z).sum(axis=1) - mean**2).mean())


def _shifted(logits: Floats) -> NDArray[np.float64]:
    z: NDArray[np.float64] = logits.astype(np.float64)
    shifted: NDArray[np.float64] = z - z.max(axis=1, keepdims=True)
    return shifted


def _softmax(z: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(z)
    p: NDArray[np.float64] = e / e.sum(axis=1, keepdims=True)
    return p


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in B bins of equal width over (0, 1]: what a reliability diagram shows.

    Attributes:
        counts: (B,) rows per bin.
        confidence: (B,) mean probability of the predicted class, 0 in an empty bin.
        accuracy: (B,) share of right rows, 0 in an empty bin.
    """

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def reliability(probabilities: Floats, labels: Labels, bins: int = 15) -> Reliability:
    """Bins of the predicted class's probability (DeGroot & Fienberg 1983); bin i holds (i/B, (i+1)/B].

    Rows of an unknown class are wrong.
    """
    top = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    where = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], top, side="left")
    counts = np.bincount(where, minlength=bins)
    filled = np.maximum(counts, 1)
    confidence, accuracy = (np.bincount(where, weights=values, minlength=bins) / filled for values in (top, right))
    return Reliability(counts, confidence, accuracy)


def expected_calibration_error(probabilities: Floats, labels: Labels, bins: int = 15, debiased: bool = False) -> float:
    """Mean over rows of |accuracy - confidence| of their bin, in [0, 1] (Naeini et al. 2015, AAAI; Guo et al. 2017).

    Chance alone makes it positive, the more so the fewer rows a bin has. ``debiased`` takes that expected excess off, after
    Kumar, Liang & Ma 2019 (arXiv 1909.10155) with the normal approximation for the absolute error: in a bin of n rows the accuracy
    scatters with variance a (1 - a) / n, so |gap| is about E|gap + noise| - |gap| too large. Bins without both hits and misses
    show no scatter and stay as they are; a result below zero is 0. Of a perfectly calibrated model's excess this takes about two
    fifths: it is a correction, not a cure.

    The error is a property of the binning: compare only values of equal ``bins``. NaN without rows.
    """
    if len(labels) == 0:
        return math.nan
    table = reliability(probabilities, labels, bins)
    gaps = np.abs(table.accuracy - table.confidence)
    if debiased:
        noise = np.sqrt(table.accuracy * (1 - table.accuracy) / np.maximum(table.counts, 1))
        gaps = np.array([2 * gap - _mean_absolute(gap, sigma) for gap, sigma in zip(gaps, noise, strict=True)])
    return max(0.0, float(gaps @ table.counts / table.counts.sum()))


def _mean_absolute(mean: float, sigma: float) -> float:
    """E|X| of a normal X (the folded normal distribution: Leone, Nelson & Nottingham 1961)."""
    if sigma == 0:
        return abs(mean)
    scaled = mean / (sigma * math.sqrt(2))
    return sigma * math.sqrt(2 / math.pi) * math.exp(-(scaled**2)) + mean * math.erf(scaled)
