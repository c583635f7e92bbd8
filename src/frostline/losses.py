"""What training minimises: a loss of logits and labels, and the penalties that layers carry."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from frostline.config import Settings
from frostline.models.layers import PenalisedLinear

#: (N, K) logits and (N,) labels to the mean loss, a scalar, in nats.
Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(settings: Settings) -> Loss:
    """Cross-entropy with the settings' label smoothing (Szegedy et al. 2016: the target is mixed with 1/K)."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits.float(), labels, label_smoothing=settings.label_smoothing)

    return loss


def make_penalty(network: nn.Module) -> Callable[[], Tensor | float]:
    """The sum of the penalties of the network's layers, as a function to be called each step; 0.0 where there are none."""
    layers = [module for module in network.modules() if isinstance(module, PenalisedLinear)]

    def penalty() -> Tensor | float:
        return torch.stack([layer.penalty() for layer in layers]).sum() if layers else 0.0

    return penalty
