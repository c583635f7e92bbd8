"""What somebody wants of a model beside scores: an accuracy, or label sets of a coverage.

Validation chooses the threshold, and other images judge it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.abstaining import chosen_threshold, judge_threshold
from frostline.conformal import Promise, judge_sets
from frostline.data.imageset import ImageSet
from frostline.errors import UserError
from frostline.model_card import CARD
from frostline.predictions import Predictions
from frostline.runs import MANIFEST, MODEL, PREDICTIONS, Run
from frostline.serve.predictor import Predictor
from frostline.verified import verified


@dataclass(frozen=True)
class Chosen:
    """What was asked beside scores, and what validation has chosen for it.

    Attributes:
        wanted, threshold: an accuracy, and the threshold for it: see ``abstaining.chosen_threshold``.
        promise: of label sets.
        validation: the predictions that chose; None where the model stands without its run.
    """

    wanted: float | None = None
    threshold: float | None = None
    promise: Promise | None = None
    validation: Predictions | None = None


def chosen_before(model: Path, predictor: Predictor, wanted: float | None, sets: float | None) -> Chosen:
    """Looked up before anything is predicted; arguments as in ``evaluate``."""
    if wanted is None and sets is None:
        return Chosen()
    promise = None if sets is None else predictor.promise(sets)
    validation = _validation(model)
    if wanted is None:
        return Chosen(promise=promise, validation=validation)
    if validation is None:
        raise _no_validation(model)
    return Chosen(wanted, chosen_threshold(validation, wanted), promise, validation)


def _validation(model: Path) -> Predictions | None:
    """Validation predictions of a run, checked; None where this is no run, or one that keeps none."""
    if not (model / MANIFEST).is_file():
        return None
    run = Run.open(model)
    run.path(f"{MODEL}/{CARD}")  # the very model that said this
    return verified(run, "validation") if "validation" in run.splits else None


def _no_validation(model: Path) -> UserError:
    around, is_run = model.resolve().parent, (model / MANIFEST).is_file()
    return UserError(
        "The threshold for a wanted accuracy is chosen on validation predictions, and there are none.",
        expected=f"a run with {PREDICTIONS}/validation.npz, as 'frostline train --out DIR' leaves it in DIR",
        received="a run that keeps none" if is_run else "a model without its run",
        hint=f"the run {around}" if not is_run and (around / MANIFEST).is_file() else "",
    )


def refuse_those_that_chose(images: ImageSet, about: Mapping[str, Any], chosen: Chosen) -> None:
    """What was fitted on images flatters itself on them."""
    if chosen.validation is not None:
        own = int(images.among(chosen.validation.digests.tolist()).sum())
    else:  # without the run it is not known which of the images seen were validation's, but by their split
        own = about["seen_in_training"] or 0 if chosen.promise and images.name == "validation" else 0
    if own:
        raise UserError(
            f"{own:,} of these {len(images):,} images have chosen the threshold, so they cannot judge it.",
            expected="images that had no part in choosing it",
            received=f"the {images.name} split",
            hint="--split test",
        )


def reached(predictions: Predictions, chosen: Chosen) -> dict[str, Any]:
    """What came of it, for the record; nothing where nothing was asked."""
    found: dict[str, Any] = {}
    if chosen.wanted is not None:
        found["abstaining"] = [judge_threshold(predictions, chosen.wanted, chosen.threshold)]
    if chosen.promise is not None:
        found["label_sets"] = [{"promised": chosen.promise.coverage, **judge_sets(predictions, chosen.promise.threshold)}]
    return found
