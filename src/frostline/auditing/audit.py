"""What can be said of the data from its pixels alone: counts, sizes, near duplicates within and across splits, odd images.

``auditing.features`` adds what a pretrained network says of it.
Nothing is changed. Legend: N images, K classes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.auditing.duplicates import Known, Pair, first_look, limited, merged, second_look
from frostline.auditing.thumbnails import SIDE
from frostline.data.imageset import ImageSet, Source
from frostline.data.reading import read_row, stored_pixels
from frostline.errors import UserError
from frostline.files import write_json, write_text
from frostline.preprocess import Preprocess
from frostline.progress import say, stage
from frostline.records import json_record

#: Mean brightness, of 255, below or above which an image is dark or bright; deviation below which it is blank.
DARK, BRIGHT, BLANK = 12.0, 243.0, 4.0
#: How many typical deviations (of all images of the set) less sharp than the middle one an image is to be called blurred.
BLURRED = 4.0
#: So many of an image's 1,984 pairs of neighbours are looked at for its sharpness.
_SHARPEST = 40
#: Pictures a class in the sample grid; pairs in the picture of duplicates, and labels in that of likely errors.
SAMPLES, SHOWN = 10, 40
#: Classes in the sample grid.
MOST_CLASSES = 30

Record = dict[str, Any]
Further = Callable[[NDArray[np.uint8]], Sequence[Pair]]


def inspect(source: Source, further: Further = lambda looked: ()) -> Record:
    """Look at every image of a source.

    Args:
        source: what was loaded.
        further: more pairs that are nearly the same, of all images as (N, 32, 32, 3), split after split.

    Returns:
        source; fingerprints: of its splits (``Source.fingerprints``), by which a report knows the data of a run; splits: for each
        its images, size ([H, W] where all have one), height and width in pixels and bytes of a file
        (minimum, median and maximum; None where not known), classes (counts by name) and imbalance (largest over smallest count
        that is not 0); rejects (path and reason); duplicates: of the pairs that are listed (``duplicates.limited``), most alike
        first, the two ids, splits and classes, mirrored, likeness and whether the content is the same; pairs: how many there are,
        listed or not; across: those in two splits; contradictions: those with two classes; left_out: those not listed;
        most_compared: None, or with how many of its split, and of others, each image was compared closely because too many are
        alike (``thumbnails.Candidates.each``); odd: id, split, class, what and value of dark, bright, blank and blurred images;
        label_errors: None, for they need a network's features.
    """
    sets = list(source.sets.values())
    looked = np.concatenate([_looked_at(images) for images in sets])
    rows = _rows(sets)
    return {
        "source": source.name,
        "fingerprints": source.fingerprints,
        "splits": {images.name: _counted(images) for images in sets},
        "rejects": [{"path": reject.path, "reason": reject.reason} for reject in source.rejects],
        **_duplicates(looked, sets, rows, further),
        "odd": _odd(looked, rows),
        "label_errors": None,
    }


_Rows = Sequence[tuple[str, str, str, bytes]]


def _duplicates(looked: NDArray[np.uint8], sets: Sequence[ImageSet], rows: _Rows, further: Further) -> Record:
    """What is nearly the same, counted before the list is limited."""
    known = Known.of(sets)
    with stage("compare images", len(looked)) as bar:
        found = first_look(looked, known, bar.advance)
    with stage("look again", len(found.candidates)) as bar:
        near = second_look(looked, found.candidates, bar.advance)
    others = [pair for pair in further(looked) if not known.same(pair)]  # copies are found, each beside the first of them
    pairs = merged([*found.copies, *near], others)
    listed = limited(pairs, known, {pair.rows for pair in found.copies})
    return {
        "duplicates": [_described(pair, rows) for pair in listed],
        "pairs": len(pairs),
        "across": sum(map(known.across, pairs)),
        "contradictions": sum(map(known.contradicting, pairs)),
        "left_out": len(pairs) - len(listed),
        "most_compared": found.candidates.each,
    }


def _looked_at(images: ImageSet) -> NDArray[np.uint8]:
    """(N, 32, 32, 3): every image at the size at which it is looked at."""
    return np.asarray(stored_pixels(images, _LOOK))


#: How images are looked at, and how photos are shown.
_LOOK = Preprocess(size=(SIDE, SIDE), stored=(SIDE, SIDE))
_SHOW = Preprocess(size=(160, 160), stored=(160, 160), fit="pad", mean=(1.0, 1.0, 1.0))


def _rows(sets: Sequence[ImageSet]) -> _Rows:
    """(id, split, class, digest) of every image, in order."""
    return [
        (str(name), images.name, images.classes[label] if label >= 0 else "", bytes(digest))
        for images in sets
        for name, label, digest in zip(images.ids, images.labels, images.digests, strict=True)
    ]


def _counted(images: ImageSet) -> Record:
    counts = np.bincount(images.labels[images.labels >= 0], minlength=len(images.classes))
    there = counts[counts > 0]
    return {
        "images": len(images),
        **_sizes(images),
        "classes": dict(zip(images.classes, counts.tolist(), strict=True)),
        "imbalance": float(there.max() / there.min()) if len(there) else None,
    }


def _sizes(images: ImageSet) -> Record:
    sides = images.sides if images.size is None else np.array([images.size])
    height, width = (_spread(None if sides is None else sides[:, axis]) for axis in (0, 1))
    both = [side["minimum"] for side in (height, width) if side and side["minimum"] == side["maximum"]]
    return {"size": both if len(both) == 2 else None, "height": height, "width": width, "bytes": _spread(images.lengths)}


def _spread(values: NDArray[np.int64] | None) -> Record | None:
    if values is None or not len(values):
        return None
    return {"minimum": int(values.min()), "median": float(np.median(values)), "maximum": int(values.max())}


def _described(pair: Pair, rows: _Rows) -> Record:
    a, b = rows[pair.first], rows[pair.second]
    return {
        "a": a[0],
        "split_a": a[1],
        "class_a": a[2],
        "b": b[0],
        "split_b": b[1],
        "class_b": b[2],
        "mirrored": pair.mirrored,
        "likeness": pair.likeness,
        "same_content": a[3] == b[3],
    }


def _odd(looked: NDArray[np.uint8], rows: _Rows) -> list[Record]:
    measured = [_measured(looked[i : i + 2000]) for i in range(0, len(looked), 2000)]
    brightness, deviation, sharpness = (np.concatenate(column) for column in zip(*measured, strict=True))
    told = np.log(np.maximum(sharpness, 1e-6))
    typical = 1.4826 * np.median(np.abs(told - np.median(told)))  # of a normal distribution the deviation
    blurred = (told < np.median(told) - BLURRED * max(typical, 0.05)) & (deviation >= BLANK)
    kinds = [
        ("dark", brightness < DARK, brightness),
        ("bright", brightness > BRIGHT, brightness),
        ("blank", deviation < BLANK, deviation),
        ("blurred", blurred, sharpness),
    ]
    return [
        {"id": rows[i][0], "split": rows[i][1], "class": rows[i][2], "what": what, "value": round(float(values[i]), 3)}
        for what, which, values in kinds
        for i in np.flatnonzero(which).tolist()
    ]


def _measured(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
    """Mean brightness, deviation, and sharpness: how much the sharpest neighbours differ, of how much all do; (n,) each."""
    grey = images.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    deviation = grey.std(axis=(1, 2))
    steps = np.concatenate([np.abs(np.diff(grey, axis=axis)).reshape(len(grey), -1) for axis in (1, 2)], axis=1)
    sharpest = np.partition(steps, -_SHARPEST, axis=1)[:, -_SHARPEST:].mean(axis=1)
    return grey.mean(axis=(1, 2)), deviation, sharpest / np.maximum(deviation, 1e-3)


def keep(record: Record, source: Source, folder: Path) -> None:
    """Write audit.json, duplicates.csv, odd.csv, samples.png and duplicates.png to ``folder``; and label_errors.csv and .png.

    label_errors.csv has the labels that are called likely errors alone, so that ``train --relabel`` and ``--exclude`` can take it.
    What an earlier inspection wrote there goes, and where nothing comes in its place that is said: flaws that have been mended
    would go on being shown, and labels that may be right by now be changed.
    """
    earlier = _cleared(folder)
    write_json(folder / "audit.json", json_record(record))
    tables = {name: record[name] for name in ("duplicates", "odd")}
    if record["label_errors"] is not None:
        tables["label_errors"] = [row for row in record["label_errors"]["rows"] if row["likely"]]
    for name, rows in tables.items():
        write_text(folder / f"{name}.csv", _table(rows, _COLUMNS[name]))
    try:
        _draw(record, source, folder)
    except UserError as error:  # the base install draws nothing
        say(f"{error.message} The figures are in {folder / 'audit.json'}.", "yellow")
    if gone := [name for name in earlier if not (folder / name).exists()]:
        say(f"Removed from {folder}, where an earlier inspection had left it: {', '.join(gone)}.")


#: What an inspection writes beside its record.
_BESIDE = ("duplicates.csv", "odd.csv", "label_errors.csv", "samples.png", "duplicates.png", "label_errors.png")


def _cleared(folder: Path) -> list[str]:
    """Remove the tables and pictures of an earlier inspection, and name them. Its record stays until it is replaced."""
    there = [name for name in _BESIDE if (folder / name).is_file()]
    for name in there:
        (folder / name).unlink()
    return there


_COLUMNS = {
    "duplicates": ("a", "split_a", "class_a", "b", "split_b", "class_b", "mirrored", "likeness", "same_content"),
    "odd": ("id", "split", "class", "what", "value"),
    "label_errors": ("id", "split", "class", "suggested", "score", "p_given", "p_suggested", "likely"),
}


def _table(rows: Sequence[Record], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _draw(record: Record, source: Source, folder: Path) -> None:
    from frostline.plots import sample_grid

    first = next(iter(source.sets.values()))
    labels = range(min(len(first.classes), MOST_CLASSES))
    chosen = [row for label in labels for row in np.flatnonzero(first.labels == label)[:SAMPLES]]
    if chosen:
        titles = [first.classes[first.labels[row]] for row in chosen]
        sample_grid([_shown(first, int(row)) for row in chosen], titles, folder / "samples.png", f"{source.name}: {first.name}")
    places = {(images.name, str(name)): (images, row) for images in source.sets.values() for row, name in enumerate(images.ids)}
    listed = (record["label_errors"] or {"rows": []})["rows"]
    if wrong := [row for row in listed if row["likely"]][:SHOWN]:  # of others the network does not say what they are
        titles = [f"{row['class']} → {row['suggested']}" for row in wrong]
        shown = [_shown(*places[row["split"], row["id"]]) for row in wrong]
        sample_grid(shown, titles, folder / "label_errors.png", f"{source.name}: given class → what the network says", columns=8)
    if pairs := record["duplicates"][:SHOWN]:
        ends = [(pair[f"split_{end}"], pair[end], pair[f"class_{end}"]) for pair in pairs for end in "ab"]
        shown = [_shown(*places[split, name]) for split, name, _ in ends]
        titles = [f"{split}: {label}" for split, _, label in ends]
        sample_grid(shown, titles, folder / "duplicates.png", f"{source.name}: nearly the same, in twos", columns=8)


def _shown(images: ImageSet, row: int) -> NDArray[np.uint8]:
    """An image as a picture shows it."""
    return images.pixels[row] if images.pixels is not None else read_row(images, row, _SHOW)
