"""Small drawn images, as bytes and as files, for the tests of this folder."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def drawn(seed: int, height: int = 80, width: int = 100) -> Image.Image:
    """A smooth colourful image; another seed, another image."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def put(path: Path, data: bytes, age_s: float = 60) -> Path:
    """Write a file that has not been touched for a minute."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    then = path.stat().st_mtime - age_s
    os.utime(path, (then, then))
    return path


def class_folders(root: Path, classes: dict[str, int], start: int = 0, **size: int) -> Path:
    """Folders of drawn JPEGs: as many as said of each class, all different."""
    seed = start
    for name, count in classes.items():
        for number in range(count):
            put(root / name / f"{number}.jpg", encoded(drawn(seed, **size)))
            seed += 1
    return root


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A valid header of a huge black image, and the first rows of it, in a few kilobytes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes((1 + 3 * width) * 8), 9)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def tinted_folders(root: Path, classes: list[str], count: int, start: int = 0, height: int = 24, width: int = 24) -> Path:
    """Folders of drawn PNGs whose classes can be told apart: each is tinted in a colour of its own, and none is like another."""
    colours = np.random.default_rng(7).integers(0, 256, (len(classes), 3))
    for number, name in enumerate(classes):
        for image in range(count):
            pixels = np.asarray(drawn(1000 * number + start + image, height, width), np.float64)
            tinted = (0.3 * pixels + 0.7 * colours[number]).astype(np.uint8)
            put(root / name / f"{image}.png", encoded(Image.fromarray(tinted), "PNG"))
    return root
