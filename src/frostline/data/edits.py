"""What a person has decided about single images: some are left out, some get another class.

Applied after the split is cut, to train and validation alone: the test images are those they would have been, with the labels
that they had. A test split that is mended by what a model says of it would judge such models too kindly. (Northcutt, Athalye and
Mueller 2021 mend test sets by what several people see in each image.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from frostline.data.imageset import ImageSet, Splits
from frostline.data.rows import SPLIT_NAMES, class_name
from frostline.data.splits import class_counts
from frostline.data.tables import Table, read_csv, refuse_repeated
from frostline.errors import UserError, few, nearest
from frostline.files import digest_file

#: Columns of a file of edits: the image's name, as ``frostline inspect`` writes it, or its path; the new class.
NAMED, NEW_CLASS = ("id", "path"), "suggested"
#: The splits that are edited.
EDITED = ("train", "validation")

Place = tuple[str, int]


@dataclass(frozen=True)
class _Line:
    """One row of a file: where it stands, the image it names, the split it says (or ""), and the new class (or "")."""

    where: str
    name: str
    split: str
    new: str = ""


@dataclass
class _Images:
    """Where each image is: (split, row) by id, and by file where it is a photo; ``gone``: what the split itself has left out."""

    by_id: dict[str, list[Place]] = field(default_factory=dict)
    by_file: dict[Path, list[Place]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)


def edited(splits: Splits, exclude: str, relabel: str) -> Splits:
    """The splits without the images that one file names, and with the classes that another gives.

    Args:
        splits: as cut. Splits that the same files have edited already are returned as they are.
        exclude: CSV with a column ``id`` (or ``path``); "": none.
        relabel: CSV with a column ``id`` (or ``path``) and the new class in ``suggested``; "": none. An image in both is left out.
            A column ``split`` (train, validation or test) tells images of one name apart; further columns are ignored.

    Returns:
        Splits whose record has ``edits``: for each file its name, digest and rows, how many images of train and validation it
        changed, and how many rows name test images, which stay as they are; and ``fingerprints`` of train and validation
        afterwards. The record's own ``fingerprints`` stay those of the cut. ``excluded``: the ids that were left out of each.

    Raises:
        UserError: a file that is unreadable, empty or lacks a column; an image or a class that is not there; two classes for one
            image; no image left of a class in train, or of all validation.
    """
    asked = {kind: Path(name) for kind, name in (("exclude", exclude), ("relabel", relabel)) if name}
    if not asked:
        return splits
    if "edits" in splits.record:
        _check_the_same(splits.record["edits"], asked)
        return splits
    lines = {kind: _read(path, kind) for kind, path in asked.items()}
    images = _index(splits)
    found = {kind: [(line, _find(line, images, asked[kind])) for line in lines[kind]] for kind in asked}
    out = {place for _, place in found.get("exclude", ()) if place is not None}
    classes = _new_classes(found.get("relabel", ()), splits, asked.get("relabel"))
    sets = {name: _changed(getattr(splits, name), out, classes) for name in EDITED}
    _check_left(splits, sets, asked)
    moved = {place for place, label in classes.items() if place not in out and _label(splits, place) != label}
    about = {kind: _about(asked[kind], rows, out if kind == "exclude" else moved) for kind, rows in found.items()}
    gone = {name: [str(getattr(splits, name).ids[row]) for split, row in sorted(out) if split == name] for name in EDITED}
    return replace(splits, **sets, record={**_record(splits, sets, about), "excluded": gone})


def described(splits: Splits) -> dict[str, Any]:
    """What a model's card says of them: ``fingerprints`` of train and validation as cut, and ``edits``, where there are any.

    Nothing in it depends on the test split.
    """
    if "edits" not in splits.record:
        return {"fingerprints": {name: getattr(splits, name).fingerprint for name in EDITED}}
    as_cut: Any = splits.record["fingerprints"]
    edits: Any = splits.record["edits"]
    kept = {kind: {key: edits[kind][key] for key in ("digest", *EDITED)} for kind in ("exclude", "relabel") if kind in edits}
    return {"fingerprints": {name: as_cut[name] for name in EDITED}, "edits": {**kept, "fingerprints": edits["fingerprints"]}}


def _check_the_same(record: Any, asked: Mapping[str, Path]) -> None:
    then = {kind: record[kind]["digest"] for kind in ("exclude", "relabel") if kind in record}
    now = {kind: _digest(path) for kind, path in asked.items()}
    if then != now:
        raise UserError("These images were edited by other files already.", expected=str(then), received=str(now))


def _digest(path: Path) -> str:
    try:
        return digest_file(path)
    except OSError as error:
        raise UserError(f"Cannot read {path}.", received=error.strerror or str(error)) from error


def _read(path: Path, kind: str) -> list[_Line]:
    needed = "id" + (f" and {NEW_CLASS}" if kind == "relabel" else "")
    expected = f"a header with {needed}, then a row for each image, as in label_errors.csv of 'frostline inspect'"
    table = read_csv(path, expected)
    columns = [name.lower() for name in table.columns]
    refuse_repeated(path, columns)
    named = next((name for name in NAMED if name in columns), "")
    if not named or (kind == "relabel" and NEW_CLASS not in columns):
        missing = "id" if not named else NEW_CLASS
        raise UserError(f"{path} has no column {missing!r}.", expected=expected, received=", ".join(table.columns))
    if not table.rows:
        raise UserError(f"{path} names no image.", expected=expected, received="a header alone", hint=f"leave --{kind} out")
    where = {"name": columns.index(named)} | {name: columns.index(name) for name in ("split", NEW_CLASS) if name in columns}
    return [_line(table, name, cells, where, kind) for name, cells in table.rows]


def _line(table: Table, name: str, cells: list[Any], where: Mapping[str, int], kind: str) -> _Line:
    if len(cells) != len(table.columns):
        received = f"{len(cells)} fields in {name}"
        raise UserError(
            f"A row of {table.path} is not as long as its header.", expected=f"{len(table.columns)} fields", received=received
        )
    texts = {role: str(cells[column]).strip() for role, column in where.items()}
    new = class_name(texts[NEW_CLASS]) if kind == "relabel" else ""
    split = texts.get("split", "").lower()
    if not texts["name"] or (kind == "relabel" and not new):
        what = "image" if not texts["name"] else "new class"
        raise UserError(f"{name} names no {what}.", expected="every cell filled in", hint="fill it in, or delete the row")
    if split and split not in SPLIT_NAMES:
        raise UserError(f"{name} names an unknown split.", expected="train, validation or test, or nothing", received=split)
    return _Line(name, texts["name"], SPLIT_NAMES.get(split, ""), new)


def _index(splits: Splits) -> _Images:
    images = _Images()
    for part in (splits.train, splits.validation, splits.test):
        for row, name in enumerate(part.ids.tolist() if part is not None else ()):
            images.by_id.setdefault(name, []).append((part.name, row))  # type: ignore[union-attr]
        for row, file in enumerate((part.files or ()) if part is not None else ()):
            images.by_file.setdefault(file.absolute(), []).append((part.name, row))  # type: ignore[union-attr]
    dropped: Any = splits.record.get("dropped", {})
    images.gone = {name for left_out in dropped.values() for name in left_out["ids"]}
    return images


def _find(line: _Line, images: _Images, file: Path) -> Place | None:
    """(split, row) of the image that a line names; None where the split itself has left it out."""
    places = images.by_id.get(line.name, [])
    if not places:
        paths = (Path(line.name).expanduser().absolute(), file.absolute().parent / line.name)
        places = next((images.by_file[path] for path in paths if path in images.by_file), [])
    if len(places) > 1 and line.split:  # what the data declares as train may have been cut into any of the three
        places = [place for place in places if place[0] == line.split] or places
    if len(places) == 1:
        return places[0]
    if places:
        received = f"{line.name!r} in {' and '.join(split for split, _ in places)}"
        raise UserError(f"{line.where} could mean several images.", received=received, hint="add a column split to the file")
    if line.name in images.gone:
        return None
    hint = "ids are those that 'frostline inspect' writes for the same data"
    raise UserError(
        f"{line.where} names an image that the data does not have.",
        expected=f"an id such as {next(iter(images.by_id))!r}",
        received=repr(line.name),
        hint=hint,
    )


def _new_classes(found: Any, splits: Splits, path: Path | None) -> dict[Place, int]:
    """The new label of each image that is named."""
    numbers = {name: label for label, name in enumerate(splits.classes)}
    new: dict[Place, int] = {}
    for line, place in found:
        if line.new not in numbers:
            hint = nearest(line.new, list(splits.classes))
            raise UserError(f"{line.where} gives a class that the data does not have.", received=repr(line.new), hint=hint)
        if place is None:
            continue
        if new.setdefault(place, numbers[line.new]) != numbers[line.new]:
            both = f"{splits.classes[new[place]]!r} and {line.new!r} for {line.name!r}"
            raise UserError(f"{path} gives one image two classes.", expected="one row for each image", received=both)
    return new


def _changed(images: ImageSet, out: set[Place], classes: Mapping[Place, int]) -> ImageSet:
    labels, kept = images.labels.copy(), np.ones(len(images), dtype=bool)
    for (split, row), label in classes.items():
        if split == images.name:
            labels[row] = label
    kept[[row for split, row in out if split == images.name]] = False
    changed = replace(images, labels=labels)
    return changed if kept.all() else changed.take(kept)


def _check_left(splits: Splits, sets: Mapping[str, ImageSet], asked: Mapping[str, Path]) -> None:
    before, after = (np.bincount(each.labels, minlength=len(splits.classes)) for each in (splits.train, sets["train"]))
    empty = [splits.classes[label] for label in np.flatnonzero((before > 0) & (after == 0))]
    if empty or not len(sets["validation"]):
        what = f"no training image of {few(empty)}" if empty else "no validation image"
        names = " and ".join(f"--{kind} {path}" for kind, path in asked.items())
        raise UserError(
            f"Too little is left: {what}.", expected="at least one image of each class", received=names, hint="name fewer images"
        )


def _about(path: Path, found: Any, changed: set[Place]) -> dict[str, Any]:
    """What a file did: see ``edited``."""
    places = {place for _, place in found if place is not None}
    return {
        "file": path.name,
        "digest": _digest(path),
        "rows": len(found),
        **{name: sum(split == name for split, _ in changed) for name in EDITED},
        "left_in_test": sum(split == "test" for split, _ in places),
        "not_there": sum(place is None for _, place in found),
    }


def _label(splits: Splits, place: Place) -> int:
    return int(getattr(splits, place[0]).labels[place[1]])


def _record(splits: Splits, sets: Mapping[str, ImageSet], about: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    said = {"exclude": "were left out", "relabel": "got another class"}
    notes = list(splits.record.get("notes", ()))  # type: ignore[call-overload]
    for kind, row in about.items():
        counts = f"{row['train']:,} images of train and {row['validation']:,} of validation"
        notes.append(f"{counts} {said[kind]}, as {row['file']} says.")
        if row["left_in_test"]:
            notes.append(
                f"{row['left_in_test']:,} images of test stand in {row['file']} and stay as they are: "
                "a test split is not mended by what a model says of it."
            )
    counted: Any = splits.record.get("counts", {})
    fingerprints = {name: images.fingerprint for name, images in sets.items()}
    return {
        **splits.record,
        "counts": {**counted, **{name: class_counts(images) for name, images in sets.items()}},
        "notes": notes,
        "edits": {**about, "fingerprints": fingerprints},
    }
