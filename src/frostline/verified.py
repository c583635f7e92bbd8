"""Whether a run's claims are what its saved predictions give: looked at before anything is shown, compared or averaged.

A run is refused, with the reason, when a recorded score differs from the one computed again, when rows of its predictions are
missing or are not those of its data record, or when its record claims what cannot be looked up. What a run does not record (one
saved before a metric existed, one without a record of its data) is no wrong claim: scores always come from the predictions, and
``evidence`` tells what could be looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from frostline.abstaining import thresholds
from frostline.conformal import card_rows, promised
from frostline.data.imageset import UNKNOWN
from frostline.errors import UserError
from frostline.metrics import score
from frostline.model_card import SEEN, seen_digests
from frostline.paired import ordered, paired
from frostline.predictions import Predictions
from frostline.records import json_record
from frostline.runs import DATA, MODEL, PREDICTIONS, SCORES, STAGES, Run

#: Numbers may differ by so much of themselves: other versions and processors add up in another order.
TOLERANCE = 1e-9

#: What a run's record says where validation predictions stand in the order of the data, as those of test always do. In older runs
#: they may stand in the order in which training looked at the images.
ROW_ORDER = {"row_order": "data"}

_AGAIN = "judge the model again with 'frostline evaluate', or train it again"


def verified(run: Run, split: str = "test") -> Predictions:
    """The predictions of a split, after its rows and its recorded scores were checked.

    Args:
        run: a finished run.
        split: "test", "validation", or either of an earlier stage ("test-head").

    Raises:
        UserError: rows are missing or strange, a recorded score is not what they give, or a file was changed.
    """
    predictions = run.predictions(split)
    _check_rows(run, split, predictions)
    if f"{SCORES}/{split}.json" in run.names():
        recorded, again = run.scores(split), json_record(score(predictions))
        _refuse(run, f"scores/{split}.json", differences(recorded, again))
    return predictions


def check_record(run: Run) -> None:
    """Compare the claims of a run's own record (``Run.finish``) with its predictions and its model.

    Raises:
        UserError: one of them is wrong.
    """
    record = run.record
    claims = {key: record[key] for key in ("test_accuracy", "stages", "abstaining", "label_sets") if record.get(key) is not None}
    if claims and f"{PREDICTIONS}/test.npz" not in run.names():
        raise UserError(
            f"The record of {run.name} claims scores on test images and holds no predictions of them.",
            expected=f"{PREDICTIONS}/test.npz beside {', '.join(claims)}",
            hint=_AGAIN,
        )
    if {"abstaining", "label_sets"} & claims.keys() and "validation" not in run.splits:
        raise UserError(
            f"The record of {run.name} claims thresholds and holds no predictions of validation, which give them.",
            expected=f"{PREDICTIONS}/validation.npz beside {', '.join(claims)}",
            hint=_AGAIN,
        )
    if claims:
        _refuse(run, "run.json", differences(claims, json_record(_claims_again(run, claims))))
    if f"{MODEL}/model.json" in run.names():
        card = run.read(f"{MODEL}/model.json")
        architecture = card.get("architecture", {})
        told = {key: record[key] for key in ("parameters", "trainable_parameters") if key in record and key in architecture}
        there = {**architecture, "model_digest": card.get("digest")}
        if "model_digest" in record:
            told["model_digest"] = record["model_digest"]
        _refuse(run, "run.json", differences(told, there), "in model/model.json")
        _check_thresholds(run, card)


def _check_thresholds(run: Run, card: Mapping[str, Any]) -> None:
    """Label sets of the model are those that the run's validation predictions give."""
    if card.get("label_sets") and "validation" in run.splits:
        validation = verified(run, "validation")
        coverages = [row["promised"] for row in card["label_sets"]]
        again = card_rows(validation.probabilities, validation.labels, coverages)
        _refuse(run, "model/model.json", differences({"label_sets": card["label_sets"]}, {"label_sets": again}))


def _claims_again(run: Run, claims: Mapping[str, Any]) -> dict[str, Any]:
    """The same claims, computed from the predictions."""
    test = verified(run, "test")
    again: dict[str, Any] = {"test_accuracy": float(test.correct.mean())}
    if "stages" in claims:
        again["stages"] = {name: _stage(run, name, test) for name in claims["stages"]}
    if "validation" in run.splits:
        validation = verified(run, "validation")
        again["abstaining"] = thresholds(validation, test, [row["wanted"] for row in claims.get("abstaining", ())])
        again["label_sets"] = promised(validation, test, [row["promised"] for row in claims.get("label_sets", ())])
    return again


def _stage(run: Run, name: str, test: Predictions) -> dict[str, Any]:
    earlier = verified(run, f"test-{name}")
    both = paired("finished", test, name, earlier)
    return {"test_accuracy": float(earlier.correct.mean()), **{key: both[key] for key in ("difference", "p", "n")}}


def evidence(run: Run, split: str = "test") -> dict[str, bool]:
    """What the records of a run let ``verified`` look at: the "scores" of a split, the number of its "rows", its "images"."""
    base, data = split.partition("-")[0], _data(run)
    return {
        "scores": f"{SCORES}/{split}.json" in run.names(),
        "rows": base in data.get("counts", {}),
        "images": _recorded_fingerprint(data, base) is not None,
    }


def _data(run: Run) -> dict[str, Any]:
    return run.read(DATA) if DATA in run.names() else {}


def _recorded_fingerprint(data: Mapping[str, Any], base: str) -> str | None:
    """Of the images as they were judged: validation after --exclude and --relabel, which leave test as it is."""
    edited = data.get("edits", {}).get("fingerprints", {})
    found: str | None = edited.get(base, data.get("fingerprints", {}).get(base))
    return found


def _check_rows(run: Run, split: str, predictions: Predictions) -> None:
    """As many rows as the run's records tell, of those very images and truths."""
    base, _, stage = split.partition("-")
    data = _data(run)
    counted = data.get("counts", {}).get(base)
    whole = base == "test"  # where nothing is counted, nobody can tell whether all of validation was looked at
    if counted is not None:
        expected = counted["images"] if base == "test" else _judged_rows(run, stage, counted["images"])
        _check_number(run, split, len(predictions), expected)
        whole = expected == counted["images"]
    recorded = _recorded_fingerprint(data, base)
    if recorded is not None and not _of_these_images(run, split, predictions, recorded, whole):
        raise UserError(
            f"The {split} predictions of {run.name} are not of the images and true classes in its record.",
            expected=f"fingerprint {recorded}" if whole else f"images of those in {MODEL}/{SEEN}",
            received=f"fingerprint {predictions.fingerprint}" if whole else "images that training has not seen",
            hint=_AGAIN,
        )
    if counted is not None and whole and (strange := list(differences(counted.get("classes", {}), _counts(predictions)))):
        raise UserError(f"The {split} predictions of {run.name} have other true classes than its record.", received=strange[0])


def _check_number(run: Run, split: str, rows: int, expected: int) -> None:
    if rows == expected:
        return
    base, missing = split.partition("-")[0], expected - rows
    raise UserError(
        f"{run.name} has no prediction for {missing:,} of its {expected:,} {base} images."
        if missing > 0
        else f"{run.name} has predictions of {-missing:,} {base} images more than its record tells.",
        expected=f"{expected:,} rows in {PREDICTIONS}/{split}.npz",
        received=f"{rows:,}",
        hint=_AGAIN,
    )


def _of_these_images(run: Run, split: str, predictions: Predictions, recorded: str, whole: bool) -> bool:
    """Whether rows are of the images with this fingerprint, which depends on their order; ``whole``: of all of them.

    A part of validation has no fingerprint of its own, and in older runs all of it may stand in an order that nothing tells any
    more. What is left then is the model's own list of the images that training, or a choice in it, has seen: validation is in it.
    """
    base, _, stage = split.partition("-")
    if whole and predictions.fingerprint == recorded:
        return True
    if base == "test":
        return False
    if whole and ordered(predictions).fingerprint == recorded:  # as the ids count, so do the rows of most data
        return True
    seen = _seen(run, stage)
    if whole and (seen is None or run.record.get("row_order") == ROW_ORDER["row_order"]):
        return False
    # NumPy drops trailing zero bytes of its byte strings
    return seen is None or all(bytes(digest).ljust(16, b"\0") in seen for digest in predictions.digests)


def _seen(run: Run, stage: str) -> set[bytes] | None:
    """The digests in the list that a model keeps of seen images; None where there is none."""
    folder = f"{STAGES}/{stage}" if stage else MODEL
    return seen_digests(run.path(f"{folder}/{SEEN}").parent) if f"{folder}/{SEEN}" in run.names() else None


def _judged_rows(run: Run, stage: str, images: int) -> int:
    """Validation images that were looked at: all, or those of a training that was ended early, as the model's card has it."""
    name = f"{STAGES}/{stage}/model.json" if stage else f"{MODEL}/model.json"
    card = run.read(name) if name in run.names() else {}
    return int(card.get("training", {}).get("validation_images", images))


def _counts(predictions: Predictions) -> dict[str, int]:
    known = predictions.labels[predictions.labels != UNKNOWN]
    counts = np.bincount(known, minlength=len(predictions.classes)).tolist()
    return dict(zip(predictions.classes, counts, strict=True))


def differences(recorded: Any, again: Any, where: str = "") -> Iterator[str]:
    """Where two JSON values differ, in words; keys that only one of them has and sentences under "notes" are passed over."""
    if isinstance(recorded, Mapping) and isinstance(again, Mapping):
        for key in recorded:
            if key in again and key != "notes":
                yield from differences(recorded[key], again[key], f"{where}.{key}" if where else str(key))
    elif _rows(recorded) and _rows(again):
        if len(recorded) != len(again):
            yield f"{where}: {len(recorded)} values recorded, {len(again)} found"
        for i, (one, other) in enumerate(zip(recorded, again, strict=False)):
            yield from differences(one, other, f"{where}[{i}]")
    elif not _same(recorded, again):
        yield f"{where}: {recorded!r} recorded, {again!r} found"


def _rows(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _same(one: Any, other: Any) -> bool:
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other)]
    if all(numbers):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=1e-12)
    return bool(one == other)


def _refuse(run: Run, file: str, found: Iterator[str], source: str = "in its predictions") -> None:
    wrong = list(found)
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        message = f"A claim of {run.name} is wrong: {file} does not say what is {source}."
        raise UserError(message, expected="what can be computed again", received=wrong[0] + more, hint=_AGAIN)
