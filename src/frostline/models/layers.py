"""What the scratch networks and the dense heads share: their shape, layers and starting weights as Keras has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Keras' BatchNormalization has epsilon 1e-3 and keeps 0.99 of its running statistics a step.
#: We keep its epsilon, but 0.9 of the statistics: 0.99 lags the weights by hundreds of steps, which only makes the
#: validation scores of short trainings wrong; the trained weights do not depend on it.
NORM_EPSILON = 1e-3
NORM_MOMENTUM = 0.1

Network = TypeVar("Network", bound=nn.Module)


class Classifier(nn.Module):
    """A network in two parts: ``body`` from images to D features, ``head`` from features to K logits.

    V views of an image, (N, V, 3, H, W), become (N, V, K), as a head makes of (N, V, D).

    Args:
        body: (N, 3, H, W) normalised float images to (N, D) features.
        head: (N, D) features to (N, K) logits.
    """

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(images.flatten(0, -4))
        return self.head(features.unflatten(0, images.shape[:-3]) if images.dim() > 4 else features)


class Dropout(nn.Module):
    """``torch.nn.Dropout`` with a mask that a CPU draws five times faster (15 % of a training step of ``cnn-vgg``).

    One 64-bit draw of torch's global generator decides four elements, so p is rounded to a multiple of 2**-16. What is
    kept is divided by the probability of keeping it.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"a dropout probability lies in [0, 1), not {p}")
        self.p, self.active = p, True

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.active or self.p == 0:
            return x
        if x.device.type != "cpu":
            return functional.dropout(x, self.p)
        dropped = round(self.p * 2**16)
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[: x.numel()]
        mask = (draws >= dropped - 2**15).to(x.dtype).mul_(1 / (1 - dropped / 2**16))
        return x * (mask.as_strided(x.shape, x.stride()) if _dense(x) else mask.view(x.shape))

    def extra_repr(self) -> str:
        return f"p={self.p}"


def _dense(x: Tensor) -> bool:
    return x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))


def switch_dropout(network: nn.Module, active: bool) -> None:
    """Turn all dropout of a network on or off for training; in evaluation mode there is none anyway."""
    for module in network.modules():
        if isinstance(module, Dropout):
            module.active = active


class PenalisedLinear(nn.Linear):
    """A linear layer whose weight adds ``l2 * sum(weight**2)`` to the loss, as a Keras ``kernel_regularizer`` does."""

    def __init__(self, inputs: int, outputs: int, l2: float) -> None:
        super().__init__(inputs, outputs)
        self.l2 = l2

    def penalty(self) -> Tensor:
        """The term of the loss, a scalar."""
        return self.l2 * self.weight.square().sum()


def keras_start(network: Network) -> Network:
    """Glorot-uniform weights and zero biases in every convolution and linear layer, in place (Keras' default)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


@contextmanager
def nothing_in_place(module: nn.Module) -> Iterator[None]:
    """While inside, activations make new maps: those in place take half of MobileNetV2's conversion (docs/log.md)."""
    changed: list[Any] = [each for each in module.modules() if getattr(each, "inplace", False) is True]
    for each in changed:
        each.inplace = False
    try:
        yield
    finally:
        for each in changed:
            each.inplace = True


@contextmanager
def computed_by(forwards: Sequence[tuple[nn.Module, Callable[[Tensor], Tensor]]]) -> Iterator[None]:
    """While inside, each module's ``forward`` is the function given with it; afterwards it is what it was before."""
    before = [vars(module).get("forward") for module, _ in forwards]
    for module, forward in forwards:
        module.forward = forward
    try:
        yield
    finally:
        for (module, _), earlier in zip(forwards, before, strict=True):
            if earlier is None:
                del module.forward
            else:
                module.forward = earlier


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """While inside, torch's global generators (the CPU's and ``device``'s) start from ``seed``; afterwards they are as before."""
    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        yield
