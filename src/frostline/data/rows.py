"""From rows that claim "this file shows this class" to a Source: checked, mapped to one class list, everything counted."""

from __future__ import annotations

import os
import re
import struct
import unicodedata
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import UNKNOWN, ImageSet, Reject, Source
from frostline.data.statindex import Checked, check_files
from frostline.decode import BadImage, decode_rgb
from frostline.errors import UserError
from frostline.files import digest_bytes

#: What folders and table cells may call the three splits (any case).
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


class Row(NamedTuple):
    """One image file that is said to show one class.

    Attributes:
        split: "train", "validation" or "test".
        label: the class name.
        path: the file.
        id: its name in the set; unique within the split.
        where: its name in the list of rejects (tables: with the row's number).
        group: images of one group are never divided between splits; empty: no group.
    """

    split: str
    label: str
    path: Path
    id: str
    where: str
    group: str = ""


@dataclass
class Found:
    """What a folder or table holds, before any file was opened. ``declared``: train's class folders, empty ones included."""

    rows: list[Row] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    declared: list[str] = field(default_factory=list)
    grouped: bool = False


def shown(path: str | os.PathLike[str]) -> str:
    """A path as one printable line of valid Unicode; different paths stay different."""
    text = os.fspath(path).replace("\\", "\\\\" if os.sep == "/" else "/")
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in text)


def class_name(text: str) -> str:
    """A folder's or cell's class name: trimmed, and composed (NFC), because file systems disagree on how to write an é."""
    return unicodedata.normalize("NFC", text).strip()


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names, numbers within them by value: "2" before "10", "img9" before "img10"."""

    def key(name: str) -> tuple[list[str | int], str]:
        parts = re.split(r"([0-9]+)", name.casefold())
        return [int(part) if number % 2 else part for number, part in enumerate(parts)], name

    return tuple(sorted(set(names), key=key))


def pixel_digests(pixels: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """(N,) digests of arrays (N, H, W, 3): of H, W and the pixels."""
    head = struct.pack("<II", *pixels.shape[1:3])
    return np.array([digest_bytes16(head, np.ascontiguousarray(image)) for image in pixels], dtype="S16")


def digest_bytes16(*parts: bytes | NDArray[np.uint8]) -> bytes:
    """BLAKE2b-128 of the parts, as 16 bytes."""
    return bytes.fromhex(digest_bytes(*(part if isinstance(part, bytes) else part.data for part in parts)))


def build_source(name: str, place: Path, found: Found, *, unknown_as_wrong: bool, small: int, training: bool = True) -> Source:
    """Check every file and make the Source.

    To judge a model (``training`` false) no training images and no two classes are needed: the classes are those of all splits.

    A class that training lacks is an error. With ``unknown_as_wrong`` its test images get the label ``UNKNOWN`` and count as wrong;
    its validation images are rejected and listed, since nothing can be chosen on an answer that no model can give.
    """
    checked, notes = check_files(place, [row.path for row in found.rows])
    rejects = [*found.rejects, *(Reject(row.where, checked[row.path].reason) for row in found.rows if checked[row.path].reason)]
    kept = [row for row in found.rows if not checked[row.path].reason]
    if not kept:
        listed = "; ".join(f"{reject.path}: {reject.reason}" for reject in rejects[:3])
        raise UserError(f"{name} holds no usable image.", received=listed or "nothing that could be an image")
    classes = _classes(name, kept) if training else natural_order(row.label for row in kept)
    kept, unknown = _without_unknown(kept, classes, unknown_as_wrong)
    size = _common_small_size([checked[row.path] for row in kept], small)
    sets = {
        split: _image_set(split, [row for row in kept if row.split == split], classes, checked, size, found.grouped)
        for split in ("train", "validation", "test")
        if any(row.split == split for row in kept)
    }
    said = [*found.notes, *notes, *_empty_classes(found.declared, classes)]
    rejects += unknown
    return Source(name, sets, False, tuple(rejects), tuple(said), len(found.rows) + len(found.rejects))


def _classes(name: str, kept: Sequence[Row]) -> tuple[str, ...]:
    classes = natural_order(row.label for row in kept if row.split == "train")
    if not classes:
        raise UserError(f"{name} has no usable training image.", expected="images of at least two classes in train")
    if len(classes) == 1:
        raise UserError(f"{name} has a single class in training.", expected="at least two classes", received=repr(classes[0]))
    return classes


def _without_unknown(kept: list[Row], classes: tuple[str, ...], as_wrong: bool) -> tuple[list[Row], list[Reject]]:
    known = set(classes)
    strange = [row for row in kept if row.label not in known]
    if strange and not as_wrong:
        names = sorted({row.label for row in strange})
        raise UserError(
            f"{strange[0].split.capitalize()} has images of classes that training lacks.",
            expected=f"the {len(classes)} classes of train",
            received=f"{', '.join(map(repr, names[:10]))} ({len(strange):,} images, the first {strange[0].where})",
            hint="--unknown-as-wrong keeps such test images and counts every answer to them as wrong",
        )
    dropped = {row for row in strange if row.split == "validation"}
    rejects = [Reject(row.where, f"class {row.label!r} is unknown to training: validation cannot use it") for row in dropped]
    return [row for row in kept if row not in dropped], sorted(rejects, key=lambda reject: reject.path)


def _common_small_size(checked: Sequence[Checked], small: int) -> tuple[int, int] | None:
    sizes = {(entry.height, entry.width) for entry in checked}
    size = sizes.pop()
    return size if not sizes and max(size) <= small else None


def _image_set(
    split: str, rows: list[Row], classes: tuple[str, ...], checked: dict[Path, Checked], size: tuple[int, int] | None, grouped: bool
) -> ImageSet:
    number = {name: label for label, name in enumerate(classes)}
    files = tuple(row.path for row in rows)
    pixels = _decode_all(files, size) if size else None
    looks = [checked[file] for file in files]
    digests = np.array([bytes.fromhex(look.digest) for look in looks], dtype="S16")
    return ImageSet(
        name=split,
        classes=classes,
        labels=np.array([number.get(row.label, UNKNOWN) for row in rows], dtype=np.int64),
        ids=np.array([row.id for row in rows]),
        digests=digests if pixels is None else pixel_digests(pixels),
        pixels=pixels,
        files=files if pixels is None else None,
        groups=np.array([row.group or f"(no group) {row.id}" for row in rows]) if grouped else None,
        sides=np.array([(look.height, look.width) for look in looks], dtype=np.int64) if pixels is None else None,
        lengths=np.array([look.length for look in looks], dtype=np.int64),
    )


def _decode_all(files: Sequence[Path], size: tuple[int, int]) -> NDArray[np.uint8]:
    pixels = np.empty((len(files), *size, 3), dtype=np.uint8)

    def decode(number: int) -> None:
        try:
            pixels[number] = np.asarray(decode_rgb(files[number]))
        except (BadImage, ValueError) as error:
            raise UserError(f"{shown(files[number])} changed while it was read.", received=str(error)) from error

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for _ in pool.map(decode, range(len(files))):
            pass
    return pixels


def _empty_classes(declared: Iterable[str], classes: tuple[str, ...]) -> list[str]:
    return [
        f"The class folder {name!r} holds no usable image; it is not a class."
        for name in natural_order(declared)
        if name not in classes
    ]
