"""Judging a saved model on data: the right rows, the classes matched by name, and what training had seen of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from frostline import inside
from frostline.abstaining import chosen_threshold, judge_threshold
from frostline.conformal import Promise, judge_sets
from frostline.data.edits import EDITED
from frostline.data.imageset import UNKNOWN, ImageSet, Source
from frostline.data.sources import load_source
from frostline.data.splits import split as cut
from frostline.errors import UserError
from frostline.feature_cache import raw
from frostline.metrics import score
from frostline.model_card import CARD, ModelCard
from frostline.predictions import Predictions
from frostline.progress import say
from frostline.runs import MANIFEST, MODEL, PREDICTIONS, Run
from frostline.serve.predictor import Predictor
from frostline.verified import verified


def evaluate(
    model: str | Path,
    data: str | Path,
    split: str = "test",
    *,
    precision: str = "auto",
    strict: bool = False,
    unknown_as_wrong: bool = False,
    wanted: float | None = None,
    sets: float | None = None,
) -> tuple[Predictions, dict[str, Any]]:
    """Predict every row of a split with a saved model and score the predictions.

    Args:
        model: a model directory or a run.
        data: what ``load_source`` takes.
        split: "train", "validation" or "test". Data that has no such split is judged whole, which is said, unless it is the very
            data that the model was trained from: then the split that was cut is cut again.
        precision: of computing; "auto" is what the model was measured in.
        strict, unknown_as_wrong: as in ``load_source``.
        wanted: an accuracy in (0, 1]: what does the threshold that validation gives for it do here? Needs a run that keeps its
            validation predictions.
        sets: one of ``Predictor.coverages``: how often do its label sets hold the truth here?

    Returns:
        The predictions, and their scores with ``split``, ``rejected``, ``seen_in_training`` (images that training or a choice
        in it had seen; None where nobody knows) and ``model_digest`` added; ``abstaining`` where an accuracy was wanted
        (``abstaining.judge_threshold``) and ``label_sets`` where sets were asked for (``conformal.judge_sets``), a row each.

    Raises:
        UserError: the data or the model are at fault; nothing gives the threshold that was asked for; or images that gave it are
            among those to be judged.
    """
    predictor = Predictor(model, precision)
    chosen = _chosen(Path(model), predictor, wanted, sets)
    images, about = rows_to_judge(predictor, data, split, strict=strict, unknown_as_wrong=unknown_as_wrong)
    _refuse_those_that_chose(images, about, chosen)
    predictions = predictor.judge(images)
    return predictions, {**score(predictions), **about, **_reached(predictions, chosen)}


@dataclass(frozen=True)
class _Chosen:
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


def _chosen(model: Path, predictor: Predictor, wanted: float | None, sets: float | None) -> _Chosen:
    """Looked up before anything is predicted; arguments as in ``evaluate``."""
    if wanted is None and sets is None:
        return _Chosen()
    promise = None if sets is None else predictor.promise(sets)
    validation = _validation(model)
    if wanted is None:
        return _Chosen(promise=promise, validation=validation)
    if validation is None:
        raise _no_validation(model)
    return _Chosen(wanted, chosen_threshold(validation, wanted), promise, validation)


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


def _refuse_those_that_chose(images: ImageSet, about: Mapping[str, Any], chosen: _Chosen) -> None:
    """What was fitted on images flatters itself on them."""
    if chosen.validation is not None:
        own = int(np.isin(images.digests, chosen.validation.digests).sum())
    else:  # without the run it is not known which of the images seen were validation's, but by their split
        own = about["seen_in_training"] or 0 if chosen.promise and images.name == "validation" else 0
    if own:
        raise UserError(
            f"{own:,} of these {len(images):,} images have chosen the threshold, so they cannot judge it.",
            expected="images that had no part in choosing it",
            received=f"the {images.name} split",
            hint="--split test",
        )


def _reached(predictions: Predictions, chosen: _Chosen) -> dict[str, Any]:
    """What came of it, for the record; nothing where nothing was asked."""
    found: dict[str, Any] = {}
    if chosen.wanted is not None:
        found["abstaining"] = [judge_threshold(predictions, chosen.wanted, chosen.threshold)]
    if chosen.promise is not None:
        found["label_sets"] = [{"promised": chosen.promise.coverage, **judge_sets(predictions, chosen.promise.threshold)}]
    return found


def rows_to_judge(
    predictor: Predictor, data: str | Path, split: str, *, strict: bool = False, unknown_as_wrong: bool = False
) -> tuple[ImageSet, dict[str, Any]]:
    """The rows that a model is to be judged on, labelled by its own classes; arguments as in ``evaluate``.

    Returns:
        The images; and what a record says of them and of the model: see ``evaluate``.
    """
    if split not in ("train", "validation", "test"):
        raise UserError("There is no such split.", expected="train, validation or test", received=split)
    images, rejected = rows_of(predictor, data, split, strict=strict, unknown_as_wrong=unknown_as_wrong)
    about = {"split": images.name, "rejected": rejected, "model_digest": predictor.card.digest, "precision": predictor.precision}
    if not predictor.card.knows_seen:
        say("Which images this model was trained on is not known: it may have seen these.", "yellow")
        return images, {**about, "seen_in_training": None}
    seen = predictor.seen()
    known = sum(raw(digest) in seen for digest in images.digests)
    if known and predictor.folder == inside.place():
        raise UserError(
            f"The classifier inside cannot be judged on images that it was trained on: {known:,} of these {len(images):,}.",
            expected="images that it has not seen, such as CIFAR-10's test images",
            hint="--split test",
        )
    if known:
        say(f"{known:,} of these {len(images):,} images were seen in training: these scores flatter the model.", "yellow")
    return images, {**about, "seen_in_training": known}


def rows_of(
    predictor: Predictor, data: str | Path, split: str, *, strict: bool = False, unknown_as_wrong: bool = False
) -> tuple[ImageSet, int]:
    """The rows of a split, labelled by the model's own classes, whoever has seen them; and how many could not be used.

    Arguments as in ``evaluate``.
    """
    source = _source(data, predictor.card, strict)
    return _matched(_rows(source, split, predictor.card), predictor.classes, unknown_as_wrong), len(source.rejects)


def _source(data: str | Path, card: ModelCard, strict: bool) -> Source:
    """The data; by the groups of training where it has them, so that the split that was cut can be cut again."""
    if group := card.values["data"].get("cut", {}).get("group"):
        try:
            return load_source(data, group=group, strict=strict, training=False)
        except UserError:  # other data, without that column; what else is wrong with it is said below
            pass
    return load_source(data, strict=strict, training=False)


def _rows(source: Source, name: str, card: ModelCard) -> ImageSet:
    again = _cut_again(source, card)
    if again and name in EDITED and "edits" in card.values["data"]:
        say(f"Training left out or relabelled images of {name}: here they are judged as the data has them.", "yellow")
    sets = again or dict(source.sets)
    if (found := sets.get(name)) is not None:
        return found
    if len(source.sets) == 1 and not source.official:
        whole = next(iter(source.sets.values()))
        say(f"{source.name} has no {name} split: all of its {len(whole):,} images are judged.")
        return replace(whole, name="all")
    raise UserError(f"{source.name} has no {name} split.", expected=", ".join(source.sets), hint="--split")


def _cut_again(source: Source, card: ModelCard) -> dict[str, ImageSet | None] | None:
    """Training's splits, where this is the data that it cut them from; else None.

    Whether it cut a test split does not stand in the model: both are tried, and the fingerprints tell.
    """
    options = {key: value for key, value in card.values["data"].get("cut", {}).items() if key != "group"}
    if "train" not in source.sets or not options:
        return None
    wanted = card.values["data"]["fingerprints"]
    for cut_test in (True, False):
        try:
            splits = cut(source, cut_test=cut_test, **options)
        except UserError:  # too few images to cut, which does not matter to somebody who only judges
            continue
        if splits.train.fingerprint == wanted["train"] and splits.validation.fingerprint == wanted["validation"]:
            return {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return None


def _matched(images: ImageSet, classes: tuple[str, ...], unknown_as_wrong: bool) -> ImageSet:
    """Labels as the model counts its classes, matched by name."""
    index = {name: number for number, name in enumerate(classes)}
    used = [name for number, name in enumerate(images.classes) if (images.labels == number).any()]
    strange = [name for name in used if name not in index]
    if strange and not unknown_as_wrong:
        raise UserError(
            f"The data has classes that the model does not know: {', '.join(strange[:10])}.",
            expected=", ".join(classes[:20]),
            hint="--unknown-as-wrong counts their images as mistakes",
        )
    table = np.array([index.get(name, UNKNOWN) for name in images.classes] + [UNKNOWN], np.int64)
    return replace(images, classes=classes, labels=table[images.labels])
