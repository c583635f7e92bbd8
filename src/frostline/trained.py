"""What every way of training leaves for saving and judging: a graph, its weights, and how they came about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline import engine
from frostline.data.imageset import ImageSet, Splits
from frostline.data.reading import stored_blocks
from frostline.model_card import UNKNOWN, licence_of
from frostline.predictions import Predictions
from frostline.preprocess import Preprocess
from frostline.progress import stage

#: Licences of data sets whose publishers state one; CIFAR's state none.
DATA_LICENCES = {"digits": "cc-by-4.0"}


@dataclass(frozen=True)
class Trained:
    """A trained model before it is written.

    Attributes:
        graph: from "images" to "probabilities", "features" and perhaps "map".
        weights: by name.
        preprocess, views, temperature, precision: as in the model's card.
        architecture: what the model consists of: names, sizes, parameter counts, where the weights came from.
        validation: rows of the validation set that were judged, and their (n, K) probabilities, temperature applied.
        seen: 16-byte digests of the images that training or a choice has seen.
        record: what was chosen, and how.
        earlier: models of stages before this one, by name, to be kept and scored beside it.
        judge: (N, K) probabilities of a set by the saved graph; frozen networks answer from cached features.
        notes: sentences that judging has added, for the record of its scores.
    """

    graph: Any
    weights: dict[str, NDArray[Any]]
    preprocess: Preprocess
    views: int
    temperature: float
    precision: str
    architecture: dict[str, Any]
    validation: tuple[NDArray[np.int64], NDArray[np.float32]]
    seen: set[bytes]
    record: dict[str, Any]
    judge: Callable[[Any, ImageSet], NDArray[np.float32]]
    earlier: tuple[tuple[str, Trained], ...] = ()
    notes: list[str] = field(default_factory=list)


def judged_by_graph(preprocess: Preprocess) -> Callable[[Any, ImageSet], NDArray[np.float32]]:
    """The way to judge a set where nothing of it is cached: every image through the saved graph."""

    def judge(saved: Any, images: ImageSet) -> NDArray[np.float32]:
        rows = [np.arange(i, min(i + engine.BATCH, len(images))) for i in range(0, len(images), engine.BATCH)]
        with stage(f"predict {images.name}", len(images)) as bar:
            parts = []
            for (features,) in saved.body.run(stored_blocks(images, rows, preprocess)):
                parts.append(saved.head.features(features))
                bar.advance(len(features))
        return np.concatenate(parts)

    return judge


def predicted(images: ImageSet, probabilities: NDArray[Any]) -> Predictions:
    """Predictions of the rows of a set, in its order, of (N, K) probabilities."""
    return Predictions(images.ids, images.labels, np.asarray(probabilities, np.float32), images.classes, images.digests)


def on_validation(trained: Trained, splits: Splits) -> Predictions:
    """The validation predictions: training has an order of its own; what is kept stands in the data's, as its fingerprint does."""
    rows, p = trained.validation
    order = np.argsort(rows)
    return predicted(splits.validation.take(rows[order]), p[order])


def licences_of(
    architecture: Mapping[str, Any], record: Mapping[str, Any], teacher: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """What a new card says of the licences of the weights that were taken over, and of the data of this record of splits.

    ``teacher``: a teacher's record, where one taught the model.
    """
    own = architecture.get("kind") == "scratch"
    weights = "none taken over: trained from random weights" if own else licence_of(str(architecture.get("weights", "")))
    if teacher:
        weights += f"; taught by {teacher['name']} ({teacher['licences'].get('weights', UNKNOWN)})"
    return {"weights": weights, "data": DATA_LICENCES.get(str(record.get("source", "")), UNKNOWN)}
