"""What is said of one image: made from its probabilities here, for the command line, the service and the page alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.abstaining import NEVER
from frostline.conformal import Promise, named_sets

#: Decimal places of probabilities in answers.
PLACES = 6
#: What is said of an image whose answer is no number.
NO_ANSWER = "the model has no answer for this image"


@dataclass(frozen=True)
class LabelSet:
    """Classes that hold the truth of images like this one in a share ``coverage`` of them, likeliest first; never empty."""

    coverage: float
    classes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """JSON values, as answers of all kinds have them under "set"."""
        return {"coverage": self.coverage, "classes": list(self.classes)}


@dataclass(frozen=True)
class Answer:
    """What a model says of one image, or why it could not be read.

    Attributes:
        top: the likeliest classes with their probabilities, best first.
        sure: whether the best reaches the threshold; None where no threshold is known.
        model: the model's name.
        name: what the image was sent as (a file's name); empty where it had none.
        probabilities: of every class, by name; None where they were not asked for.
        label_set: None where it was not asked for.
        error: reason, expected, received and hint of an image that could not be used; then there is nothing else.
    """

    top: tuple[tuple[str, float], ...] = ()
    sure: bool | None = None
    model: str = ""
    name: str = ""
    probabilities: Mapping[str, float] | None = None
    label_set: LabelSet | None = None
    error: Mapping[str, str] | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON values, as ``POST /predict`` answers them."""
        said: dict[str, Any] = {"name": self.name} if self.name else {}
        if self.error is not None:
            return {**said, "error": dict(self.error)}
        said["top"] = [{"class": name, "probability": round(p, PLACES)} for name, p in self.top]
        said["sure"] = self.sure
        if self.label_set is not None:
            said["set"] = self.label_set.as_json()
        if self.probabilities is not None:
            said["probabilities"] = {name: round(p, PLACES) for name, p in self.probabilities.items()}
        return said


def is_answer(probabilities: NDArray[np.float32]) -> bool:
    """Whether (K,) probabilities are numbers. A foreign network may divide by the deviation of an image that has none."""
    return bool(np.isfinite(probabilities).all())


def best_classes(probabilities: NDArray[np.float32], classes: Sequence[str], top: int) -> tuple[tuple[str, float], ...]:
    """The ``top`` likeliest of K classes with their probabilities (K,), best first; equals in the order of the classes."""
    found = probabilities.tolist()
    return tuple((classes[k], found[k]) for k in nlargest(top, range(len(found)), key=found.__getitem__))


def is_sure(probabilities: NDArray[np.float32], sure_from: float | None) -> bool | None:
    """Whether the highest of (K,) probabilities reaches the threshold; None without one. A threshold of 1 means never."""
    return None if sure_from is None else bool(sure_from < NEVER and probabilities.max() >= sure_from)


def set_of(probabilities: NDArray[np.float32], classes: Sequence[str], promise: Promise | None) -> LabelSet | None:
    """The label set of an image with these probabilities, (K,), that keeps a promise; None without one."""
    if promise is None:
        return None
    return LabelSet(promise.coverage, named_sets(probabilities[None], classes, promise.threshold)[0])


def answer(
    probabilities: NDArray[np.float32],
    classes: Sequence[str],
    top: int,
    sure_from: float | None = None,
    *,
    model: str = "",
    name: str = "",
    every: bool = False,
    promise: Promise | None = None,
) -> Answer:
    """The answer for an image with these probabilities, (K,); ``every``: with those of all classes; ``promise``: with its set."""
    told = dict(zip(classes, map(float, probabilities), strict=True)) if every else None
    held = set_of(probabilities, classes, promise)
    return Answer(best_classes(probabilities, classes, top), is_sure(probabilities, sure_from), model, name, told, held)
