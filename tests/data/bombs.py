"""Images of a few bytes that claim, repeat or skip a lot, for those who must not believe them."""

import struct

from drawing import drawn, encoded


def run_length_bmp(width: int, height: int, runs: bytes) -> bytes:
    """A BMP of 8 bits with a palette of one colour, run-length encoded."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 2835, 2835, 1, 1)
    start = 14 + len(info) + 4
    return struct.pack("<2sIHHI", b"BM", start + len(runs), 0, 0, start) + info + b"\0\0\0\0" + runs


def repeating_tags(number: int, size: int, order: str = "<") -> bytes:
    """A TIFF's head and one folder, whose tags all name the same bytes behind it."""
    start = 8 + 2 + 12 * number + 4
    folder = b"".join(struct.pack(f"{order}HHLL", 0xC000 + i, 1, size, start) for i in range(number))
    head = struct.pack(f"{order}2sHL", b"II" if order == "<" else b"MM", 42, 8)
    return head + struct.pack(f"{order}H", number) + folder + bytes(4) + bytes(size)


def with_exif(kind: str, exif: bytes) -> bytes:
    if kind == "JPEG":  # parts of 60 kB, which readers join
        jpeg, parts = encoded(drawn(1), "JPEG"), [exif[at : at + 60_000] for at in range(0, len(exif), 60_000)]
        return jpeg[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", 8 + len(part)) + b"Exif\0\0" + part for part in parts) + jpeg[2:]
    return encoded(drawn(1), kind, exif=exif)


def gif_with(before: bytes) -> bytes:
    """A GIF with other blocks before its picture."""
    gif = encoded(drawn(1), "GIF")
    at = 13 + (3 << ((gif[10] & 7) + 1))
    return gif[:at] + before + gif[at:]
