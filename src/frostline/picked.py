"""Rows of saved predictions that are worth a look: the most confident mistakes and the least certain hits, and their captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import UNKNOWN
from frostline.predictions import Predictions


@dataclass(frozen=True)
class Picked:
    """Some rows of predictions, the most telling first.

    Attributes:
        rows: (n,) their numbers in the predictions.
        labels: (n,) true classes; ``UNKNOWN`` (-1) for one that the model does not know.
        predicted: (n,) most probable classes.
        probabilities: (n, K), columns in the order of the predictions' classes.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.floating]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def confidence(self) -> NDArray[np.floating]:
        """(n,) the probability of the class predicted."""
        return self.probabilities[np.arange(len(self)), self.predicted]


def most_confident_mistakes(predictions: Predictions, count: int) -> Picked:
    """At most ``count`` rows whose most probable class is not the true one, the most probable first; equals in row order."""
    confidence = predictions.probabilities.max(axis=1)
    wrong = np.flatnonzero(~predictions.correct)
    return _picked(predictions, wrong[np.argsort(-confidence[wrong], kind="stable")][:count])


def least_certain_hits(predictions: Predictions, count: int) -> Picked:
    """At most ``count`` rows that are right, the least probable first; equals in row order."""
    confidence = predictions.probabilities.max(axis=1)
    right = np.flatnonzero(predictions.correct)
    return _picked(predictions, right[np.argsort(confidence[right], kind="stable")][:count])


def _picked(predictions: Predictions, chosen: NDArray[np.integer]) -> Picked:
    rows: NDArray[np.int64] = chosen.astype(np.int64)
    return Picked(rows, predictions.labels[rows], predictions.predicted[rows], predictions.probabilities[rows])


def described(picked: Picked, predictions: Predictions) -> list[dict[str, Any]]:
    """A JSON value for each row: its id, its true class (None where the model does not know it), the two most probable classes."""
    names = predictions.classes
    found = []
    for row, label, p in zip(picked.rows.tolist(), picked.labels.tolist(), picked.probabilities, strict=True):
        best = np.argsort(-p, kind="stable")[:2]
        found.append(
            {
                "row": row,
                "id": str(predictions.ids[row]),
                "true": None if label == UNKNOWN else names[label],
                "predicted": names[best[0]],
                "probability": float(p[best[0]]),
                "second": names[best[1]] if len(best) > 1 else None,
                "second_probability": float(p[best[1]]) if len(best) > 1 else None,
            }
        )
    return found


def caption(row: Mapping[str, Any]) -> str:
    """Two lines on a row of ``described``: "dog 97.3 %" and "is cat", or of a hit "cat 40.1 %" and "dog 39.0 %"."""
    said = f"{row['predicted']} {100 * row['probability']:.1f} %"
    if row["true"] == row["predicted"]:
        return said if row["second"] is None else f"{said}\n{row['second']} {100 * row['second_probability']:.1f} %"
    return f"{said}\nis {row['true'] or 'of another class'}"
