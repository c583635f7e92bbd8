"""Mixtures of training images: pictures of no class, about which a teacher can be asked as about any other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import ImageSet
from frostline.data.rows import pixel_digests
from frostline.files import scratch_array

#: In place of an epoch's number, in the seed of what is mixed with what.
_MIXED = 2**32 - 2
#: Numbers that are mixed at once.
_AT_ONCE = 2**22

Images = NDArray[np.uint8]


def with_mixtures(pixels: Images, count: int, seed: int) -> Images:
    """Images and behind them ``count`` mixtures of each: of N images, mixture j ≥ 1 of row i is row jN + i.

    A mixture has between half and the whole of its own image and the rest of another one, any share as likely as any other
    (mixup of Zhang et al. 2018, drawn once). The same seed gives the same mixtures.

    Args:
        pixels: (N, H, W, 3) uint8; given back as it is where no mixtures are wanted.
        count: mixtures of each image.
        seed: of the shares and of what is mixed with what.
    """
    if not count:
        return pixels
    mixed = scratch_array(((1 + count) * len(pixels), *pixels.shape[1:]), np.dtype(np.uint8))
    mixed[: len(pixels)] = pixels
    for number in range(1, count + 1):
        drawn = np.random.default_rng((seed, _MIXED, number))
        others = drawn.permutation(len(pixels))
        shares = drawn.uniform(0.5, 1.0, len(pixels)).astype(np.float32)
        _mix(pixels, others, shares, mixed[number * len(pixels) : (number + 1) * len(pixels)])
    return mixed


def _mix(pixels: Images, others: NDArray[np.int64], shares: NDArray[np.float32], into: Images) -> None:
    rows = max(1, _AT_ONCE // max(1, pixels[0].size))
    for start in range(0, len(pixels), rows):
        part = slice(start, start + rows)
        share = shares[part, None, None, None]
        into[part] = np.rint(share * pixels[part] + (1 - share) * pixels[others[part]])


def mixtures_alone(images: ImageSet, mixed: Images) -> ImageSet:
    """What ``with_mixtures`` put behind the images, as a set of arrays; the labels are those of the larger shares."""
    count = len(mixed) // len(images) - 1
    pixels = mixed[len(images) :]
    ids = np.array([f"mixture {number} of {name}" for number in range(1, count + 1) for name in images.ids], np.str_)
    return replace(
        images,
        name=f"mixtures of {images.name}",
        labels=np.tile(images.labels, count),
        ids=ids,
        digests=pixel_digests(pixels),
        pixels=pixels,
        files=None,
        groups=None,
        otherwise=None,
        sides=None,
        lengths=None,
    )
