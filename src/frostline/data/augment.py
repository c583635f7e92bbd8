"""Augmentations of a batch on its device: small values whose random choices are drawn apart from being applied.

``choose`` draws a batch's choices from a generator; ``apply`` is a pure function of (batch, choice). Batches are (B, C, H, W)
of any type. After D. Page, "How to train your ResNet" (2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from frostline.config import Settings


class Augmentation(Protocol):
    """What every augmentation is."""

    def choose(self, rows: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """The choices for ``rows`` images of ``size`` (H, W): a tensor on the CPU whose first dimension is ``rows``."""

    def apply(self, batch: Tensor, choice: Tensor) -> Tensor:
        """The augmented batch; same shape, type and device."""


@dataclass(frozen=True)
class Mirror:
    """Flips left and right; the choice is (B,) bool, true for half of the images."""

    def choose(self, rows: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        return torch.rand(rows, generator=generator) < 0.5

    def apply(self, batch: Tensor, choice: Tensor) -> Tensor:
        return torch.where(choice[:, None, None, None], batch.flip(-1), batch)


@dataclass(frozen=True)
class Shift:
    """Moves the picture by up to ``pixels`` each way, the border reflected (its outermost pixels not repeated).

    The choice is (B, 2) int64 in [−pixels, pixels]: the new pixel (y, x) is the old one at (y + choice₀, x + choice₁).
    """

    pixels: int

    def choose(self, rows: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        return torch.randint(-self.pixels, self.pixels + 1, (rows, 2), generator=generator)

    def apply(self, batch: Tensor, choice: Tensor) -> Tensor:
        H, W = batch.shape[2:]
        y = _reflect(torch.arange(H, device=batch.device) + choice[:, :1], H)
        x = _reflect(torch.arange(W, device=batch.device) + choice[:, 1:], W)
        return _picked(batch, y, x)


def cropped(maps: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """A part (B, C, h, w) of each map (B, C, H, W), at a place of its own that is drawn; whole maps as they are.

    Args:
        size: (h, w), no larger than the maps.
    """
    if size == tuple(maps.shape[2:]):
        return maps
    places = []
    for whole, part in zip(maps.shape[2:], size, strict=True):
        start = torch.randint(0, whole - part + 1, (len(maps), 1), generator=generator)
        places.append(sent(start, maps.device) + torch.arange(part, device=maps.device))
    return _picked(maps, *places)


def _picked(batch: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """(B, C, h, w): of each picture (C, H, W) the pixels at its rows y (B, h) and columns x (B, w); their channels lie together."""
    B, C, H, W = batch.shape
    first = torch.arange(B, device=batch.device)[:, None, None] * (H * W)
    # One row a pixel, its channels together: on a CPU three times as fast as indexing three dimensions.
    pixels = batch.permute(0, 2, 3, 1).reshape(-1, C)
    picked = pixels.index_select(0, (first + y[:, :, None] * W + x[:, None, :]).reshape(-1))
    return picked.view(B, y.shape[1], x.shape[1], C).permute(0, 3, 1, 2)


def _reflect(index: Tensor, length: int) -> Tensor:
    """Indices beyond [0, length) folded back into it, as often as needed."""
    if length == 1:
        return torch.zeros_like(index)
    folded = index.remainder(2 * (length - 1))
    return torch.where(folded < length, folded, 2 * (length - 1) - folded)


@dataclass(frozen=True)
class Cutout:
    """Sets a square of ``side`` pixels around a random pixel to ``fill``, one value a channel (DeVries and Taylor 2017).

    The choice is (B, 2) int64: the square's centre. What lies outside the image is cut off, as in the paper.
    """

    side: int
    fill: tuple[float, ...]

    def choose(self, rows: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        return torch.stack([torch.randint(0, length, (rows,), generator=generator) for length in size], dim=1)

    def apply(self, batch: Tensor, choice: Tensor) -> Tensor:
        covered = []
        for axis, length in enumerate(batch.shape[2:]):
            offset = torch.arange(length, device=batch.device) - (choice[:, axis : axis + 1] - self.side // 2)
            covered.append((offset >= 0) & (offset < self.side))
        hole = (covered[0][:, :, None] & covered[1][:, None, :])[:, None]
        return torch.where(hole, _of_channels(self.fill, batch.device, batch.dtype), batch)


@cache
def _of_channels(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """(C, 1, 1) of a value a channel, sent to a device once: a GPU is waited for each time that numbers go there."""
    return torch.tensor(values, device=device).to(dtype)[:, None, None]


def _uniform(rows: int, low: float, high: float, generator: torch.Generator, columns: int = 1) -> Tensor:
    return torch.rand((rows, columns), generator=generator) * (high - low) + low


def _as_before(changed: Tensor, batch: Tensor) -> Tensor:
    """Back to the batch's type; whole numbers are rounded and kept in [0, 255]."""
    return changed.to(batch.dtype) if batch.is_floating_point() else changed.round_().clamp_(0, 255).to(batch.dtype)


@dataclass(frozen=True)
class Zoom:
    """Enlarges or reduces about the centre by a factor in [1 − ``most``, 1 + ``most``], bilinearly, the border reflected.

    The choice is (B, 1): the factor.
    """

    most: float = 0.2

    def choose(self, rows: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        return _uniform(rows, 1 - self.most, 1 + self.most, generator)

    def apply(self, batch: Tensor, choice: Tensor) -> Tensor:
        places = torch.zeros(len(batch), 2, 3, device=batch.device)
        places[:, 0, 0] = places[:, 1, 1] = 1 / choice[:, 0]
        grid = functional.affine_grid(places, list(batch.shape), align_corners=False)
        zoomed = functional.grid_sample(batch.float(), grid, "bilinear", "reflection", align_corners=False)
        return _as_before(zoomed, batch)


@dataclass(frozen=True)
class Gamma:
    """Brightens or darkens: 255 (x / 255)^γ, ln γ uniform in ± ln ``most``. The choice is (B, 1): γ."""

    most: float = 1.5

    def choose(self, rows: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        return _uniform(rows, -math.log(self.most), math.log(self.most), generator).exp()

    def apply(self, batch: Tensor, choice: Tensor) -> Tensor:
        return _as_before((batch.float() / 255).pow(choice[:, :, None, None]) * 255, batch)


@dataclass(frozen=True)
class Contrast:
    """Moves pixels from or to the image's mean by a factor in [1 − ``most``, 1 + ``most``]. The choice is (B, 1): the factor."""

    most: float = 0.4

    def choose(self, rows: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        return _uniform(rows, 1 - self.most, 1 + self.most, generator)

    def apply(self, batch: Tensor, choice: Tensor) -> Tensor:
        pixels = batch.float()
        mean = pixels.mean((1, 2, 3), keepdim=True)
        return _as_before(mean + (pixels - mean) * choice[:, :, None, None], batch)


@dataclass(frozen=True)
class Channels:
    """Multiplies each channel by a factor of its own in [1 − ``most``, 1 + ``most``]. The choice is (B, 3): the factors."""

    most: float = 0.2

    def choose(self, rows: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        return _uniform(rows, 1 - self.most, 1 + self.most, generator, 3)

    def apply(self, batch: Tensor, choice: Tensor) -> Tensor:
        return _as_before(batch.float() * choice[:, :, None, None], batch)


@dataclass(frozen=True)
class PerImage:
    """A transform of torchvision, applied to each image with random numbers of its own.

    The choice is (B, 1) int64: the seed of torch's global generator for each image, which is afterwards as it was.
    """

    transform: Callable[[Tensor], Tensor]

    def choose(self, rows: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        return torch.randint(2**62, (rows, 1), generator=generator)

    def apply(self, batch: Tensor, choice: Tensor) -> Tensor:
        images = []
        with torch.random.fork_rng(devices=[]):
            for image, seed in zip(batch, choice[:, 0].tolist(), strict=True):
                torch.default_generator.manual_seed(seed)
                images.append(self.transform(image))
        return torch.stack(images)


def _named(name: str, fill: tuple[float, ...]) -> Augmentation:
    """The augmentation with a name of ``config.Augment``; ``fill`` is a value a channel for what comes in from outside."""
    edge: Any = list(fill)
    made: dict[str, Callable[[], Augmentation]] = {
        "mirror": Mirror,
        "zoom": Zoom,
        "gamma": Gamma,
        "contrast": Contrast,
        "channels": Channels,
        "erase": lambda: PerImage(v2.RandomErasing(p=0.5, value=edge)),  # Zhong et al. 2017
        "randaugment": lambda: PerImage(v2.RandAugment(fill=edge)),  # Cubuk et al. 2019
        "trivial": lambda: PerImage(v2.TrivialAugmentWide(fill=edge)),  # Müller and Hutter 2021
    }
    return made[name]()


def make_augmentations(settings: Settings, mean: Sequence[float]) -> tuple[Augmentation, ...]:
    """The augmentations of the settings, in the order they are applied to uint8 batches: ``mirror``, ``shift``, those that
    ``augment`` lists, in its order, and ``cutout``.

    ``mean`` is one value in [0, 1] a channel, as in ``Preprocess``; it fills what is cut out or comes in from outside.
    """
    fill = tuple(round(255 * level) for level in mean)
    first: list[Augmentation] = [Mirror()] if settings.mirror else []
    first += [Shift(settings.shift)] if settings.shift else []
    last: list[Augmentation] = [Cutout(settings.cutout, fill)] if settings.cutout else []
    return (*first, *(_named(name, fill) for name in settings.augment), *last)


def augment(batch: Tensor, augmentations: Sequence[Augmentation], generator: torch.Generator) -> Tensor:
    """The batch (B, C, H, W) after every augmentation in turn, with choices drawn from ``generator`` (a CPU generator)."""
    size = (int(batch.shape[2]), int(batch.shape[3]))
    for augmentation in augmentations:
        batch = augmentation.apply(batch, sent(augmentation.choose(len(batch), size, generator), batch.device))
    return batch


def sent(choice: Tensor, device: torch.device) -> Tensor:
    """The same on the device. A GPU fetches it by itself, from memory that stays where it is: nobody waits for it."""
    return choice.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else choice.to(device)
