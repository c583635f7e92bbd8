"""Scores of predictions, in NumPy. Every function is one formula; ``score`` puts them into a JSON record.

Legend: N images, K classes. A *matrix* is a (K, K) confusion matrix of counts, rows truth, columns prediction.

Rows of an unknown class (label -1: the model cannot know it) are wrong in accuracy and in top-k and count in n. They are false
positives of the class predicted, so they lower precision, F1 and their averages. They stand outside what needs a true class:
recall, support, the confusion matrix, balanced accuracy, Matthews' correlation, log loss, Brier score and ROC areas.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import UNKNOWN
from frostline.errors import UserError
from frostline.predictions import Predictions

Labels = NDArray[np.int64]
Counts = NDArray[np.int64]
Floats = NDArray[np.floating]

#: The 0.975 quantile of the standard normal distribution: two-sided 95 %.
Z95 = 1.959963984540054
#: Classes of a confusion matrix that a card has room for.
MOST_STATED = 100
#: Classes whose confusion matrix a record of scores has: of some thousand it would have millions of numbers.
MOST_RECORDED = 300


def wilson_interval(hits: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927, JASA 22:209); never outside [0, 1] and never of width zero.

    Assumes independent rows. With ``n`` = 0 nothing is known: (0, 1).

    Raises:
        ValueError: unless 0 <= hits <= n.
    """
    if not 0 <= hits <= n:
        raise ValueError(f"hits must lie in [0, {n}], not {hits}")
    if n == 0:
        return 0.0, 1.0
    share, spread = hits / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return (0.0 if hits == 0 else max(0.0, centre - half)), (1.0 if hits == n else min(1.0, centre + half))


def confusion_matrix(labels: Labels, predicted: Labels, k: int) -> Counts:
    """(K, K) counts, rows truth and columns prediction (Pearson's contingency table); rows of an unknown class are left out."""
    known = labels != UNKNOWN
    return np.bincount(labels[known] * k + predicted[known], minlength=k * k).reshape(k, k).astype(np.int64)


def normalised(matrix: Counts) -> NDArray[np.float64]:
    """(K, K) shares of each true class: rows sum to one, the diagonal is the recall (Congalton 1991, Remote Sens. Environ. 37:35;
    scikit-learn's ``normalize="true"``).

    The row of a class without images is undefined: NaN, null in a record (scikit-learn has zeros there).
    """
    support = matrix.sum(axis=1, keepdims=True)
    return np.divide(matrix, support, out=np.full(matrix.shape, np.nan), where=support > 0)


def per_class(matrix: Counts, unknown: Counts | None = None) -> dict[str, NDArray]:
    """Precision, recall, F1 and support of each class, (K,) each (van Rijsbergen 1979, Information Retrieval, chapter 7).

    ``unknown``: (K,) how often each class was predicted for images of an unknown class; these are false positives.
    Where a denominator is zero (never predicted, no image in the truth) the value is 0.0, as scikit-learn's ``zero_division=0``.
    """
    hits, support = np.diagonal(matrix), matrix.sum(axis=1)
    claimed = matrix.sum(axis=0) + (0 if unknown is None else unknown)
    return {
        "precision": _ratio(hits, claimed),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, claimed + support),
        "support": support,
    }


def _ratio(above: Counts, below: Counts) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.zeros(len(above)), where=below > 0)


def macro_average(rows: dict[str, NDArray]) -> dict[str, float]:
    """Unweighted mean over all K classes, the empty ones with their zeros (Yang 1999, Information Retrieval 1:69)."""
    return {name: float(rows[name].mean()) for name in ("precision", "recall", "f1")}


def weighted_average(rows: dict[str, NDArray]) -> dict[str, float]:
    """Mean over classes weighted by support (scikit-learn's ``average="weighted"``); NaN when no image has a known class."""
    total = int(rows["support"].sum())
    return {name: float(rows[name] @ rows["support"]) / total if total else math.nan for name in ("precision", "recall", "f1")}


def balanced_accuracy(matrix: Counts) -> float:
    """Mean recall of the classes that have images (Brodersen et al. 2010, ICPR); NaN when none has."""
    present = matrix.sum(axis=1) > 0
    return float(per_class(matrix)["recall"][present].mean()) if present.any() else math.nan


def top_k_accuracy(probabilities: Floats, labels: Labels, k: int) -> float:
    """Share of rows whose true class is among the ``k`` most probable (Russakovsky et al. 2015, IJCV 115:211).

    Of equal probabilities the class that comes first ranks higher, as argmax has it: top-1 is the accuracy. NaN without rows.
    """
    if len(labels) == 0:
        return math.nan
    truth = np.where(labels == UNKNOWN, 0, labels)[:, None]
    own = np.take_along_axis(probabilities, truth, axis=1)
    tied_before = (probabilities == own) & (np.arange(probabilities.shape[1]) < truth)
    rank = ((probabilities > own) | tied_before).sum(axis=1)
    return float(((rank < k) & (labels != UNKNOWN)).mean())


def log_loss(probabilities: Floats, labels: Labels) -> float:
    """Mean negative log-likelihood in nats (Good 1952, J. R. Stat. Soc. B 14:107), of the rows with a known class; NaN without any.

    Probabilities are clipped to [eps, 1 - eps], eps of their own type (1.2e-7 for float32), so one certain mistake costs at most 16
    (float64: 36) nats.
    """
    known = np.flatnonzero(labels != UNKNOWN)
    if len(known) == 0:
        return math.nan
    eps = np.finfo(probabilities.dtype).eps
    own = probabilities[known, labels[known]].clip(eps, 1 - eps)
    return float(-np.log(own.astype(np.float64)).mean())


def brier_score(probabilities: Floats, labels: Labels) -> float:
    """Mean over rows of the squared distance between the probabilities and the truth's one-hot vector, in [0, 2] (Brier 1950,
    Monthly Weather Review 78:1, his first form); 0 is best. Of the rows with a known class; NaN without any.
    """
    known = np.flatnonzero(labels != UNKNOWN)
    if len(known) == 0:
        return math.nan
    distance = probabilities[known].astype(np.float64)
    distance[np.arange(len(known)), labels[known]] -= 1
    return float((distance**2).sum(axis=1).mean())


def matthews(matrix: Counts) -> float:
    """Matthews' correlation of truth and prediction for K classes, in [−1, 1] (Gorodkin 2004, Comput. Biol. Chem. 28:367, eq. 8).

    0 where truth or prediction is of one class only, as scikit-learn has it; NaN without rows.
    """
    counts = matrix.astype(np.float64)
    n, hits = counts.sum(), np.trace(counts)
    if n == 0:
        return math.nan
    truth, claimed = counts.sum(axis=1), counts.sum(axis=0)
    spread = math.sqrt((n * n - claimed @ claimed) * (n * n - truth @ truth))
    return float((hits * n - truth @ claimed) / spread) if spread else 0.0


def roc_auc(probabilities: Floats, labels: Labels) -> NDArray[np.float64]:
    """(K,) area under each class' curve against all others: the chance that an image of the class has a higher probability of it
    than one that is not, equals counting half (Hanley and McNeil 1982, Radiology 143:29).

    Of the rows with a known class; NaN for a class that all of them or none of them have.
    """
    known = labels != UNKNOWN
    p, y = probabilities[known], labels[known]
    return np.array([_area(p[:, k], y == k) for k in range(probabilities.shape[1])], np.float64)


def _area(scores: Floats, own: NDArray[np.bool_]) -> float:
    positives = int(own.sum())
    pairs = positives * (len(own) - positives)
    if pairs == 0:
        return math.nan
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # of equals the mean of their ranks, from 1
    return float((ranks[places][own].sum() - positives * (positives + 1) / 2) / pairs)


def most_confused(matrix: Counts, classes: tuple[str, ...], limit: int = 10) -> list[dict[str, Any]]:
    """The mistakes made most often, equals in class order: truth, predicted, count, and its share of the truth's images."""
    mistakes = matrix * (1 - np.eye(len(classes), dtype=np.int64))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:limit]
    pairs = [divmod(int(cell), len(classes)) for cell in order]
    return [
        {"truth": classes[t], "predicted": classes[p], "count": int(matrix[t, p]), "share": float(matrix[t, p] / matrix[t].sum())}
        for t, p in pairs
        if mistakes[t, p] > 0
    ]


def score(predictions: Predictions) -> dict[str, Any]:
    """All scores as one JSON-ready record; see the module for how rows of an unknown class enter.

    Keys: accuracy, n, interval (95 %), top_k, per_class (precision, recall, f1, support, roc_auc), macro, weighted,
    balanced_accuracy, matthews, log_loss, brier_score, roc_auc (mean over classes), confusion (counts) and confusion_normalised
    (shares of each true class) of at most ``MOST_RECORDED`` classes, most_confused, unknown (rows), notes (sentences on what is
    undefined or zero by convention). What is undefined is null.

    Raises:
        UserError: there are no rows.
    """
    n, k = predictions.probabilities.shape
    if n == 0:
        raise UserError("There is nothing to score.", expected="at least one predicted image", received="none")
    labels, predicted = predictions.labels, predictions.predicted
    hits, lost = int(predictions.correct.sum()), labels == UNKNOWN
    matrix = confusion_matrix(labels, predicted, k)
    rows = per_class(matrix, np.bincount(predicted[lost], minlength=k))
    areas = roc_auc(predictions.probabilities, labels)
    return {
        "accuracy": hits / n,
        "n": n,
        "interval": list(wilson_interval(hits, n)),
        "top_k": {str(top): top_k_accuracy(predictions.probabilities, labels, top) for top in (3, 5) if k > top},
        "per_class": _class_rows(rows, areas, predictions.classes),
        "macro": macro_average(rows),
        "weighted": {name: _or_null(value) for name, value in weighted_average(rows).items()},
        "balanced_accuracy": _or_null(balanced_accuracy(matrix)),
        "matthews": _or_null(matthews(matrix)),
        "log_loss": _or_null(log_loss(predictions.probabilities, labels)),
        "brier_score": _or_null(brier_score(predictions.probabilities, labels)),
        "roc_auc": None if np.isnan(areas).all() else float(np.nanmean(areas)),
        **(_matrices(matrix) if k <= MOST_RECORDED else {}),
        "most_confused": most_confused(matrix, predictions.classes),
        "unknown": int(lost.sum()),
        "notes": _notes(rows["support"], predicted, int(lost.sum()), predictions.classes),
    }


def stated(predictions: Predictions) -> dict[str, Any]:
    """The few of ``score``'s values that a model's card tells: n, accuracy, interval, log_loss and, of few classes, confusion."""
    n, k = predictions.probabilities.shape
    hits = int(predictions.correct.sum())
    matrix = confusion_matrix(predictions.labels, predictions.predicted, k).tolist() if k <= MOST_STATED else None
    return {
        "n": n,
        "accuracy": hits / n,
        "interval": list(wilson_interval(hits, n)),
        "log_loss": _or_null(log_loss(predictions.probabilities, predictions.labels)),
        **({"confusion": matrix} if matrix is not None else {}),
    }


def counts(predictions: Predictions) -> Counts:
    """The (K, K) confusion matrix of predictions, however many classes there are."""
    return confusion_matrix(predictions.labels, predictions.predicted, len(predictions.classes))


def _matrices(matrix: Counts) -> dict[str, Any]:
    shares = [[_or_null(share) for share in row] for row in normalised(matrix).tolist()]
    return {"confusion": matrix.tolist(), "confusion_normalised": shares}


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _class_rows(rows: dict[str, NDArray], areas: NDArray[np.float64], classes: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {"class": name, **{key: rows[key][i].item() for key in rows}, "roc_auc": _or_null(float(areas[i]))}
        for i, name in enumerate(classes)
    ]


def _notes(support: Counts, predicted: Labels, unknown: int, classes: tuple[str, ...]) -> list[str]:
    notes, claims = [], np.bincount(predicted, minlength=len(classes))
    if empty := [name for name, count in zip(classes, support, strict=True) if count == 0]:
        undefined = "balanced accuracy leaves it out, and its row of the normalised confusion matrix is undefined"
        notes.append(f"No image is truly of {_listed(empty)}: recall is 0 by convention, in macro averages too; {undefined}.")
    if unclaimed := [name for name, count in zip(classes, claims, strict=True) if count == 0]:
        notes.append(f"Never predicted: {_listed(unclaimed)}; precision is 0 by convention.")
    if unknown:
        notes.append(f"{unknown} rows are of a class the model does not know: wrong in accuracy and precision, left out elsewhere.")
    if unknown and support.sum() == 0:
        notes.append("No row has a known class: averages, log loss and all else that needs a true class are undefined (null).")
    return notes


def _listed(names: list[str], limit: int = 10) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
