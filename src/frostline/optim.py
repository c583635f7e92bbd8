"""Optimizers and learning-rate schedules by name, over ``torch.optim``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from frostline.config import Settings

#: One-cycle rises for this share of the steps where the settings name no warm-up (Smith and Topin 2018).
ONE_CYCLE_RISE = 0.25

OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], Settings], torch.optim.Optimizer]] = {
    "adam": lambda groups, s: torch.optim.Adam(groups, lr=s.lr, weight_decay=s.weight_decay, fused=True),
    "adamw": lambda groups, s: torch.optim.AdamW(groups, lr=s.lr, weight_decay=s.weight_decay, fused=True),
    "sgd": lambda groups, s: torch.optim.SGD(
        groups, lr=s.lr, momentum=s.momentum, nesterov=s.momentum > 0, weight_decay=s.weight_decay, fused=True
    ),
}


def trainable_groups(network: nn.Module) -> list[dict[str, Any]]:
    """The network's trainable parameters in two groups: weights, and what weight decay leaves alone (biases, BatchNorm)."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in trainable if parameter.dim() > 1]},
        {"params": [parameter for parameter in trainable if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(parameters: Iterable[Tensor] | Iterable[dict[str, Any]], settings: Settings) -> torch.optim.Optimizer:
    """The settings' optimizer over parameters or ``torch.optim`` groups; a group's own ``lr`` or ``weight_decay`` wins."""
    items = list(parameters)
    groups: Any = items if items and isinstance(items[0], dict) else [{"params": items}]
    return OPTIMIZERS[settings.optimizer](groups, settings)


def rate(schedule: str, step: int, total: int, warmup: int) -> float:
    """The factor in [0, 1] on the learning rate of ``step`` (0, …, total − 1); ``warmup`` steps rise in a straight line.

    After the rise: "constant" stays at 1, "linear" falls to 0 in a straight line, "cosine" and "one-cycle" fall as half a
    cosine. One-cycle rises for a quarter of the steps where ``warmup`` is 0. No step has a rate of 0.
    """
    if schedule == "one-cycle" and warmup == 0:
        warmup = int(total * ONE_CYCLE_RISE)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, total - warmup)
    falls = {"constant": 1.0, "linear": 1 - done}
    return max(0.0, falls.get(schedule, (1 + math.cos(math.pi * done)) / 2))


class Schedule:
    """The settings' schedule over every group's own base rate; made, it has set the rates of the first step.

    Args:
        optimizer: its groups' rates are the base rates.
        settings: schedule, epochs, warmup_epochs.
        steps_per_epoch: of the epochs that the settings name.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, settings: Settings, steps_per_epoch: int) -> None:
        self.optimizer, self.name = optimizer, settings.schedule
        self.total, self.warmup = settings.epochs * steps_per_epoch, round(settings.warmup_epochs * steps_per_epoch)
        self.base = [group["lr"] for group in optimizer.param_groups]
        self.steps = 0
        self._set(0)

    def step(self, spent: float = 0.0) -> None:
        """On to the rates of the next step.

        Args:
            spent: share of a time budget that is gone. Where it runs out before the steps do, the schedule follows it, so that
                a budget gives a short training that is whole and not the first part of a long one.
        """
        self.steps += 1
        self._set(max(self.steps, int(spent * self.total)))

    def go_on(self, steps: int) -> None:
        """To the rates after so many steps, as if they had been made."""
        self.steps = steps
        self._set(steps)

    def _set(self, step: int) -> None:
        factor = rate(self.name, min(step, self.total - 1), self.total, self.warmup)
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * factor
