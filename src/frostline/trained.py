"""What both ways of training leave for saving and judging: a graph, its weights, and how they came about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import ImageSet
from frostline.preprocess import Preprocess


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
        judge: (N, K) probabilities of a set by the saved graph; frozen networks answer from cached features.
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
