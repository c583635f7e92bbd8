"""The sources' dense heads, by name, on the (N, D) features of a frozen backbone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frostline.errors import UserError, nearest
from frostline.models.layers import Dropout, PenalisedLinear, keras_start, seeded


def dense_a(features: int, classes: int) -> nn.Sequential:
    """Source A: "a few Dense+ReLU", here 256 and 128, then Dense K."""
    return nn.Sequential(nn.Linear(features, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, classes))


def dense_b(features: int, classes: int) -> nn.Sequential:
    """Source B: Dense128 ReLU · Drop.2 · Dense256 ReLU with L2 0.001 on its kernel · Dense K."""
    first = (nn.Linear(features, 128), nn.ReLU(), Dropout(0.2))
    return nn.Sequential(*first, PenalisedLinear(128, 256, l2=0.001), nn.ReLU(), nn.Linear(256, classes))


def dense_c(features: int, classes: int) -> nn.Sequential:
    """Source C: Dense K alone."""
    return nn.Sequential(nn.Linear(features, classes))


def dense_d(features: int, classes: int) -> nn.Sequential:
    """Source D: Dense128 ReLU · Drop.3 · Dense K."""
    return nn.Sequential(nn.Linear(features, 128), nn.ReLU(), Dropout(0.3), nn.Linear(128, classes))


class CompressedLinear(nn.Linear):
    """Logits = W sign(x) |x|^power + b: a linear head on features as ``features.compressed`` has them."""

    def __init__(self, features: int, classes: int, power: float) -> None:
        super().__init__(features, classes)
        self.power = power

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features if self.power == 1 else features.sign() * features.abs().pow(self.power))


def compressed_linear(weight: NDArray[np.float32], bias: NDArray[np.float32], power: float) -> CompressedLinear:
    """The head with ``weight`` (D, K) and ``bias`` (K,)."""
    features, classes = weight.shape
    module = CompressedLinear(features, classes, power)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(weight.T.copy()))
        module.bias.copy_(torch.from_numpy(bias))
    return module.eval()


HEADS: dict[str, Callable[[int, int], nn.Sequential]] = {
    "dense-a": dense_a,
    "dense-b": dense_b,
    "dense-c": dense_c,
    "dense-d": dense_d,
}


def make_head(name: str, features: int, classes: int, seed: int = 0) -> nn.Sequential:
    """A head (N, D) → (N, K) logits by name, Keras' starting weights drawn from ``seed``; an unknown name is a ``UserError``."""
    if name not in HEADS:
        raise UserError(f"There is no dense head '{name}'.", received=name, hint=nearest(name, sorted(HEADS)))
    with seeded(seed):
        head = HEADS[name](features, classes)
        keras_start(head)
    return head
