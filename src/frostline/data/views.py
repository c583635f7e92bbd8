"""Views of an image that are computed once and cached: as it is, mirrored, then shifted ones drawn from its own content.

The parameters of a view come from (image digest, view number), so that a cached row never depends on what it was cached with.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Views 0 and 1; those after them are drawn.
NAMES = ("image", "mirror")
#: A drawn view is moved each way by at most this share of the side, and at least by one pixel (2 of 32, 14 of 224).
SHARE = 1 / 16


def view_name(number: int) -> str:
    """The name that a view has in the cache's key."""
    return NAMES[number] if number < len(NAMES) else f"shift-{number}"


def seen_as(block: NDArray[np.uint8], digests: NDArray[Any], number: int) -> NDArray[np.uint8]:
    """View ``number`` of the images (B, h, w, 3) whose content digests are ``digests`` (B,)."""
    if number == 0:
        return block
    if number == 1:
        return block[:, :, ::-1]
    return np.stack([_drawn(image, bytes(digest), number) for image, digest in zip(block, digests, strict=True)])


def _drawn(image: NDArray[np.uint8], digest: bytes, number: int) -> NDArray[np.uint8]:
    """Mirrored or not, and moved, the border reflected."""
    drawn = hashlib.blake2b(digest, digest_size=6, person=b"view", salt=number.to_bytes(8, "little")).digest()
    height, width = image.shape[:2]
    if drawn[0] & 1:
        image = image[:, ::-1]
    down, right = (max(1, round(side * SHARE)) for side in (height, width))
    y = int.from_bytes(drawn[1:3], "little") % (2 * down + 1)
    x = int.from_bytes(drawn[3:5], "little") % (2 * right + 1)
    padded = np.pad(image, ((down, down), (right, right), (0, 0)), mode="reflect" if min(height, width) > 1 else "edge")
    return padded[y : y + height, x : x + width]
