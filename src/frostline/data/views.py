"""Views of an image that are computed once and cached: as it is, mirrored, then drawn ones: shifted, cropped, recoloured, in turn.

Where images must not be mirrored the drawn ones alone follow, none of them mirrored; they have numbers below zero. The parameters
of a view come from (image digest, view number), so that a cached row never depends on what it was cached with.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Views 0 and 1; those after them, and those from −1 down, are drawn, of these kinds in turn.
NAMES = ("image", "mirror")
DRAWN = ("shifted", "cropped", "recoloured")
#: A shifted view is moved each way by at most this share of the side, and at least by one pixel (2 of 32, 14 of 224).
SHARE = 1 / 16
#: A cropped view shows at least this share of each side, enlarged to the whole.
SMALLEST = 0.8
#: Brightness and contrast of a recoloured view differ by at most this, each channel by at most half of it.
STRENGTH = 0.3

Image8 = NDArray[np.uint8]


#: The views that a finished model averages, in order: mirrored or not, and by how many pixels down and right it looks. The
#: first, the first two or all of them. After airbench (Jordan 2024, section 3.5), which weighs the moved ones half.
SERVED = ((False, 0, 0), (True, 0, 0), (False, 1, 1), (False, -1, -1), (True, 1, 1), (True, -1, -1))


def served(number: int, size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which rows and which columns of an image of ``size`` (H, W) its served view ``number`` consists of."""
    mirrored, down, right = SERVED[number]
    rows, columns = (_reflected(np.arange(side) + moved, side) for side, moved in zip(size, (down, right), strict=True))
    return rows, columns[::-1].copy() if mirrored else columns


def _reflected(index: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Indices beyond [0, side) folded back, the outermost pixels not repeated."""
    last = max(side - 1, 1)
    return np.minimum(np.abs((index + last) % (2 * last) - last), side - 1) if side > 1 else np.zeros_like(index)


def cached_numbers(count: int, mirrored: bool) -> list[int]:
    """The numbers of the first ``count`` views, or of the first that are not mirrored."""
    return [number if mirrored else -number for number in range(count)]


def view_name(number: int) -> str:
    """The name that a view has in the cache's key."""
    if 0 <= number < len(NAMES):
        return NAMES[number]
    return f"{_kind(number)}-{number}" if number > 0 else f"{_kind(number)}-{-number}-upright"


def _kind(number: int) -> str:
    return DRAWN[(number - len(NAMES) if number > 0 else -number - 1) % len(DRAWN)]


def seen_as(block: Image8, digests: NDArray[Any], number: int) -> Image8:
    """View ``number`` of the images (B, h, w, 3) whose content digests are ``digests`` (B,)."""
    if number == 0:
        return block
    if number == 1:
        return block[:, :, ::-1]
    return np.stack([_drawn(image, bytes(digest), number) for image, digest in zip(block, digests, strict=True)])


def _drawn(image: Image8, digest: bytes, number: int) -> Image8:
    """Mirrored or not, never below zero; then changed as the view's kind says, by numbers in [0, 1) from the digest."""
    drawn = hashlib.blake2b(digest, digest_size=16, person=b"view", salt=abs(number).to_bytes(8, "little")).digest()
    shares = [int.from_bytes(drawn[start : start + 2], "little") / 2**16 for start in range(1, 15, 2)]
    changes = {"shifted": _shifted, "cropped": _cropped, "recoloured": _recoloured}
    return changes[_kind(number)](image[:, ::-1] if number > 0 and drawn[0] & 1 else image, shares)


def _shifted(image: Image8, shares: list[float]) -> Image8:
    """Moved, the border reflected."""
    height, width = image.shape[:2]
    down, right = (max(1, round(side * SHARE)) for side in (height, width))
    y, x = int(shares[0] * (2 * down + 1)), int(shares[1] * (2 * right + 1))
    padded = np.pad(image, ((down, down), (right, right), (0, 0)), mode="reflect" if min(height, width) > 1 else "edge")
    return padded[y : y + height, x : x + width]


def _cropped(image: Image8, shares: list[float]) -> Image8:
    """A part of the image, of its own shape, brought back to its size."""
    height, width = image.shape[:2]
    scale = SMALLEST + (1 - SMALLEST) * shares[0]
    left, top = (1 - scale) * width * shares[1], (1 - scale) * height * shares[2]
    box = (left, top, left + scale * width, top + scale * height)
    resized = Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BICUBIC, box=box)
    return np.asarray(resized)


def _recoloured(image: Image8, shares: list[float]) -> Image8:
    """Other brightness, contrast and balance of the channels."""
    brightness, contrast, *channels = (1 + STRENGTH * (2 * share - 1) for share in shares[:5])
    gains = brightness * np.array([1 + (channel - 1) / 2 for channel in channels])
    pixels = image * gains
    mean = pixels.mean()
    return np.clip(mean + contrast * (pixels - mean) + 0.5, 0, 255).astype(np.uint8)
