"""Batches for the training loop: everything that turns stored rows into (x, y) tensors on the device.

All randomness (augmentation, view, and the order of ``data.order``) comes from the pair (seed, epoch), never from a global
generator: an epoch can be made again at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from frostline.config import Settings
from frostline.data.augment import Augmentation, Mirror, augment, cropped, sent
from frostline.data.order import OrderedRows, fits, generator, on_device
from frostline.data.views import served

#: In place of an epoch's number: which images are mirrored in the first of the epochs that alternate.
_FIRST_MIRRORED = 2**32 - 1


class Batches(Protocol):
    """What the loop needs: N ``rows``, of which an epoch has ``shown``, their ``labels`` (N,), and an epoch's ``len()`` batches.

    Where rows do not shuffle, the batches run through them in order. ``shapes`` epochs, from the first, show rows of different
    shapes; those after them are as the last of these. ``due`` is set by who trains: of how many epochs the time has come by the
    clock, where a budget will end training before its last.
    """

    rows: int
    shown: int
    labels: Tensor
    losses: Tensor | None
    due: Callable[[], float]

    @property
    def shapes(self) -> int: ...

    def __len__(self) -> int: ...

    def prepare(self, number: int) -> None:
        """Compute what epoch ``number`` needs and those before it did not; a stop rule may cut it short."""

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The (x, y) batches of epoch ``number`` (0, 1, …): inputs with B rows, and (B,) int64 labels or a teacher's answers."""

    def learned(self, losses: Tensor) -> None:
        """Hear the losses (B,) of the batch that was given last; asked for where ``losses``, those of all rows, are kept."""


class ArrayBatches(OrderedRows):
    """Images of one size, held on the device as one uint8 tensor; batches are normalised floats in channels-last layout.

    Args:
        images: (N, H, W, 3) uint8 RGB; with ``versions`` (versions N, H, W, 3), as ``data.mixtures`` gives them.
        labels: (N,) int64.
        mean, std: a value a channel, for pixel values scaled to [0, 1]: x = (pixel / 255 − mean) / std.
        augmentations: applied to the uint8 batch in order; leave empty for evaluation.
        sizes: (H, W) to which each epoch's images are reduced, the last of them in all later epochs; empty: as they are.
        views: for evaluation more than one of ``data.views.SERVED``, as the finished model averages them: x is (B, V, C, H, W).
        alternate: mirror a random half of the images in the first epoch, and each in every other epoch from then on, so that two
            epochs show every image both ways (Jordan 2024, section 3.6). Of ``versions`` all are shown the one way, then the other.
        shuffle: a new permutation of all rows each epoch; false for evaluation.
        balanced: instead of a permutation as many rows with replacement, every class as often as every other.
        versions: of every image, of which each epoch shows one, in turn.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        batch_size: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int = 0,
        augmentations: Sequence[Augmentation] = (),
        sizes: Sequence[tuple[int, int]] = (),
        views: int = 1,
        alternate: bool = False,
        shuffle: bool = False,
        balanced: bool = False,
        versions: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != versions * len(labels):
            found = f"{images.shape} {images.dtype} and {len(labels)}"
            raise ValueError(f"expected {versions} × (N, H, W, C) uint8 images and N labels, not {found}")
        super().__init__(labels, batch_size, seed, shuffle, device, balanced)
        self.versions = versions
        self.images = on_device(images, device)
        self.augmentations, self.views = tuple(augmentations), views
        self.sizes = tuple(sizes) or (images.shape[1:3],)
        self._mirrored_first = self._half(_FIRST_MIRRORED) if alternate else None
        places = [served(number, images.shape[1:3]) for number in range(views)]
        self._places = [tuple(torch.from_numpy(each).to(self.device) for each in place) for place in places]
        # (pixel − 255 mean) / (255 std): one subtraction and one product, with no pass that scales to [0, 1].
        self._mean = torch.tensor([255 * value for value in mean], device=device)[:, None, None]
        self._scale = torch.tensor([1 / (255 * value) for value in std], device=device)[:, None, None]

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        drawn = generator(self.seed, number)
        for rows in self.order(drawn):
            versions = self.version(rows, number)
            batch = self.images.index_select(0, versions).permute(0, 3, 1, 2)
            if self._mirrored_first is not None:
                batch = Mirror().apply(batch, self._mirrored_first[rows] ^ bool(number // self.versions % 2))
            batch = augment(batch, self.augmentations, drawn)
            x, size = (batch.float() - self._mean).mul_(self._scale), self.size(number)
            if size != x.shape[2:]:
                x = functional.interpolate(x, size, mode="bilinear", antialias=True)
            yield self._seen(x) if self.views > 1 else x, self.targets(rows, versions)

    def _half(self, purpose: int) -> Tensor:
        """(N,) a random half of the rows."""
        return (torch.rand(self.rows, generator=generator(self.seed, purpose)) < 0.5).to(self.device)

    def sample(self, pixels: int) -> Tensor:
        """Images from all over the data with at most so many pixels in all, but one at least; unaugmented, (n, C, H, W)."""
        most = max(1, pixels // (self.images.shape[1] * self.images.shape[2]))
        images = self.images[: self.rows : -(-self.rows // most)]
        return (images.permute(0, 3, 1, 2).float() - self._mean).mul_(self._scale)

    def _seen(self, x: Tensor) -> Tensor:
        """(B, V, C, H, W) of (B, C, H, W)."""
        return torch.stack([x.index_select(2, rows).index_select(3, columns) for rows, columns in self._places], dim=1)


class FeatureBatches(OrderedRows):
    """Cached features of V views of each image, for heads.

    In training (``shuffle``) a batch is (B, D): a random view of every row, drawn anew each epoch. In evaluation it is
    (B, V, D): the loop averages the views' log-probabilities, as the finished model does.

    Args:
        features: (N, V, D), of any floating type; batches are float32.
        labels: (N,) int64.
        shape: what D is brought to, where the features are maps: batches are then (B, *shape) and (B, V, *shape).
        sizes: (h, w) of the part of every map that each epoch of training shows, at a place drawn for it, the last of them in all
            later epochs; empty: whole maps. See ``crops``.
        complete: gives the features with all views, or None where work is to end before they are there. ``prepare`` calls it
            before the second epoch; until then an epoch has the first view alone. None: all views are there.
        shuffle, balanced: as in ``ArrayBatches``.
    """

    def __init__(
        self,
        features: NDArray[np.floating] | Tensor,
        labels: NDArray[np.int64],
        batch_size: int,
        *,
        seed: int = 0,
        shape: tuple[int, ...] = (),
        sizes: Sequence[tuple[int, int]] = (),
        complete: Callable[[], Tensor | None] | None = None,
        shuffle: bool = False,
        balanced: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        if features.ndim != 3 or len(features) != len(labels):
            raise ValueError(f"expected (N, V, D) features and N labels, not {features.shape} and {len(labels)}")
        super().__init__(labels, batch_size, seed, shuffle, device, balanced)
        self.shape, self.sizes = shape or tuple(features.shape[2:]), tuple(sizes)
        self._complete, self._one_at_first = complete, complete is not None
        self.features = self._held(features if isinstance(features, Tensor) else on_device(features, "cpu"))

    def _held(self, features: Tensor) -> Tensor:
        return features.to(self.device) if fits(features, self.device) else features

    def prepare(self, number: int) -> None:
        """See ``Batches``: the views that the first epoch does without."""
        if number > 0 and self._complete is not None and (features := self._complete()) is not None:
            self.features, self._complete = features, None
            if self.device.type == "cuda":  # what lay there makes room for what has more views
                torch.cuda.empty_cache()
            self.features = self._held(features)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        drawn = generator(self.seed, number)
        there = 1 if self._complete is not None or (self._one_at_first and number == 0) else self.features.shape[1]
        for rows in self.order(drawn):
            batch = self._batch(rows.to(self.features.device), there, drawn).to(self.device)
            maps = batch.float().unflatten(-1, self.shape)
            yield cropped(maps, self.size(number), drawn) if self.sizes else maps, self.targets(rows)

    def _batch(self, rows: Tensor, there: int, drawn: torch.Generator) -> Tensor:
        if not self.shuffle:
            return self.features.index_select(0, rows)
        views = sent(torch.randint(0, there, (len(rows),), generator=drawn), rows.device)
        return self.features.flatten(0, 1).index_select(0, rows * self.features.shape[1] + views)


def growing(size: tuple[int, int], smallest: int, epochs: int) -> tuple[tuple[int, int], ...]:
    """The sizes (H, W) for ``ArrayBatches`` that lead from ``smallest``, the shorter side at first, to ``size`` after ``epochs``.

    Small images cost little, and what is learned on them serves on large ones (Howard 2018, DAWNBench: progressive resizing).
    """
    shorter = min(size)
    if smallest >= shorter:
        return (size,)
    shares = [(smallest + (shorter - smallest) * number / epochs) / shorter for number in range(epochs)]
    return (*((round(size[0] * share), round(size[1] * share)) for share in shares), size)


def crops(shape: tuple[int, ...], settings: Settings) -> tuple[tuple[int, int], ...]:
    """The sizes (h, w) of the parts of maps of ``shape`` (C, H, W) that epochs show, as the settings ask; empty: all there is.

    To what is above a frost line a part of a map is a picture with less around it, and costs less.
    """
    if settings.crop_from == 1 or len(shape) != 3:
        return ()
    H, W = shape[1:]
    return growing((H, W), max(1, round(settings.crop_from * min(H, W))), settings.growth)


def stored_tensor(features: NDArray[Any], dtype: str) -> Tensor:
    """Features in their storage type as a tensor that shares their memory; NumPy has no bfloat16, and keeps its bits."""
    tensor = torch.from_numpy(features.view(np.int16) if dtype == "bfloat16" else features)
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor
