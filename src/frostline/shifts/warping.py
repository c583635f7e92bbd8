"""Images blurred, moved and pulled about, many at once, in NumPy; and fractal noise.

Legend: B images of H×W pixels. Nothing here is random but for the generators that are handed in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def gaussian_matrix(n: int, deviation: float) -> Floats:
    """(n, n): each row a normal bump around its place, cut at the ends."""
    distance = np.arange(n)[:, None] - np.arange(n)
    bumps = np.exp(-0.5 * (distance / max(deviation, 1e-6)) ** 2)
    return (bumps / bumps.sum(axis=1, keepdims=True)).astype(np.float32)


def convolved(x: Floats, kernel: Floats) -> Floats:
    """Each channel under a square kernel with an odd side, which is brought to the sum 1; the border is reflected."""
    reach = len(kernel) // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect" if min(x.shape[1:3]) > reach else "edge")
    total = np.zeros_like(x)
    kernel = kernel / kernel.sum()
    for row, column in zip(*np.nonzero(kernel > 1e-5), strict=True):
        total += kernel[row, column] * padded[:, row : row + x.shape[1], column : column + x.shape[2]]
    return total


def smoothed(x: Floats, deviation: float) -> Floats:
    """Blurred by a normal bump of this many pixels, the border reflected."""
    rows, columns = (_reflecting(side, deviation) for side in x.shape[1:3])
    return np.einsum("ij,bjkc,lk->bilc", rows, x, columns, optimize=True)


def _reflecting(side: int, deviation: float) -> Floats:
    """(side, side): a normal bump around each place, what falls outside reflected back."""
    reach = int(np.ceil(4 * deviation))
    places = np.arange(-reach, side + reach)
    bumps = np.exp(-0.5 * ((np.arange(side)[:, None] - places) / max(deviation, 1e-6)) ** 2)
    folded = places % (2 * side)
    folded = np.where(folded < side, folded, 2 * side - 1 - folded)
    matrix = np.zeros((side, side))
    np.add.at(matrix.T, folded, bumps.T)
    return (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)


def smeared(x: Floats, degrees: Sequence[float], radius: float, deviation: float) -> Floats:
    """The mean along a line to one side of each pixel, with weights that fall as half a normal bump; the border is repeated."""
    steps = np.arange(2 * round(radius) + 1)
    weights = np.exp(-0.5 * (steps / deviation) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    rows, columns = np.arange(x.shape[1]), np.arange(x.shape[2])
    found = np.zeros_like(x)
    for image, angle, out in zip(x, np.deg2rad(degrees), found, strict=True):
        for step, weight in zip(steps, weights, strict=True):
            if weight > 1e-4:
                y = np.clip(rows + round(step * np.sin(angle)), 0, len(rows) - 1)
                across = np.clip(columns + round(step * np.cos(angle)), 0, len(columns) - 1)
                out += weight * image[y][:, across]
    return found


def _line_matrix(places: NDArray[np.float64], side: int) -> Floats:
    """(len(places), side): linear interpolation at ``places``; outside the first and the last pixel go on."""
    places = np.clip(places, 0, side - 1)
    below = np.minimum(places.astype(int), max(side - 2, 0))
    matrix = np.zeros((len(places), side), np.float32)
    lines = np.arange(len(places))
    np.add.at(matrix, (lines, below), 1 - (places - below))
    np.add.at(matrix, (lines, np.minimum(below + 1, side - 1)), places - below)
    return matrix


def zoomed(x: Floats, factor: float) -> Floats:
    """The middle of images enlarged to the whole, in straight lines between pixels."""
    rows, columns = (_line_matrix(_middle(side, factor), side) for side in x.shape[1:3])
    return np.einsum("ij,bjkc,lk->bilc", rows, x, columns, optimize=True)


def _middle(side: int, factor: float) -> NDArray[np.float64]:
    """Where each pixel of an image enlarged by ``factor`` around its middle comes from."""
    return np.asarray((np.arange(side) - (side - 1) / 2) / factor + (side - 1) / 2, np.float64)


def sampled(image: Floats, places: NDArray[np.floating]) -> Floats:
    """The image at places (H, W, 2), in straight lines between pixels, the border reflected."""
    H, W = image.shape[:2]
    y, across = (_folded(places[..., axis], side) for axis, side in enumerate((H, W)))
    top, left = np.minimum(y.astype(int), max(H - 2, 0)), np.minimum(across.astype(int), max(W - 2, 0))
    down, right = (y - top)[..., None], (across - left)[..., None]
    bottom, beside = np.minimum(top + 1, H - 1), np.minimum(left + 1, W - 1)
    upper = image[top, left] * (1 - right) + image[top, beside] * right
    lower = image[bottom, left] * (1 - right) + image[bottom, beside] * right
    return (upper * (1 - down) + lower * down).astype(np.float32)


def _folded(places: NDArray[np.floating], side: int) -> NDArray[np.float64]:
    """Places brought back into [0, side − 1] by reflection."""
    if side == 1:
        return np.zeros(places.shape)
    last = 2 * (side - 1)
    inside = np.abs(places).astype(np.float64) % last
    return np.where(inside > side - 1, last - inside, inside)


def fractal_noise(drawn: Sequence[np.random.Generator], size: tuple[int, int], decay: float) -> Floats:
    """(B, H, W) in [0, 1]: a fractal height map: noise on grids of doubling fineness, each ``decay`` times weaker than the last."""
    total = np.zeros((len(drawn), *size))
    cells, weight = 1, 1.0
    while cells <= max(size):
        noise = np.stack([each.uniform(-1, 1, (cells + 1, cells + 1)) for each in drawn])
        rows, columns = (_line_matrix(np.linspace(0, cells, side), cells + 1) for side in size)
        total += weight * np.einsum("ij,bjk,lk->bil", rows, noise, columns, optimize=True)
        cells, weight = 2 * cells, weight / decay
    low, high = total.min(axis=(1, 2), keepdims=True), total.max(axis=(1, 2), keepdims=True)
    return ((total - low) / np.maximum(high - low, 1e-9)).astype(np.float32)
