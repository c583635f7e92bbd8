"""The one value that says how an image becomes a network's input, and the functions that apply it. No torch.

Two kinds of input, never mixed (docs/architecture.md, "Preprocessing"):

* *arrays* of one fixed size are stored as they are; the compiled graph enlarges them with two matrix products;
* *photos* are brought to the stored size here, by Pillow with antialiasing; the graph only normalises.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Cubic convolution coefficient, Keys 1981, eq. 8; the one Pillow and timm's training used.
CUBIC_A = -0.5
#: (H, W, 3) uint8 RGB, as Pillow or NumPy has it.
Picture = Image.Image | NDArray[np.uint8]
_PILLOW = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes a network's input.

    Attributes:
        size: (H, W) the network sees.
        stored: (H, W) of the uint8 images that the graph takes; enlarged inside the graph where it differs from ``size``.
        fit: "squash" (keep everything, change the aspect ratio), "pad" (keep everything, grey bars) or "crop" (cut the sides).
        kernel: "bicubic" or "bilinear".
        crop: fraction of the shorter side kept by "crop".
        mean, std: per channel R, G, B, for pixel values scaled to [0, 1].
    """

    size: tuple[int, int]
    stored: tuple[int, int]
    fit: str = "squash"
    kernel: str = "bicubic"
    crop: float = 1.0
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if self.fit not in ("squash", "pad", "crop") or self.kernel not in _PILLOW or not 0 < self.crop <= 1:
            raise ValueError(f"not a preprocessing: {self}")
        if min(*self.size, *self.stored) < 1 or min(self.std) <= 0 or len(self.mean) != 3 or len(self.std) != 3:
            raise ValueError(f"not a preprocessing: {self}")

    def as_dict(self) -> dict[str, Any]:
        """JSON values, as ``model.json`` holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        """The inverse of ``as_dict``; lists become tuples. Unknown keys are a ``TypeError``."""
        given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return cls(**given)


def stored_image(image: Picture, preprocess: Preprocess) -> NDArray[np.uint8]:
    """An RGB image as the graph takes it.

    Args:
        image: 8-bit RGB.
        preprocess: the model's.

    Returns:
        (h, w, 3) uint8 with (h, w) = ``preprocess.stored``; the very pixels where the image has that size already.
    """
    if _size(image) == preprocess.stored:
        return np.asarray(image)
    height, width = preprocess.stored
    if preprocess.fit == "crop":
        return resize_uint8(_centre(image, width / height, preprocess.crop), height, width, preprocess.kernel)
    if preprocess.fit == "pad":
        return _pad(image, height, width, preprocess)
    return resize_uint8(image, height, width, preprocess.kernel)


def _size(image: Picture) -> tuple[int, int]:
    return image.size[::-1] if isinstance(image, Image.Image) else (image.shape[0], image.shape[1])


def _centre(image: Picture, aspect: float, fraction: float) -> Picture:
    H, W = _size(image)
    side = min(H, W / aspect) * fraction
    h, w = max(1, round(side)), max(1, round(side * aspect))
    top, left = (H - h) // 2, (W - w) // 2
    if isinstance(image, Image.Image):
        return image.crop((left, top, left + w, top + h))
    return image[top : top + h, left : left + w]


def _pad(image: Picture, height: int, width: int, preprocess: Preprocess) -> NDArray[np.uint8]:
    H, W = _size(image)
    scale = min(height / H, width / W)
    h, w = max(1, round(H * scale)), max(1, round(W * scale))
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = np.round(np.array(preprocess.mean) * 255)  # normalises to about zero: bars say nothing
    top, left = (height - h) // 2, (width - w) // 2
    canvas[top : top + h, left : left + w] = resize_uint8(image, h, w, preprocess.kernel)
    return canvas


def resize_uint8(image: Picture, height: int, width: int, kernel: str) -> NDArray[np.uint8]:
    """Resize (H, W, 3) to (height, width, 3): Pillow where a side shrinks, matrix products where it grows.

    Pillow's enlargement clamps and rounds after each of its two passes, up to 23 grey levels away from the kernel;
    here a growing side is one product in float64, rounded once. A Pillow image is not made an array of before it is small: that
    took a quarter of the time of reading a photo.
    """
    H, W = _size(image)
    if height < H or width < W:
        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image = picture.resize((min(W, width), min(H, height)), _PILLOW[kernel])
    pixels: NDArray[np.uint8] = np.asarray(image)
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.clip(np.rint(enlarge(pixels.astype(np.float64), height, width, kernel)), 0, 255).astype(np.uint8)


def enlarge(pixels: NDArray[np.float64], height: int, width: int, kernel: str) -> NDArray[np.float64]:
    """(..., H, W, C) to (..., height, width, C) as A x Bᵀ per channel, in float64: the reference for every engine."""
    rows = enlargement(pixels.shape[-3], height, kernel)
    columns = enlargement(pixels.shape[-2], width, kernel)
    # ihc: output row, H, channel; float64 throughout, so the order of the two products does not matter
    tall = np.einsum("iH,...Hwc->...iwc", rows, pixels, optimize=True)
    return np.asarray(np.einsum("jW,...hWc->...hjc", columns, tall, optimize=True), np.float64)


def enlargement(n: int, out: int, kernel: str) -> NDArray[np.float64]:
    """The (out, n) matrix that resamples n samples to ``out``, half-pixel centres, edge samples repeated; rows sum to one.

    Where ``out < n`` the kernel is widened by n / out (antialiasing), as Pillow widens it.
    """
    scale = max(1.0, n / out)
    reach = 2 if kernel == "bicubic" else 1
    centres = (np.arange(out) + 0.5) * n / out - 0.5
    taps = np.arange(-int(np.ceil(reach * scale)), int(np.ceil(reach * scale)) + 1)
    positions = np.floor(centres)[:, None].astype(int) + taps  # (out, T)
    weights = _kernel((positions - centres[:, None]) / scale, kernel)
    matrix = np.zeros((out, n))
    np.add.at(matrix, (np.arange(out)[:, None], np.clip(positions, 0, n - 1)), weights)
    normalised: NDArray[np.float64] = matrix / matrix.sum(axis=1, keepdims=True)
    return normalised


def _kernel(x: NDArray[np.float64], kernel: str) -> NDArray[np.float64]:
    x = np.abs(x)
    if kernel == "bilinear":
        return np.maximum(0, 1 - x)
    a = CUBIC_A
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
