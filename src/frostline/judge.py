"""Judging a saved model on data: the right rows, the classes matched by name, and what training had seen of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from frostline import inside
from frostline.data.edits import EDITED
from frostline.data.imageset import UNKNOWN, ImageSet, Reject, Source, Splits
from frostline.data.sources import load_source
from frostline.data.splits import split as cut
from frostline.errors import UserError
from frostline.metrics import score
from frostline.model_card import ModelCard
from frostline.predictions import Predictions
from frostline.progress import say
from frostline.serve.predictor import Predictor
from frostline.wanted import chosen_before, reached, refuse_those_that_chose

#: Files left out that are named on the screen; the record has all.
SAID = 10


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
        The predictions, and their scores with ``split``, ``rejected`` (how many files were left out of it), ``rejects`` (path and
        reason of each), ``data_notes`` (what there is to say of the data), ``seen_in_training`` (images that training or a choice
        in it had seen; None where nobody knows) and ``model_digest`` added; ``abstaining`` where an accuracy was wanted
        (``abstaining.judge_threshold``) and ``label_sets`` where sets were asked for (``conformal.judge_sets``), a row each. What
        was left out and the notes are said, too.

    Raises:
        UserError: the data or the model are at fault; nothing gives the threshold that was asked for; or images that gave it are
            among those to be judged.
    """
    predictor = Predictor(model, precision)
    chosen = chosen_before(Path(model), predictor, wanted, sets)
    images, about = rows_to_judge(predictor, data, split, strict=strict, unknown_as_wrong=unknown_as_wrong)
    refuse_those_that_chose(images, about, chosen)
    predictions = predictor.judge(images)
    return predictions, {**score(predictions), **about, **reached(predictions, chosen)}


def rows_to_judge(
    predictor: Predictor, data: str | Path, split: str, *, strict: bool = False, unknown_as_wrong: bool = False
) -> tuple[ImageSet, dict[str, Any]]:
    """The rows that a model is to be judged on, labelled by its own classes; arguments as in ``evaluate``.

    Returns:
        The images; and what a record says of them and of the model: see ``evaluate``.
    """
    if split not in ("train", "validation", "test"):
        raise UserError("There is no such split.", expected="train, validation or test", received=split)
    images, left = rows_of(predictor, data, split, strict=strict, unknown_as_wrong=unknown_as_wrong)
    about = {"split": images.name, **left, "model_digest": predictor.card.digest, "precision": predictor.precision}
    if not predictor.card.knows_seen:
        say("Which images this model was trained on is not known: it may have seen these.", "yellow")
        return images, {**about, "seen_in_training": None}
    seen = predictor.seen()
    known = int(images.among(seen).sum())
    inside.refuse_seen(predictor.card, images, known, "judged on", "--split test")
    if known:
        say(f"{known:,} of these {len(images):,} images were seen in training: these scores flatter the model.", "yellow")
    return images, {**about, "seen_in_training": known}


def rows_of(
    predictor: Predictor, data: str | Path, split: str, *, strict: bool = False, unknown_as_wrong: bool = False
) -> tuple[ImageSet, dict[str, Any]]:
    """The rows of a split, labelled by the model's own classes, whoever has seen them; and what was left out, which is said.

    Arguments as in ``evaluate``; the second of what is returned are its ``rejected``, ``rejects`` and ``data_notes``.
    """
    source = _source(data, predictor.card, strict)
    trained = _as_trained(source, predictor.classes)
    again = _cut_again(trained, predictor.card)
    found = _rows(trained if again else source, again, split, predictor.card)
    # where a file belongs to no split that is known, it may have belonged to this one
    rejects = [reject for reject in (trained if again else source).rejects if reject.split in ("", found.origin)]
    notes = [*source.notes, *found.notes]
    _say_left_out(rejects, notes, found)
    if not unknown_as_wrong:
        # what was cut again has no other classes than the model: their names are known to the data alone
        images = found.images
        _refuse_strange(images if (images.labels != UNKNOWN).all() else source.sets[found.origin], predictor.classes)
    listed = [{"path": reject.path, "reason": reject.reason} for reject in rejects]
    return _matched(found.images, predictor.classes), {"rejected": len(rejects), "rejects": listed, "data_notes": notes}


def _say_left_out(rejects: Sequence[Reject], notes: Sequence[str], found: _Found) -> None:
    for note in notes:
        say(f"Note: {note}", "yellow")
    if not rejects:
        return
    name = found.images.name
    where = {"all": "the data", found.origin: name}.get(name, f"the images that {name} was cut from")
    say(f"Left out of {where}: {len(rejects):,} unusable files, beside {len(found.images):,} images that are judged.", "yellow")
    for reject in rejects[:SAID]:
        say(f"  {reject.path}: {reject.reason}")
    if len(rejects) > SAID:
        say(f"  and {len(rejects) - SAID:,} more, which --json lists.")


def _source(data: str | Path, card: ModelCard, strict: bool) -> Source:
    """The data; by the groups of training where it has them, so that the split that was cut can be cut again."""
    if group := card.values["data"].get("cut", {}).get("group"):
        try:
            return load_source(data, group=group, strict=strict, training=False)
        except UserError:  # other data, without that column; what else is wrong with it is said below
            pass
    return load_source(data, strict=strict, training=False)


def _as_trained(source: Source, classes: tuple[str, ...]) -> Source:
    """The data as a training that ended with these classes took it: others are unknown in test, and left out of validation."""
    known_classes = tuple(name for name in next(iter(source.sets.values())).classes if name in classes)
    sets = {name: _matched(images, known_classes) for name, images in source.sets.items()}
    rejects = source.rejects
    if (images := sets.get("validation")) is not None:
        known = images.labels != UNKNOWN
        rejects += tuple(Reject(str(name), "its class is unknown to training", "validation") for name in images.ids[~known])
        sets["validation"] = images if known.all() else images.take(known)
    return replace(source, sets={name: images for name, images in sets.items() if len(images)}, rejects=rejects)


@dataclass(frozen=True)
class _Found:
    """Rows to be judged; the split of the data that they are or were cut from; what there is to say of them."""

    images: ImageSet
    origin: str
    notes: tuple[str, ...] = ()


def _rows(source: Source, again: Splits | None, name: str, card: ModelCard) -> _Found:
    if again and name in EDITED and "edits" in card.values["data"]:
        say(f"Training left out or relabelled images of {name}: here they are judged as the data has them.", "yellow")
    if again and (found := getattr(again, name)) is not None:
        return _Found(found, name if name in source.sets else "train", _dropped(again, name))
    if not again and name in source.sets:
        return _Found(source.sets[name], name)
    if gone := [reject for reject in source.rejects if reject.split == name]:
        received = f"{len(gone):,} unusable files; the first, {gone[0].path}: {gone[0].reason}"
        raise UserError(f"{source.name} has no usable image in {name}.", received=received)
    if len(source.sets) == 1 and not source.official:
        origin, whole = next(iter(source.sets.items()))
        say(f"{source.name} has no {name} split: all of its {len(whole):,} images are judged.")
        return _Found(replace(whole, name="all"), origin)
    raise UserError(f"{source.name} has no {name} split.", expected=", ".join(source.sets), hint="--split")


def _dropped(splits: Splits, name: str) -> tuple[str, ...]:
    """Images that training's cut left out of this split, because another one has them."""
    dropped: Any = splits.record["dropped"]
    return tuple(
        f"{each['images']:,} images of {what} are left out." for what, each in dropped.items() if what.startswith(f"{name},")
    )


def _cut_again(source: Source, card: ModelCard) -> Splits | None:
    """Training's splits, where this is the data that it cut them from; else None.

    The data has no other classes than the model: see ``_as_trained``. Whether training cut a test split does not stand in the
    model: both are tried, and the fingerprints tell.
    """
    options = {key: value for key, value in card.values["data"].get("cut", {}).items() if key != "group"}
    if "train" not in source.sets or not options or (source.sets["train"].labels == UNKNOWN).any():
        return None
    wanted = card.values["data"]["fingerprints"]
    for cut_test in (True, False):
        try:
            splits = cut(source, cut_test=cut_test, **options)
        except UserError:  # too few images to cut, which does not matter to somebody who only judges
            continue
        if splits.train.fingerprint == wanted["train"] and splits.validation.fingerprint == wanted["validation"]:
            return splits
    return None


def _refuse_strange(images: ImageSet, classes: tuple[str, ...]) -> None:
    used = [name for number, name in enumerate(images.classes) if (images.labels == number).any()]
    if strange := [name for name in used if name not in classes]:
        raise UserError(
            f"The data has classes that the model does not know: {', '.join(strange[:10])}.",
            expected=", ".join(classes[:20]),
            hint="--unknown-as-wrong counts their images as mistakes",
        )


def _matched(images: ImageSet, classes: tuple[str, ...]) -> ImageSet:
    """Labels as the model counts its classes, matched by name; those of others are ``UNKNOWN``."""
    index = {name: number for number, name in enumerate(classes)}
    table = np.array([index.get(name, UNKNOWN) for name in images.classes] + [UNKNOWN], np.int64)
    return replace(images, classes=classes, labels=table[images.labels])
