"""Two hundred drawn images of all formats, modes and sizes, on which every way to an answer must agree ("one truth")."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

#: How many there are.
COUNT = 200
#: (width, height): from 8 to 4,000 pixels; whole megapixels only where decoding at a reduced size matters.
SIZES = [
    *((8, 8), (32, 32), (64, 64), (65, 64), (9, 30), (31, 33), (100, 80), (160, 160)),
    *((224, 224), (128, 96), (500, 375), (333, 500), (640, 480), (8, 1000), (4000, 8), (97, 211)),
]
LARGE = [(4000, 3000), (2999, 4000), (4000, 4000)]
#: (format, mode, options of Pillow's save).
KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("JPEG", "RGB", {"quality": 90}),
    ("JPEG", "RGB", {"quality": 60, "subsampling": 0}),
    ("JPEG", "RGB", {"progressive": True}),
    ("JPEG", "L", {}),
    ("JPEG", "CMYK", {"quality": 95}),
    *(("JPEG", "RGB", {"orientation": number}) for number in range(2, 9)),
    ("MPO", "RGB", {}),
    ("PNG", "RGB", {}),
    ("PNG", "RGBA", {}),
    ("PNG", "L", {}),
    ("PNG", "LA", {}),
    ("PNG", "P", {}),
    ("PNG", "P", {"transparency": 0}),
    ("PNG", "1", {}),
    ("PNG", "I;16", {}),
    ("WEBP", "RGB", {"quality": 80, "method": 0}),
    ("WEBP", "RGBA", {"lossless": True, "method": 0}),
    ("BMP", "RGB", {}),
    ("BMP", "L", {}),
    ("BMP", "P", {}),
    ("BMP", "1", {}),
    ("GIF", "P", {}),
    ("GIF", "P", {"transparency": 0}),
    ("GIF", "P", {"frames": 2}),
    ("TIFF", "RGB", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "RGBA", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", "L", {}),
    ("TIFF", "CMYK", {}),
    ("TIFF", "I;16", {}),
    ("TIFF", "I", {}),
    ("TIFF", "F", {}),
    ("TIFF", "1", {"compression": "group4"}),
]
_ENDINGS = {"JPEG": "jpg", "MPO": "mpo", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "GIF": "gif", "TIFF": "tif"}
_ORIENTATION = 0x0112


@cache
def truth_images() -> dict[str, bytes]:
    """The encoded images by a file name that says what each is; in the order of their names, the same ones each time."""
    made = dict(_made())
    assert len(made) == COUNT
    return dict(sorted(made.items()))


def _made() -> Iterator[tuple[str, bytes]]:
    kinds = [kind for kind in KINDS if kind[0] in ("JPEG", "PNG")]
    large = [(LARGE[number], kinds[0 if number < 2 else 2]) for number in range(len(LARGE))]
    rest = COUNT - len(large)
    usual = [(SIZES[(number + number // len(KINDS)) % len(SIZES)], KINDS[number % len(KINDS)]) for number in range(rest)]
    for number, (size, (form, mode, options)) in enumerate([*large, *usual]):
        said = "".join(f"-{key}-{value}" for key, value in options.items())
        name = f"{number:03d}-{size[0]}x{size[1]}-{mode.replace(';', '_')}{said}.{_ENDINGS[form]}"
        yield name, _encoded(_scene(number, size), form, mode, options)


def _scene(seed: int, size: tuple[int, int]) -> Image.Image:
    """A few colours that flow into one another, with a little grain where that is cheap."""
    rng = np.random.default_rng([13, seed])
    coarse = Image.fromarray(rng.integers(0, 256, (5, 4, 3), dtype=np.uint8))
    scene = coarse.resize(size, Image.Resampling.BILINEAR)
    if size[0] * size[1] > 1_000_000:
        return scene
    grain = rng.integers(-12, 13, (size[1], size[0], 1))
    return Image.fromarray(np.clip(np.asarray(scene, np.int16) + grain, 0, 255).astype(np.uint8))


def _encoded(scene: Image.Image, form: str, mode: str, options: dict[str, Any]) -> bytes:
    image, given, stream = _in_mode(scene, mode), dict(options), io.BytesIO()
    if turn := given.pop("orientation", 0):
        given["exif"] = Image.Exif()
        given["exif"][_ORIENTATION] = turn
    if given.pop("frames", 0) or form == "MPO":
        given.update(save_all=True, append_images=[image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
    image.save(stream, form, **given)
    return stream.getvalue()


def _in_mode(scene: Image.Image, mode: str) -> Image.Image:
    grey = np.asarray(scene.convert("L"))
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 257)
    if mode == "I":
        return Image.fromarray(grey.astype(np.int32) * 1000 - 5000)
    if mode == "F":
        return Image.fromarray(grey.astype(np.float32) / 255)
    if mode in ("RGBA", "LA"):
        clear = scene.convert(mode)
        clear.putalpha(Image.fromarray(255 - grey // 2))
        return clear
    return scene.quantize(64) if mode == "P" else scene.convert(mode)
