"""The fifteen corruptions of Hendrycks and Dietterich 2019 (arXiv 1903.12261) at five severities, for images of any size, in NumPy.

The strengths are those of CIFAR-10-C. Lengths in pixels grow with the image: they are meant for a shorter side of 32. Only the
blocks of pixelate lie between those of CIFAR-10-C and, from a side of 224 on, of ImageNet-C, in proportion to the logarithm of the
side: blocks of CIFAR-10-C that grew with the image would leave 30×30 pixels of a photo at the first severity. What is random comes
from (image content, corruption, severity), so the same image is always corrupted the same way. Three things differ from the paper's
code: its frost is cut from photographs that are not ours to ship, here frost is drawn; fog comes from another fractal; and the
pixels of glass change places, where its assignment of views copies one over the other.

Legend: B images of H×W pixels, values in [0, 1].
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frostline.errors import UserError, nearest
from frostline.preprocess import enlargement
from frostline.shifts.warping import Floats, convolved, fractal_noise, gaussian_matrix, sampled, smeared, smoothed, zoomed

Image8 = NDArray[np.uint8]
#: (B, H, W, 3), a generator for each image, the strength of the severity, pixels for each that is meant → (B, H, W, 3).
Corruption = Callable[[Floats, Sequence[np.random.Generator], Any, float], Floats]

SEVERITIES = (1, 2, 3, 4, 5)
#: The side in pixels that the lengths below are meant for, and ImageNet-C's.
_SIDE, _LARGE = 32, 224


def corrupt(images: Image8, digests: NDArray[Any], name: str, severity: int) -> Image8:
    """Corrupted images, (B, H, W, 3) uint8 like those given.

    Args:
        images: (B, H, W, 3) uint8 RGB.
        digests: (B,) of their content; they seed what is random.
        name: one of ``CORRUPTIONS``.
        severity: 1 to 5.

    Raises:
        UserError: an unknown name or severity.
    """
    if name not in CORRUPTIONS:
        raise UserError(f"There is no corruption '{name}'.", received=name, hint=nearest(name, list(CORRUPTIONS)))
    if severity not in SEVERITIES:
        raise UserError("A severity is 1, 2, 3, 4 or 5.", received=str(severity))
    function, strengths = CORRUPTIONS[name]
    drawn = [_generator(bytes(digest), name, severity) for digest in digests]
    x = function(np.divide(images, 255, dtype=np.float32), drawn, strengths[severity - 1], min(images.shape[1:3]) / _SIDE)
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def _generator(digest: bytes, name: str, severity: int) -> np.random.Generator:
    seed = hashlib.blake2b(digest + f"{name} {severity}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(seed, "little")))


def _stacked(drawn: Sequence[np.random.Generator], draw: Callable[[np.random.Generator], Any]) -> Floats:
    return np.stack([draw(each) for each in drawn]).astype(np.float32)


# noise


def _gaussian_noise(x: Floats, drawn: Sequence[np.random.Generator], deviation: float, scale: float) -> Floats:
    return x + np.float32(deviation) * _stacked(drawn, lambda each: each.standard_normal(x.shape[1:], dtype=np.float32))


def _shot_noise(x: Floats, drawn: Sequence[np.random.Generator], photons: float, scale: float) -> Floats:
    return np.stack([each.poisson(image * photons) for image, each in zip(x, drawn, strict=True)]).astype(np.float32) / photons


def _impulse_noise(x: Floats, drawn: Sequence[np.random.Generator], share: float, scale: float) -> Floats:
    chance = _stacked(drawn, lambda each: each.random(x.shape[1:], dtype=np.float32))
    return np.where(chance < share / 2, np.float32(0), np.where(chance < share, np.float32(1), x))


# blur


def _defocus_blur(x: Floats, drawn: Sequence[np.random.Generator], strength: tuple[float, float], scale: float) -> Floats:
    radius, soft = strength[0] * scale, strength[1] * scale
    reach = int(np.ceil(radius + 2 * soft))
    y, across = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (y**2 + across**2 <= radius**2).astype(np.float32)
    weights = gaussian_matrix(2 * reach + 1, soft)
    return convolved(x, weights @ disk @ weights.T)


def _glass_blur(x: Floats, drawn: Sequence[np.random.Generator], strength: tuple[float, int, int], scale: float) -> Floats:
    deviation, most, rounds = strength[0] * scale, max(1, round(strength[1] * scale)), strength[2]
    x = smoothed(x, deviation)
    H, W = x.shape[1:3]
    if min(H, W) <= 2 * most:
        return x
    images = np.arange(len(x))
    for _ in range(rounds):
        moves = np.stack([each.integers(-most, most, (H, W, 2)) for each in drawn])
        for row in range(H - most - 1, most - 1, -1):
            for column in range(W - most - 1, most - 1, -1):
                other = row + moves[:, row, column, 0], column + moves[:, row, column, 1]
                here = x[:, row, column].copy()
                x[:, row, column] = x[images, other[0], other[1]]
                x[images, other[0], other[1]] = here
    return smoothed(x, deviation)


def _motion_blur(x: Floats, drawn: Sequence[np.random.Generator], strength: tuple[float, float], scale: float) -> Floats:
    return smeared(x, [float(each.uniform(-45, 45)) for each in drawn], strength[0] * scale, strength[1] * scale)


def _zoom_blur(x: Floats, drawn: Sequence[np.random.Generator], most: float, scale: float) -> Floats:
    factors = np.arange(1, most, 0.01)
    total = x.astype(np.float32)  # a sum, not a list: two dozen copies of the images would be gigabytes
    for factor in factors:
        total += zoomed(x, factor)
    return total / np.float32(len(factors) + 1)


# weather


def _snow(x: Floats, drawn: Sequence[np.random.Generator], strength: tuple[float, ...], scale: float) -> Floats:
    mean, deviation, zoom, least, radius, blur, keep = strength
    H, W = x.shape[1:3]
    # flakes grow with the image: they are drawn at the size that they are meant for
    h, w = max(1, round(H / scale)), max(1, round(W / scale))
    flakes = _stacked(drawn, lambda each: each.normal(mean, deviation, (h, w, 1)))
    flakes = np.clip(zoomed(flakes, zoom), 0, 1)
    flakes[flakes < least] = 0
    flakes = smeared(flakes, [float(each.uniform(-135, -45)) for each in drawn], radius, blur)
    rows, columns = (enlargement(n, side, "bilinear").astype(np.float32) for n, side in ((h, H), (w, W)))
    flakes = np.einsum("ij,bjkc,lk->bilc", rows, flakes, columns, optimize=True)
    grey = x @ np.array([0.299, 0.587, 0.114], np.float32)
    whiter = np.maximum(x, (1.5 * grey + 0.5)[..., None])
    return keep * x + (1 - keep) * whiter + flakes + flakes[:, ::-1, ::-1]


def _frost(x: Floats, drawn: Sequence[np.random.Generator], strength: tuple[float, float], scale: float) -> Floats:
    """Needles of ice: the crests of fractal noise, white with a little blue, laid over the image."""
    crests = 1 - np.abs(2 * fractal_noise(drawn, x.shape[1:3], 1.6) - 1)
    ice = np.clip(crests[..., None] ** 3 * np.array([0.85, 0.93, 1.0], np.float32) + 0.1, 0, 1)
    return strength[0] * x + strength[1] * ice.astype(np.float32)


def _fog(x: Floats, drawn: Sequence[np.random.Generator], strength: tuple[float, float], scale: float) -> Floats:
    thickness, decay = strength
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    misty = x + thickness * fractal_noise(drawn, x.shape[1:3], decay)[..., None]
    return np.clip(misty * brightest / (brightest + thickness), 0, 1)


def _brightness(x: Floats, drawn: Sequence[np.random.Generator], more: float, scale: float) -> Floats:
    """Value of HSV raised, hue and saturation kept."""
    value = x.max(axis=-1, keepdims=True)
    raised = np.minimum(value + more, 1)
    return np.where(value > 0, x / np.maximum(value, 1e-9), 1) * raised


def _contrast(x: Floats, drawn: Sequence[np.random.Generator], share: float, scale: float) -> Floats:
    mean = x.mean(axis=(1, 2), keepdims=True)
    return mean + share * (x - mean)


# digital


def _elastic(x: Floats, drawn: Sequence[np.random.Generator], strength: tuple[float, float, float], scale: float) -> Floats:
    """Pushed about: three corners of a triangle moved at random, then every pixel along smooth noise; shares of the side."""
    H, W = x.shape[1:3]
    length, smooth, corners = (each * min(H, W) for each in strength)
    y, across = np.mgrid[0:H, 0:W].astype(np.float64)
    grid = np.stack([y, across, np.ones_like(y)], axis=-1).reshape(-1, 3)
    middle, third = np.array([H, W]) // 2, min(H, W) // 3
    fixed = np.array([middle + third, [middle[0] + third, middle[1] - third], middle - third], float)
    found = []
    for image, each in zip(x, drawn, strict=True):
        moved = fixed + each.uniform(-corners, corners, (3, 2))
        affine = np.linalg.lstsq(np.column_stack([moved, np.ones(3)]), fixed, rcond=None)[0]
        push = length * smoothed(each.uniform(-1, 1, (1, H, W, 2)).astype(np.float32), smooth)[0]
        found.append(sampled(image, (grid @ affine).reshape(H, W, 2) + push))
    return np.stack(found)


def _pixelate(x: Floats, drawn: Sequence[np.random.Generator], shares: tuple[float, float], scale: float) -> Floats:
    small, large = shares
    towards = min(1.0, max(0.0, math.log(scale) / math.log(_LARGE / _SIDE)))
    return _through_pillow(x, lambda image: _coarse(image, small + (large - small) * towards))


def _coarse(image: Image.Image, share: float) -> Image.Image:
    smaller = (max(1, int(image.width * share)), max(1, int(image.height * share)))
    return image.resize(smaller, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)


def _jpeg(x: Floats, drawn: Sequence[np.random.Generator], quality: int, scale: float) -> Floats:
    return _through_pillow(x, lambda image: _compressed(image, quality))


def _compressed(image: Image.Image, quality: int) -> Image.Image:
    kept = io.BytesIO()
    image.save(kept, "JPEG", quality=quality)
    return Image.open(kept).convert("RGB")


def _through_pillow(x: Floats, change: Callable[[Image.Image], Image.Image]) -> Floats:
    pixels = np.rint(x * 255).astype(np.uint8)
    return np.divide(np.stack([np.asarray(change(Image.fromarray(image))) for image in pixels]), 255, dtype=np.float32)


#: Name → how, and the strength of each severity, as CIFAR-10-C has them.
CORRUPTIONS: dict[str, tuple[Corruption, tuple[Any, ...]]] = {
    "gaussian noise": (_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot noise": (_shot_noise, (500, 250, 100, 75, 50)),
    "impulse noise": (_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus blur": (_defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "glass blur": (_glass_blur, ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))),
    "motion blur": (_motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom blur": (_zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26)),
    "snow": (
        _snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    ),
    "frost": (_frost, ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))),
    "fog": (_fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic": (_elastic, ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))),
    "pixelate": (_pixelate, ((0.95, 0.6), (0.9, 0.5), (0.85, 0.4), (0.75, 0.3), (0.65, 0.25))),
    "jpeg": (_jpeg, (80, 65, 58, 50, 40)),
}
