"""From rows that claim "this file shows this class" to a Source: checked, mapped to one class list, everything counted."""

from __future__ import annotations

import os
import re
import struct
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import UNKNOWN, ImageSet, Reject, Source
from frostline.data.statindex import Checked, check_files
from frostline.decode import BadImage, decode_rgb
from frostline.environment import cores
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


#: What Python does not call printable and yet people write, beside spaces of all kinds: the joiners of Persian letters, of emoji.
_JOINERS = "\u200c\u200d"


def shown(path: str | os.PathLike[str]) -> str:
    """A path as one printable line of valid Unicode; different paths stay different."""
    text = os.fspath(path).replace("\\", "\\\\" if os.sep == "/" else "/")
    return "".join(char if _is_shown(char) else char.encode("unicode_escape", "backslashreplace").decode() for char in text)


def _is_shown(char: str) -> bool:
    """macOS writes narrow spaces into the names of its pictures of the screen."""
    return char.isprintable() or char in _JOINERS or unicodedata.category(char) == "Zs"


def class_name(text: str) -> str:
    """A folder's or cell's class name: trimmed, on one line, composed (NFC), because file systems disagree on how to write an é."""
    return " ".join(line.strip() for line in unicodedata.normalize("NFC", text).splitlines()).strip()


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names, numbers within them by value: "2" before "10", "img9" before "img10"."""

    def key(name: str) -> tuple[list[str | tuple[int, str]], str]:
        parts = re.split(r"([0-9]+)", name.casefold())
        return [by_value(part) if number % 2 else part for number, part in enumerate(parts)], name

    def by_value(digits: str) -> tuple[int, str]:  # Python makes no number of thousands of them
        return len(digits.lstrip("0")), digits.lstrip("0")

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
    unusable = [row for row in found.rows if checked[row.path].reason]
    rejects = [*found.rejects, *(Reject(row.where, checked[row.path].reason, row.split) for row in unusable)]
    kept = [row for row in found.rows if not checked[row.path].reason]
    if not kept:
        listed = "; ".join(f"{reject.path}: {reject.reason}" for reject in rejects[:3])
        hint = f"paths in a table are relative to its folder, {place.parent}" if place.is_file() and found.rows else ""
        raise UserError(f"{name} holds no usable image.", received=listed or "nothing that could be an image", hint=hint)
    classes = _classes(name, kept) if training else natural_order(row.label for row in kept)
    kept, unknown = _without_unknown(kept, classes, unknown_as_wrong)
    size = _common_small_size([checked[row.path] for row in _learned(kept)], small)
    sets = {
        split: _image_set(split, [row for row in kept if row.split == split], classes, checked, (size, small), found.grouped)
        for split in ("train", "validation", "test")
        if any(row.split == split for row in kept)
    }
    said = [*found.notes, *notes, *_empty_classes(found.declared, classes)]
    if size and any(images.files for images in sets.values()):
        said.append(
            f"test: not all of its images are {size[1]}×{size[0]} pixels, as those of training are; they are brought to that."
        )
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
    reason = "class {!r} is unknown to training: validation cannot use it"
    rejects = [Reject(row.where, reason.format(row.label), row.split) for row in dropped]
    return [row for row in kept if row not in dropped], sorted(rejects, key=lambda reject: reject.path)


def _learned(kept: list[Row]) -> list[Row]:
    """The rows that training reads, for what it makes of its images must not depend on test's; where there are none, all."""
    known = {row.label for row in kept if row.split == "train"}
    return [row for row in kept if row.split != "test" and row.label in known] or kept


def _common_small_size(checked: Sequence[Checked], small: int) -> tuple[int, int] | None:
    sizes = {(entry.height, entry.width) for entry in checked}
    size = sizes.pop()
    return size if not sizes and max(size) <= small else None


def _image_set(
    split: str,
    rows: list[Row],
    classes: tuple[str, ...],
    checked: dict[Path, Checked],
    sizes: tuple[tuple[int, int] | None, int],
    grouped: bool,
) -> ImageSet:
    """``sizes``: that of the arrays, where the data are arrays; and the longest side that one may have."""
    number = {name: label for label, name in enumerate(classes)}
    files, (size, small) = tuple(row.path for row in rows), sizes
    looks = [checked[file] for file in files]
    shapes = [(look.height, look.width) for look in looks]
    by_bytes = np.array([bytes.fromhex(look.digest) for look in looks], dtype="S16")
    pixels = _decode_all(files, size) if size and set(shapes) == {size} else None
    by_pixels = pixel_digests(pixels) if pixels is not None else _small_digests(files, shapes, small, by_bytes)
    # beside arrays, a file of their size can hold the very image that one of them is
    as_arrays = np.array([shape == size for shape in shapes])
    return ImageSet(
        name=split,
        classes=classes,
        labels=np.array([number.get(row.label, UNKNOWN) for row in rows], dtype=np.int64),
        ids=np.array([row.id for row in rows]),
        digests=np.where(as_arrays, by_pixels, by_bytes),
        pixels=pixels,
        files=files if pixels is None else None,
        groups=np.array([row.group or f"(no group) {row.id}" for row in rows]) if grouped else None,
        otherwise=np.where(as_arrays, by_bytes, by_pixels),
        sides=np.array(shapes, dtype=np.int64) if pixels is None else None,
        lengths=np.array([look.length for look in looks], dtype=np.int64),
    )


def _decode_all(files: Sequence[Path], size: tuple[int, int]) -> NDArray[np.uint8]:
    pixels = np.empty((len(files), *size, 3), dtype=np.uint8)

    def decode(number: int) -> None:
        pixels[number] = _decoded(files[number], size)

    _in_threads(decode, range(len(files)))
    return pixels


def _small_digests(
    files: Sequence[Path], shapes: Sequence[tuple[int, int]], small: int, others: NDArray[np.bytes_]
) -> NDArray[np.bytes_]:
    """(N,) ``pixel_digests`` of the files that are small enough for arrays, else ``others``; no image is kept."""
    digests = others.copy()

    def digest(number: int) -> None:
        digests[number] = pixel_digests(_decoded(files[number], shapes[number])[None])[0]

    _in_threads(digest, [number for number, shape in enumerate(shapes) if max(shape) <= small])
    return digests


def _decoded(file: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    try:
        pixels = np.asarray(decode_rgb(file))
        if pixels.shape != (*size, 3):
            raise ValueError(f"{pixels.shape} in place of {(*size, 3)}")
    except (BadImage, ValueError) as error:
        raise UserError(f"{shown(file)} changed while it was read.", received=str(error)) from error
    return pixels


def _in_threads(work: Callable[[int], None], numbers: Iterable[int]) -> None:
    with ThreadPoolExecutor(cores()) as pool:
        for _ in pool.map(work, numbers):
            pass


def _empty_classes(declared: Iterable[str], classes: tuple[str, ...]) -> list[str]:
    return [
        f"The class folder {name!r} holds no usable image; it is not a class."
        for name in natural_order(declared)
        if name not in classes
    ]
