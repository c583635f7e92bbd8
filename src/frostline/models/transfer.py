"""The frost line: a backbone cut where one tensor passes, into a frozen lower part and an upper part that can train.

The network is traced (torch.fx). A *boundary* is a place behind which everything depends on one tensor alone. A person names the
first thing that trains ("layer4", "block5", a stage's index, "last:50"); the cut is the last boundary before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from frostline.models.backbones import FeatureNetwork, as_map
from frostline.models.folded import folded_batchnorm
from frostline.models.traced import Traced


class Upper(nn.Module):
    """The part above the frost line: activations (B, …) to features (B, D) and their last map (B, C, h, w)."""

    def __init__(self, tail: fx.GraphModule, prefix_tokens: int, aspect: float) -> None:
        super().__init__()
        self.tail, self.prefix_tokens, self.aspect = tail, prefix_tokens, aspect

    def forward(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        features, grid = self.tail(activations)
        return features, as_map(grid, self.prefix_tokens, self.aspect)


@dataclass(frozen=True)
class Cut:
    """A network in two.

    Attributes:
        first: module path of the first operation above the line.
        lower: normalised (B, 3, H, W) to activations (B, *shape).
        upper: activations to features and map; ``upper(lower(x))`` is the whole network's answer.
        shape: of one image's activations.
        said: how the name given was understood, for the screen and the record; empty where it was met exactly.
    """

    first: str
    lower: nn.Module
    upper: Upper
    shape: tuple[int, ...]
    said: str


def cut(network: FeatureNetwork, where: str, size: tuple[int, int], backbone: str = "") -> Cut:
    """Cut a network below what ``where`` names.

    Args:
        network: the whole; the parts share its weights.
        where: a module's path or a part of it ("layer4", "denseblock3"), a Keras block ("block5", "block_12", "conv5"), a stage's
            index as timm counts them ("3"), "last:N" for about the last N Keras layers, or "all" for the whole network.
        size: (H, W) of its input.
        backbone: row of the table, for Keras' names.

    Raises:
        UserError: no such place, or the network cannot be traced.
    """
    traced = Traced(network, size)
    first, said = traced.find(where, backbone)
    boundary = traced.below(first)
    asked = traced.paths[traced.nodes[first]]
    begins = traced.paths[traced.nodes[boundary.index + 1]] or asked
    if not said and begins != asked:
        said = f"{where} is inside a block that no single tensor enters; what trains begins at {begins}."
    lower, tail = traced.split(boundary)
    upper = Upper(tail, getattr(network.network, "num_prefix_tokens", 0), size[1] / size[0])
    return Cut(begins, lower, upper, boundary.shape, said)


class Lower(nn.Module):
    """The lower part as a feature network: normalised (B, 3, H, W) to ((B, C·h·w),)."""

    def __init__(self, lower: nn.Module) -> None:
        super().__init__()
        self.lower = lower

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.lower(x).flatten(1),)


def _as_multiplied(maps: Tensor) -> Tensor:
    """Maps in the type in which autocast, where it is on, multiplies: that of the convolution which would be below them.

    Maps in f32 make all f32 that is joined or added to them, until the next convolution in line: DenseNet169 from its third block
    on then takes 1.3 times as long. Sequences of tokens stay as they are: autocast keeps a transformer's sum in f32.
    """
    kind = maps.device.type
    return maps.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else maps


class Trainable(nn.Module):
    """What trains: the upper part and a head, on activations. BatchNorm stays in inference mode unless asked.

    Takes (B, *shape) to (B, K) logits, or V views (B, V, *shape) to (B, V, K).

    Args:
        upper: the part above the line.
        head: features to logits.
        shape: of one image's activations.
        train_batchnorm: whether BatchNorm takes up this data's statistics.
        drop: share of the activations that are set to zero in training.
        noise: of normal noise added in training, as a share of the batch's deviation.
    """

    def __init__(
        self,
        upper: Upper,
        head: nn.Module,
        shape: tuple[int, ...],
        train_batchnorm: bool = False,
        drop: float = 0.0,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.upper, self.head, self.shape, self.train_batchnorm = upper, head, shape, train_batchnorm
        self.drop, self.noise = drop, noise
        self.requires_grad_(True)  # weights are loaded frozen

    def forward(self, activations: Tensor) -> Tensor:
        lead = activations.shape[: activations.dim() - len(self.shape)]
        maps = activations.flatten(0, len(lead) - 1)
        if maps.ndim == 4:
            maps = _as_multiplied(maps).contiguous(memory_format=torch.channels_last)
        if self.training and self.noise:
            maps = maps + self.noise * maps.std() * torch.randn_like(maps)
        if self.training and self.drop:
            maps = functional.dropout(maps, self.drop)
        logits: Tensor = self.head(self.upper(maps)[0])
        return logits.unflatten(0, lead)

    @contextmanager
    def folded(self) -> Iterator[None]:
        """While inside, frozen BatchNorm costs no passes of its own; where it trains there is nothing to fold."""
        with nullcontext() if self.train_batchnorm else folded_batchnorm(self.upper.tail):
            yield

    def train(self, mode: bool = True) -> Trainable:
        """Training mode; BatchNorm, unless asked, keeps the statistics that the frozen part was trained with."""
        super().train(mode)
        for module in [] if self.train_batchnorm else self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self
