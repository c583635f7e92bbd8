"""From a Source to train, validation and test that share no image content and divide no group."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import UNKNOWN, ImageSet, Source, Splits
from frostline.data.units import Units, unit_numbers, units_of
from frostline.errors import UserError

#: A cut that takes more than this many times the images wanted has failed: groups (or copies) are too coarse.
_TOO_COARSE = 3


def split(
    source: Source, *, seed: int = 0, validation_fraction: float = 0.1, validation_max: int = 5000, cut_test: bool = True
) -> Splits:
    """Disjoint train, validation and test.

    Validation is the source's own, else cut from train: stratified, min(``validation_fraction`` * N, ``validation_max``) images,
    at least one of each class that can spare one; a class with several images always keeps some in train. Where there is no test
    split, and the source is no published set that has one, test is cut in the same way first. Which images are cut depends on
    the seed, their content and labels, not on file names or order. Images of one content, and of one group, stay together.

    Content that stands in several declared splits leaves train for validation's sake, and test for either's: what is learned
    never depends on test, not even on which images are in it. The same goes for groups.

    Args:
        source: what was loaded.
        seed: another seed, another cut.
        validation_fraction: share of the training images in (0, 1).
        validation_max: images.
        cut_test: False: the result has no test split unless the source has one.

    Raises:
        UserError: too few images, or groups too coarse to cut.
    """
    notes = list(source.notes)
    sets, dropped = _without_shared(source.sets, notes)
    _check_not_empty(source, sets)
    cut: dict[str, Any] = {}
    for name in ("test", "validation"):
        if name in sets or (name == "test" and (source.official or not cut_test)):
            continue
        wanted = round(min(validation_fraction * len(sets["train"]), validation_max))
        sets["train"], sets[name] = _cut(sets["train"], name, max(wanted, 1), seed, notes)
        cut[name] = {"from": "train", "images": len(sets[name]), "wanted": max(wanted, 1), "seed": seed}
    notes += _contradictions(sets["train"])
    for images in sets.values():
        notes += _class_notes(images)
    record = {
        "source": source.name,
        "published": source.name.partition(":")[0] if source.official else "",
        "options": {
            "seed": seed,
            "validation_fraction": validation_fraction,
            "validation_max": validation_max,
            "group": source.group,
        },
        "found": source.found,
        "rejected": len(source.rejects),
        "counts": {name: class_counts(images) for name, images in sets.items()},
        "fingerprints": {name: images.fingerprint for name, images in sets.items()},
        "source_fingerprints": source.fingerprints,
        "cut": cut,
        "dropped": dropped,
        "notes": notes,
    }
    return Splits(sets["train"], sets["validation"], sets.get("test"), record)


def _without_shared(sets: Mapping[str, ImageSet], notes: list[str]) -> tuple[dict[str, ImageSet], dict[str, Any]]:
    kept, dropped = dict(sets), {}
    for loser, winner in (("train", "validation"), ("test", "train"), ("test", "validation")):
        if loser not in kept or winner not in kept:
            continue
        same = _identical(kept[loser], kept[winner])
        related = _in_groups_of(kept[loser], kept[winner]) & ~same
        linked = _linked(kept[loser], same | related)
        kinds = (
            "identical to images",
            "of the same groups as images",
            "copies of, or grouped with, those that are left out for images",
        )
        for shared, what in zip((same, related, linked), kinds, strict=True):
            if shared.any():
                ids = kept[loser].ids[shared].tolist()
                dropped[f"{loser}, {what} in {winner}"] = {"images": len(ids), "ids": ids}
                notes.append(f"{len(ids):,} images of {loser} are {what} in {winner}, and were left out of {loser}: {_list(ids)}.")
        kept[loser] = kept[loser].take(~(same | related | linked))
    return kept, dropped


def _identical(images: ImageSet, others: ImageSet) -> NDArray[np.bool_]:
    """(N,) which images are among the others, by their bytes or, where both are small, by their pixels."""
    same: NDArray[np.bool_] = np.isin(images.digests, others.digests)
    if images.otherwise is not None and others.otherwise is not None:
        same |= np.isin(images.otherwise, others.otherwise)
    return same


def _linked(images: ImageSet, direct: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,) which other images belong together with those that are shared: a copy of an image of a shared group, say."""
    if not direct.any() or (images.groups is None and images.otherwise is None):
        return np.zeros(len(images), dtype=bool)
    units = unit_numbers(images)
    return np.isin(units, units[direct]) & ~direct


def _list(ids: list[str]) -> str:
    return ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")


def _in_groups_of(images: ImageSet, others: ImageSet) -> NDArray[np.bool_]:
    if images.groups is None or others.groups is None:
        return np.zeros(len(images), dtype=bool)
    return np.isin(images.groups, others.groups)


def _check_not_empty(source: Source, sets: Mapping[str, ImageSet]) -> None:
    for name, images in sets.items():
        if not len(images):
            received = f"all {len(source.sets[name]):,} of its images also stand in another split"
            raise UserError(
                f"Nothing is left of {name} in {source.name}.", expected="splits of different images", received=received
            )


def _cut(train: ImageSet, name: str, wanted: int, seed: int, notes: list[str]) -> tuple[ImageSet, ImageSet]:
    """Train without the images that go to ``name``, and those; both in train's order."""
    units = units_of(train)
    order = _shuffled(train, units, f"{name}/{seed}")
    quotas = _quotas(units, len(train.classes), wanted)
    taken = _choose(units, order, quotas)
    mask = np.zeros(len(train), dtype=bool)
    for unit in taken:
        mask[units.rows[unit]] = True
    _check_cut(train, name, mask, int(quotas.sum()), len(units.rows), wanted)
    if mask.sum() != wanted:
        notes.append(f"{name}: {mask.sum():,} images were cut where {wanted:,} were wanted, so that {_WHY}.")
    return train.take(~mask), train.take(mask, name)


_WHY = "every class is in each split and copies and groups stay together"


def _check_cut(train: ImageSet, name: str, mask: NDArray[np.bool_], wanted: int, units: int, asked: int) -> None:
    taken = int(mask.sum())
    if taken and taken < len(mask) and taken <= _TOO_COARSE * max(wanted, 1):
        return
    raise UserError(
        f"No {name} split of about {max(wanted, asked):,} images can be cut from {len(train):,} training images.",
        expected="enough images that are neither copies of each other nor of one group, in every class",
        received=f"{units:,} sets that must stay whole" + (f"; the best cut takes {taken:,} images" if taken else ""),
        hint="finer groups, more images, or a split column that says where each image belongs",
    )


def _shuffled(images: ImageSet, units: Units, stream: str) -> list[int]:
    """The units in an order that only their content and the stream's name decide."""
    salt = hashlib.blake2b(stream.encode(), digest_size=16).digest()

    def key(unit: int) -> bytes:
        least = min(images.digests[units.rows[unit]].tolist())
        return hashlib.blake2b(least, digest_size=16, salt=salt).digest()

    return sorted(range(len(units.rows)), key=key)


def _quotas(units: Units, classes: int, wanted: int) -> NDArray[np.int64]:
    """(K,) images to take of each class: in proportion (largest remainder), at least one where two units hold the class."""
    total, holders = np.zeros(classes, dtype=np.int64), np.zeros(classes, dtype=np.int64)
    for counts in units.counts:
        for label, count in counts.items():
            total[label] += count
            holders[label] += 1
    least = (holders >= 2).astype(np.int64)
    most = np.where(holders >= 2, total - 1, 0)
    ideal = total * (wanted / total.sum())
    quotas: NDArray[np.int64] = np.clip(np.floor(ideal).astype(np.int64), least, most)
    wanted = min(max(wanted, int(least.sum())), int(most.sum()))
    while (missing := wanted - int(quotas.sum())) != 0:
        if missing > 0:
            quotas[np.argmax(np.where(quotas < most, ideal - quotas, -np.inf))] += 1
        else:
            quotas[np.argmin(np.where(quotas > least, ideal - quotas, np.inf))] -= 1
    return quotas


def _choose(units: Units, order: list[int], quotas: NDArray[np.int64]) -> list[int]:
    """Units that fill the quotas: each is taken that brings the class counts closer; then one for each class still without."""
    left = quotas.tolist()
    stays = _class_totals(units, len(left))
    taken: dict[int, None] = {}

    def take(unit: int) -> None:
        taken[unit] = None
        for label, count in units.counts[unit].items():
            left[label] -= count
            stays[label] -= count

    def allowed(unit: int) -> bool:
        return all(stays[label] > count for label, count in units.counts[unit].items())

    for unit in order:
        gain = sum(abs(left[label]) - abs(left[label] - count) for label, count in units.counts[unit].items())
        if gain > 0 and allowed(unit):
            take(unit)
    for label in np.flatnonzero(quotas).tolist():
        if left[label] < quotas[label]:
            continue
        free = [unit for unit in order if label in units.counts[unit] and unit not in taken and allowed(unit)]
        if free:
            take(min(free, key=lambda unit: sum(units.counts[unit].values())))
    return list(taken)


def _class_totals(units: Units, classes: int) -> list[int]:
    totals = [0] * classes
    for counts in units.counts:
        for label, count in counts.items():
            totals[label] += count
    return totals


def _contradictions(train: ImageSet) -> list[str]:
    """Images of one content under different labels are kept (they may show two things), and said."""
    content = np.unique(train.digests, return_inverse=True)[1]
    pairs = np.unique(np.stack([content, train.labels]), axis=1)
    torn = int((np.bincount(pairs[0]) > 1).sum())
    return [f"train: {torn:,} images stand under several labels."] if torn else []


def _class_notes(images: ImageSet) -> list[str]:
    counts, unknown = _count(images)
    absent = [name for name, count in zip(images.classes, counts, strict=True) if not count]
    notes = [f"{images.name}: {unknown:,} images of classes that training lacks; every answer to them is wrong."] if unknown else []
    if len(absent) == len(counts) - 1:
        return [*notes, f"{images.name}: all its images are of one class, {images.classes[np.argmax(counts)]!r}."]
    if absent:
        more = ", …" if len(absent) > 10 else ""
        so = "; a model hardly ever answers with what it has not been shown" if images.name == "train" else ""
        notes.append(
            f"{images.name}: no image of {len(absent)} of {len(counts)} classes: {', '.join(map(repr, absent[:10]))}{more}{so}."
        )
    return notes


def class_counts(images: ImageSet) -> dict[str, Any]:
    """Images in all and of each class, as the record of a split has them."""
    counts, unknown = _count(images)
    by_class = dict(zip(images.classes, counts, strict=True))
    return {"images": len(images), "classes": by_class, **({"unknown": unknown} if unknown else {})}


def _count(images: ImageSet) -> tuple[list[int], int]:
    """Images of each of the K classes, and of unknown ones."""
    known = images.labels[images.labels != UNKNOWN]
    counts: list[int] = np.bincount(known, minlength=len(images.classes)).tolist()
    return counts, len(images) - len(known)
