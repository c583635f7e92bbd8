"""What the bytes of an encoded image tell before anything is decoded: its format, what else it is, how much work a JPEG is."""

from __future__ import annotations

import re

_SIGNATURES = [
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("WEBP", 8, b"WEBP"),
    ("BMP", 0, b"BM"),
    ("GIF", 0, b"GIF87a"),
    ("GIF", 0, b"GIF89a"),
    *(("TIFF", 0, magic) for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
]
# What is often found under an image's name. Only told to the user, never opened.
_OTHERS = [
    ("a HEIC or AVIF image", 4, b"ftyp"),
    ("a JPEG XL image", 0, b"\xff\x0a"),
    ("a JPEG XL image", 4, b"JXL "),
    ("a JPEG 2000 image", 4, b"jP  "),
    ("a Photoshop file", 0, b"8BPS"),
    ("an icon", 0, b"\0\0\1\0"),
    ("a PDF", 0, b"%PDF"),
    ("a ZIP archive", 0, b"PK\3\4"),
    ("a gzip archive", 0, b"\x1f\x8b"),
]
#: How a JPEG's scan begins, and what ends its data: any marker but an escaped byte, a restart and filling.
_SCAN, _MARKER = b"\xff\xda", re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
#: Bytes of a scan's head: the marker, its own length, the components, and what of them it holds.
_SCAN_BYTES = 10


def sniff(head: bytes) -> str:
    """The format ("JPEG", "PNG", …) that a file's first 16 bytes announce; empty when none of those that are read."""
    return next((name for name, at, magic in _SIGNATURES if head[at : at + len(magic)] == magic), "")


def described(head: bytes) -> str:
    """What a file that begins so is instead of an image that is read, in a few words."""
    for name, at, magic in _OTHERS:
        if head[at : at + len(magic)] == magic:
            return f"unsupported format: {name}"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in start:
        return "unsupported format: an SVG drawing"
    if start.startswith((b"<!doctype html", b"<html")):
        return "not an image: an HTML page"
    return "not an image" + (": text" if all(byte in b"\t\n\r\f" or byte >= 32 for byte in head) else "")


def scans_of(jpeg: bytes, enough: int) -> int:
    """Scans of a JPEG up to its end: what lies behind it (a film, a raw image) may look like many more.

    They are counted one by one only where more than ``enough`` bytes look like one, and not at all where there is no room for more.

    Where its segments do not follow one another, decoders look for the next that does, and so all that look like scans count.
    """
    if (most := len(jpeg) // _SCAN_BYTES) <= enough:  # looking for them took a twentieth of a photo's time
        return most
    if (alike := jpeg.count(_SCAN)) <= enough:
        return alike
    at, scans = 2, 0
    while at + 4 <= len(jpeg):
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at] != 0xFF or marker == 0:
            return alike
        if marker == 0xD9:
            break
        if marker == 0xFF:
            at += 1
        elif marker == 1 or 0xD0 <= marker <= 0xD8:
            at += 2
        else:
            at += 2 + length
            if marker == _SCAN[1]:
                scans += 1
                after = _MARKER.search(jpeg, at)
                at = after.start() if after else len(jpeg)
    return scans
