"""What an inspection says of the very data that a run learned from: whether it is of that data, and of pairs in the run's splits.

An inspection sees the data as they are declared; a run cuts splits from them. ``across`` brings the two together.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.errors import UserError
from frostline.predictions import Predictions
from frostline.reporting.words import listed

Record = dict[str, Any]

#: Splits that are looked for when the place of an image is asked.
_CUT = ("test", "validation")
#: Where an image is of which a run only tells that it is not in test: validation was looked at in part.
_EITHER = "train or validation"


@dataclass(frozen=True)
class Across:
    """Pairs of near duplicates in two splits of one run.

    Attributes:
        pairs: how many are known.
        test: ids of the test images that have such a pair in train or validation.
        untold: sentences on why there may be more; empty where all are known.
    """

    pairs: int
    test: frozenset[str]
    untold: tuple[str, ...]

    @property
    def least(self) -> str:
        """ "at least " where there may be more, for sentences."""
        return "at least " if self.untold else ""


def read(folder: Path, runs: Mapping[str, Record]) -> tuple[Record, dict[str, bytes], tuple[str, ...]]:
    """An inspection, its pictures by name, and sentences on what could not be checked of it.

    Args:
        folder: what ``frostline inspect --out`` wrote.
        runs: each run's name and its record of its data.

    Raises:
        UserError: there is no inspection, or it is of other data than a run.
    """
    record = _record(folder)
    notes = [_checked(record, name, data, folder) for name, data in runs.items()]
    pictures = {name: (folder / name).read_bytes() for name in _shown(record) if (folder / name).is_file()}
    return record, pictures, tuple(note for note in notes if note)


def _shown(record: Record) -> list[str]:
    """The pictures that the record has rows for: others are of another inspection."""
    rows = {
        "samples.png": any(any(split["classes"].values()) for split in record["splits"].values()),
        "duplicates.png": record.get("duplicates"),
        "label_errors.png": any(row.get("likely", True) for row in (record.get("label_errors") or {}).get("rows", ())),
    }
    return [name for name, there in rows.items() if there]


def _record(folder: Path) -> Record:
    try:
        record: Record = json.loads((folder / "audit.json").read_text("utf-8"))
        _images(record, _classes(record))
        if not isinstance(record["source"], str):
            raise TypeError("source is no name")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"There is no inspection of data in {folder}.",
            expected="audit.json, as 'frostline inspect DATA --out DIR' writes it",
            received=f"{type(error).__name__}: {error}",
        ) from error
    return record


def _classes(record: Record) -> set[str]:
    return {name for split in record["splits"].values() for name in split["classes"]}


def _checked(record: Record, name: str, data: Record, folder: Path) -> str:
    """What could not be compared with this run, as a sentence; an error where what can be compared differs."""

    def refuse(what: str, expected: str, received: str) -> UserError:
        return UserError(
            f"The inspection in {folder} is of other data than the runs: {record['source']}.",
            expected=f"{what} of {name}: {expected}",
            received=received,
            hint="'frostline inspect' on the data that the runs learned from, as they were then",
        )

    known, classes = _known(data), _classes(record)
    if not known:
        return f"{name} keeps no record of its data: whether the inspection is of the same is not known."
    if not known <= classes:
        raise refuse("the classes", ", ".join(sorted(known)[:12]), ", ".join(sorted(classes)[:12]))
    ours, theirs = _fingerprints(data), record.get("fingerprints", {})
    both = [split for split in ours if split in theirs]
    if other := [split for split in both if ours[split] != theirs[split]]:
        raise refuse(f"the fingerprint of {other[0]}", ours[other[0]], theirs[other[0]])
    if both and "source_fingerprints" in data and set(ours) == set(theirs):
        return ""
    if wrong := _misfit(record, data, known):
        raise refuse("the images", *wrong)
    if both:
        return (
            f"The contents of {listed(both)} are those of {name}'s data; of the rest of the inspection only classes and counts "
            "could be compared with them, and fit."
        )
    return f"Contents could not be compared with {name}'s data, for one of the two keeps no fingerprint; classes and counts fit."


def _known(data: Record) -> set[str]:
    """The classes of a run that have images; an imported model may know others."""
    return {name for counts in data.get("counts", {}).values() for name, images in counts["classes"].items() if images}


def _fingerprints(data: Record) -> dict[str, str]:
    """Of the splits as they were declared; of a run that does not tell them, those from which nothing was cut or left out."""
    if kept := data.get("source_fingerprints"):
        return dict(kept)
    if (cut := data.get("cut")) is None:
        return {}
    changed = {*cut, *(row["from"] for row in cut.values()), *_dropped(data)}
    return {split: value for split, value in data.get("fingerprints", {}).items() if split not in changed}


def _dropped(data: Record) -> dict[str, list[str]]:
    """Ids of what was left out of each declared split, because it stands in another."""
    found: dict[str, list[str]] = {}
    for what, row in data.get("dropped", {}).items():
        found.setdefault(what.partition(",")[0], []).extend(row["ids"])
    return found


def _misfit(record: Record, data: Record, known: set[str]) -> tuple[str, str] | None:
    """Images of each split, as a run tells them and as they were inspected, where they cannot be the same."""
    ours, theirs = _declared(data), _images(record, known)
    if ours is not None and ours != theirs:
        return _in_words(ours), _in_words(theirs)
    if "relabel" in data.get("edits", {}):
        return None
    here, there = (_by_class(splits.values()) for splits in (data["counts"], record["splits"]))
    more = next((name for name in sorted(here) if here[name] > there[name]), None)
    return None if more is None else (f"{here[more]:,} of class {more}", f"{there[more]:,}")


def _by_class(splits: Iterable[Record]) -> Counter[str]:
    """Images of each class in all splits together."""
    found: Counter[str] = Counter()
    for split in splits:
        found.update(split["classes"])
    return found


def _declared(data: Record) -> dict[str, int] | None:
    """How many images each declared split had before any were cut or left out; None where a run does not tell."""
    if (cut := data.get("cut")) is None:
        return None
    excluded = data.get("edits", {}).get("exclude", {})
    found: Counter[str] = Counter()
    for split, counts in data["counts"].items():
        found[cut[split]["from"] if split in cut else split] += counts["images"] + excluded.get(split, 0)
    for split, ids in _dropped(data).items():
        found[split] += len(ids)
    return {split: images for split, images in found.items() if images}


def _images(record: Record, known: set[str]) -> dict[str, int]:
    """How many images of each inspected split a run could use: of validation those of its classes alone."""
    found = {
        name: sum(count for label, count in split["classes"].items() if label in known or name != "validation")
        for name, split in record["splits"].items()
    }
    return {name: images for name, images in found.items() if images}


def _in_words(images: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} in {split}" for split, count in sorted(images.items()))


def across(record: Record, data: Record, predictions: Mapping[str, Predictions]) -> Across | None:
    """An inspection's pairs of near duplicates that stand in two splits of a run.

    Args:
        record: of the inspection.
        data: of the run.
        predictions: of the run, by split: their ids tell which images were cut from which declared split.

    Returns:
        None where there is no inspection, or the run does not tell how its data were divided.
    """
    cut = data.get("cut")
    untold = "exclude" in data.get("edits", {}) and "excluded" not in data
    if not record or cut is None or untold or ("test" in cut and "test" not in predictions):
        return None
    ids = {split: set(predictions[split].ids.tolist()) for split in _CUT if split in cut and split in predictions}
    whole = "validation" not in cut or len(ids.get("validation", ())) == data["counts"]["validation"]["images"]
    gone = _gone(data)
    known = _known(data)

    def place(declared: str, name: str, label: str) -> str:
        """The run's split of an image; empty where it is in none."""
        if (declared, name) in gone or (declared == "validation" and label not in known):
            return ""
        if declared != "train":
            return declared
        return next((split for split in ids if name in ids[split]), "train" if whole else _EITHER)

    pairs, test = 0, set()
    for pair in record.get("duplicates", ()):
        ends = [(place(pair[f"split_{end}"], pair[end], pair[f"class_{end}"]), pair[end]) for end in "ab"]
        splits = {split for split, _ in ends}
        if len(splits) == 2 and "" not in splits and splits != {"validation", _EITHER}:
            pairs += 1
            test |= {name for split, name in ends if split == "test"}
    return Across(pairs, frozenset(test), _untold(record, whole))


def _untold(record: Record, whole: bool) -> tuple[str, ...]:
    said = [] if whole else ["The run looked at a part of validation, so pairs between train and validation are not counted."]
    if record.get("left_out"):
        said.append("In which splits of the run the pairs that are not listed stand is not known.")
    return tuple(said)


def _gone(data: Record) -> set[tuple[str, str]]:
    """(declared split, id) of what is in none of the run's splits."""
    cut = data["cut"]
    dropped = {(split, name) for split, names in _dropped(data).items() for name in names}
    excluded = data.get("excluded", {}).items()
    return dropped | {(cut[split]["from"] if split in cut else split, name) for split, names in excluded for name in names}
