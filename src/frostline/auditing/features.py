"""What a pretrained network adds to a look at the data: likely label errors, more near duplicates, images unlike all others.

Nothing is changed. Legend: N images, D features, K classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frostline.anytime import FeatureTable
from frostline.auditing import audit as pixels
from frostline.auditing.audit import Record
from frostline.auditing.label_errors import FOLDS, cleanlab, folds_of, likely_errors, out_of_fold, suggestions, surprise
from frostline.auditing.neighbours import neighbours
from frostline.choosing import choose
from frostline.config import Settings
from frostline.data.imageset import ImageSet, Source
from frostline.data.units import with_common_digests
from frostline.errors import UserError
from frostline.feature_cache import from_stored, in_storage_type, in_use
from frostline.files import scratch_array
from frostline.frozen import Frozen, freeze
from frostline.inside import check_unseen
from frostline.linear import CHUNK
from frostline.progress import say, stage

Floats = NDArray[np.float32]

#: Share of the images that is listed, however few are called likely.
LISTED = 0.02
#: Views whose features are averaged: the image and its mirror. Twice the extraction; label errors are told apart better, and
#: mirrored copies are found (docs/log.md).
VIEWS = 2
#: Typical deviations above the middle distance to its nearest others at which an image is unlike all others.
FAR = 3.0


def settings_for(backbone: str | None, weights: str | None, device: str | None) -> Settings | None:
    """The settings of the network that is to look at the images; None where neither network nor weights are named.

    Raises:
        UserError: a device without a network to run on it.
    """
    if backbone is None and weights is None:
        if device is not None:
            raise UserError("A device is for a network.", received=f"--device {device}", hint="--backbone densenet169")
        return None
    settings = Settings(backbone=backbone) if backbone is not None else choose({"weights": str(weights)})[0]
    return settings.with_values(weights=weights or "", device=device or "auto")


def inspect(source: Source, settings: Settings) -> Record:
    """What ``audit.inspect`` says, and what features add to it.

    Args:
        source: all splits are looked at.
        settings: backbone, weights, image size, device, precision.

    Returns:
        Its record; pairs that are nearly the same are sought among neighbours by features too, ``odd`` has rows of kind "far"
        (value: typical deviations above the middle distance), and ``label_errors`` is what the function of that name returns.

    Raises:
        UserError: cleanlab is not installed, or the network cannot be had.
    """
    cleanlab("count")  # a missing library is said before minutes of extraction
    sets = list(source.sets.values())
    for images in sets:  # it has learned their labels, wrong ones too
        check_unseen(images, settings.backbone)
    features = features_of(sets, settings)
    around = neighbours(features)
    record = pixels.inspect(source, around.pairs)
    errors = {"backbone": settings.backbone, **label_errors(sets, np.split(features, _starts(sets)[1:]))}
    return {**record, "odd": [*record["odd"], *_far(sets, around.far())], "label_errors": errors}


def features_of(sets: Sequence[ImageSet], settings: Settings) -> Floats:
    """(N, D) features of all sets in turn, through the cache, the mean over ``VIEWS`` of each image.

    Where none is negative they are compressed as a linear head's are, before the mean.
    """
    frozen = freeze(settings, sets[0].size)
    for note in frozen.notes:
        say(note)
    with in_use():
        tables = in_storage_type(settings.feature_dtype, lambda dtype: [_table(images, frozen, dtype) for images in sets])
    power = 1.0 if any(_negative(table) for table in tables) else settings.power
    features = scratch_array((sum(map(len, sets)), frozen.width), np.dtype(np.float32))
    for table, start in zip(tables, _starts(sets), strict=True):
        table.averaged(power, features[start : start + table.count])
    return features


def _starts(sets: Sequence[ImageSet]) -> list[int]:
    """The first row of each set where all stand one after the other."""
    return [sum(map(len, sets[:number])) for number in range(len(sets))]


def _negative(table: FeatureTable) -> bool:
    blocks = range(0, table.count, CHUNK)
    return any((from_stored(table.features[start : start + CHUNK], table.dtype) < 0).any() for start in blocks)


def _table(images: ImageSet, frozen: Frozen, dtype: str) -> FeatureTable:
    table, caches = FeatureTable(len(images), VIEWS, frozen.width, dtype), frozen.caches(range(VIEWS), dtype)
    with stage(f"features of {images.name}", len(images)) as bar:
        for block in frozen.extract(images, np.arange(len(images)), caches):
            table.add(block)
            bar.advance(len(block.rows))
    return table


@dataclass(frozen=True)
class _Rows:
    """Rows of several sets as one: labels count ``classes`` alone, those that can be judged."""

    names: NDArray[np.str_]
    splits: NDArray[np.str_]
    digests: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    features: Floats


def label_errors(sets: Sequence[ImageSet], features: Sequence[Floats]) -> Record:
    """Likely label errors of all splits.

    Train and validation are judged by heads trained on the other folds of both; test by the same heads, which never see it. Where
    there is only a test split it is judged by folds of its own.

    Args:
        sets: the splits of a source.
        features: of each (N, D).

    Returns:
        learned_from (splits), judged (images), accuracy (of the out-of-fold heads, by the given labels), l2, estimated (number of
        errors), not_judged (images by class, where a class has too few different ones), rows: id, split, class, suggested, score
        (nats of surprise at the given class), p_given, p_suggested, likely; those called likely and at least 2 % of the images,
        the most surprising first.
    """
    own = [images.name for images in sets if images.name != "test"] or [images.name for images in sets]
    pairs = list(zip(with_common_digests(sets), features, strict=True))  # nobody votes on an image of his own, however it is kept
    learned, other = ([pair for pair in pairs if (pair[0].name in own) == side] for side in (True, False))
    classes, few = _classes([images for images, _ in learned])
    about: Record = {"learned_from": own, "judged": 0, "accuracy": None, "l2": None, "estimated": 0, "not_judged": few, "rows": []}
    if len(classes) < 2:
        return about
    names = [sets[0].classes[label] for label in classes]
    ours = _rows(learned, classes)
    found = out_of_fold(ours.features, ours.labels, len(classes), folds_of(ours.labels, ours.digests), ours.digests)
    accuracy = float((found.log_p.argmax(axis=1) == ours.labels).mean())
    parts, log_p = [ours], found.log_p
    if other:
        parts.append(theirs := _rows(other, classes))
        log_p = np.concatenate([log_p, found.others(theirs.features, theirs.digests)])
    rows = _listed(parts, log_p, names)
    estimated = sum(row["likely"] for row in rows)
    return {**about, "judged": len(log_p), "accuracy": accuracy, "l2": found.l2, "estimated": estimated, "rows": rows}


def _classes(sets: Sequence[ImageSet]) -> tuple[list[int], dict[str, int]]:
    """Labels of classes with an image for every fold; and how many images the others have."""
    content = {
        (label, digest) for images in sets for label, digest in zip(images.labels.tolist(), images.digests.tolist(), strict=True)
    }
    different = Counter(label for label, _ in content)
    judged = [label for label in range(len(sets[0].classes)) if different[label] >= FOLDS]
    images = Counter(label for each in sets for label in each.labels.tolist())
    return judged, {sets[0].classes[label]: count for label, count in sorted(images.items()) if label not in judged and label >= 0}


def _rows(parts: Sequence[tuple[ImageSet, Floats]], classes: Sequence[int]) -> _Rows:
    """The rows of some sets whose classes are among ``classes``."""
    number = np.full(len(parts[0][0].classes) + 1, -1)  # the last for ``UNKNOWN``
    number[list(classes)] = np.arange(len(classes))
    kept = [number[images.labels] >= 0 for images, _ in parts]
    chosen = [(images.take(rows), x if rows.all() else x[rows]) for (images, x), rows in zip(parts, kept, strict=True)]
    return _Rows(
        np.concatenate([images.ids for images, _ in chosen]),
        np.concatenate([np.full(len(images), images.name) for images, _ in chosen]),
        np.concatenate([images.digests for images, _ in chosen]),
        np.concatenate([number[images.labels] for images, _ in chosen]),
        chosen[0][1] if len(chosen) == 1 else np.concatenate([x for _, x in chosen]),
    )


def _listed(parts: Sequence[_Rows], log_p: Floats, names: Sequence[str]) -> list[Record]:
    """What ``label_errors`` has under ``rows``, of all parts together."""
    ids, splits, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("names", "splits", "labels"))
    likely, score, other = likely_errors(log_p, labels), surprise(log_p, labels), suggestions(log_p, labels)
    order = np.argsort(-score, kind="stable")
    listed = [row for place, row in enumerate(order.tolist()) if likely[row] or place < LISTED * len(order)]
    return [
        {
            "id": str(ids[row]),
            "split": str(splits[row]),
            "class": names[labels[row]],
            "suggested": names[other[row]],
            "score": round(float(score[row]), 4),
            "p_given": round(float(np.exp(-score[row])), 6),
            "p_suggested": round(float(np.exp(log_p[row, other[row]])), 6),
            "likely": bool(likely[row]),
        }
        for row in listed
    ]


def _far(sets: Sequence[ImageSet], values: Floats) -> list[Record]:
    places = [(images, row) for images in sets for row in range(len(images))]
    return [
        {
            "id": str(images.ids[row]),
            "split": images.name,
            "class": images.classes[images.labels[row]] if images.labels[row] >= 0 else "",
            "what": "far",
            "value": round(float(value), 3),
        }
        for (images, row), value in zip(places, values, strict=True)
        if value > FAR
    ]
