"""What stands before an image's pixels, read without copying what is named twice: tags, orientation, a GIF's comments.

Pillow reads all of it, in time and memory that grow with what the bytes claim and not with how many there are.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

#: Bytes of a value of each of TIFF's types.
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
#: Those of whole numbers, for ``struct``.
_WHOLE = {3: "H", 4: "L", 8: "h", 9: "l", 13: "L", 16: "Q"}
_ORIENTATION = 0x0112
#: Tags that lead to further ones: of Exif, of GPS, of interoperability.
_FOLDERS = (0x8769, 0x8825, 0xA005)
_EXIF = b"Exif\0\0"
_IN_XMP = re.compile(r'tiff:Orientation(?:="|>)([0-9])')
#: JPEG's markers that stand alone.
_SCAN = 0xDA
_ALONE = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})


def exif_of_jpeg(jpeg: bytes) -> bytes:
    """The Exif data before a JPEG's first scan, its parts joined, as Pillow (12.3) finds and joins them; empty without any."""
    at, parts = 2, []
    while at + 4 <= len(jpeg):
        marker = jpeg[at + 1]
        if jpeg[at] != 0xFF or marker == 0xFF:
            at += 1
        elif marker == 0 or marker in _ALONE:
            at += 2
        elif marker < 0xC0 or marker == _SCAN:
            break
        else:
            length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
            if marker == 0xE1 and jpeg.startswith(_EXIF, at + 4):
                parts.append(jpeg[at + 4 + len(_EXIF) : at + 2 + length])
            at += 2 + length
    return _bare(b"".join(parts))


def tag_bytes(tiff: bytes, enough: int) -> int:
    """Bytes that a TIFF's or an Exif's tags name in all, or those that are more than ``enough``.

    Tags may name the same bytes again and again, and whoever reads them copies them each time.
    """
    total = 0
    for _, _, size, _ in _tags(tiff):
        total += min(size, len(tiff))
        if total > enough:
            break
    return total


def orientation_of(exif: bytes) -> int | None:
    """The orientation that Exif data have, 1 to 8 where they are right; None where they have none."""
    exif = _bare(exif)
    order, found = _order(exif), None
    for tag, kind, size, value in _tags(exif, followed=False):
        if tag == _ORIENTATION:
            found = struct.unpack_from(order + _WHOLE[kind], value)[0] if kind in _WHOLE and size == _TYPE_BYTES[kind] else 1
    return found


def _bare(exif: bytes) -> bytes:
    """Without its mark, which some write twice."""
    while exif.startswith(_EXIF):
        exif = exif.removeprefix(_EXIF)
    return exif


def _order(tiff: bytes) -> str:
    return "<" if tiff[:2] == b"II" else ">"


def _tags(tiff: bytes, followed: bool = True) -> Iterator[tuple[int, int, int, bytes]]:
    """Tag, type, size in bytes and what stands in the value's place, of the first folder and, ``followed``, of those it leads to.

    As much as there is of them: a folder that breaks off has fewer.
    """
    big, order = tiff[2:3] == b"+", _order(tiff)  # as Pillow tells BigTIFF
    entry, number, address = (f"{order}HHQ8s", f"{order}Q", f"{order}Q") if big else (f"{order}HHL4s", f"{order}H", f"{order}L")
    folders = {0: struct.unpack_from(address, tiff, 8 if big else 4)[0]} if len(tiff) >= 16 else {}
    for place in (0, *_FOLDERS):  # of a tag that is there twice the last counts, as for Pillow
        if place not in folders:
            continue
        with suppress(struct.error, OverflowError):
            count, at = struct.unpack_from(number, tiff, folders[place])[0], folders[place] + struct.calcsize(number)
            for _ in range(count):
                tag, kind, values, value = struct.unpack_from(entry, tiff, at)
                at += struct.calcsize(entry)
                yield tag, kind, values * _TYPE_BYTES.get(kind, 0), value
                if followed and tag in _FOLDERS and kind in _WHOLE:
                    folders[tag] = max(0, struct.unpack_from(order + _WHOLE[kind], value)[0])


def exif_in(info: Mapping[str | tuple[int, int], Any]) -> bytes:
    """The Exif data among what Pillow has found; empty without any."""
    exif, older = info.get("exif"), "Raw profile type exif"  # ImageMagick's, in hexadecimal behind three lines
    if exif is None and older in info:
        exif = bytes.fromhex("".join(info[older].split("\n")[3:]))
    return exif or b""


def orientation_in_xmp(info: Mapping[str | tuple[int, int], Any]) -> int:
    """The orientation that XMP tells, in Pillow's two places for it; 1 where it tells none."""
    xmp = info.get("XML:com.adobe.xmp") or info.get("xmp") or ""
    found = _IN_XMP.search(xmp if isinstance(xmp, str) else xmp.decode("latin-1"))
    return int(found[1]) if found else 1


#: Sub-blocks, and bytes that are none, before a GIF's first picture; and those of its comments, which Pillow joins one by one.
_MOST_BLOCKS, _MOST_OF_COMMENTS = 1 << 16, 1 << 12


def has_a_long_head(gif: bytes) -> bool:
    """Whether so much stands before a GIF's first picture that reading it, as Pillow (12.3) does, would take minutes."""
    at = 13 + (3 << ((gif[10] & 7) + 1) if len(gif) > 10 and gif[10] & 0x80 else 0)
    blocks = comments = 0

    def block() -> bytes:
        nonlocal at, blocks
        size = gif[at] if at < len(gif) else 0
        found, at, blocks = gif[at + 1 : at + 1 + size], at + 1 + size, blocks + 1
        return found

    while at < len(gif) and gif[at] not in b";," and blocks <= _MOST_BLOCKS and comments <= _MOST_OF_COMMENTS:
        at, blocks, begun = at + 1, blocks + 1, gif[at]
        if begun != 0x21:
            continue
        label, at = gif[at : at + 1], at + 1
        first = block()
        if label == b"\xfe":
            comments += 1
            while first and comments <= _MOST_OF_COMMENTS:
                comments, first = comments + 1, block()
            continue
        if label == b"\xff" and first.startswith(b"NETSCAPE2.0"):
            block()
        while block() and blocks <= _MOST_BLOCKS:
            pass
    return blocks > _MOST_BLOCKS or comments > _MOST_OF_COMMENTS
