"""Optimizers and learning-rate schedules by name, over ``torch.optim``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from timm.models import group_parameters
from timm.optim.muon import Muon
from torch import Tensor, nn

from frostline.config import Settings
from frostline.errors import UserError

#: Beside Muon, whose rate is a turn of whole filters, NAdamW takes the rest at this share of it: biases and heads step by the rate.
BESIDE_MUON = 0.05
#: One-cycle rises for this share of the steps where the settings name no warm-up (Smith and Topin 2018).
ONE_CYCLE_RISE = 0.25

OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], Settings], torch.optim.Optimizer]] = {
    "adam": lambda groups, s: torch.optim.Adam(groups, lr=s.lr, weight_decay=s.weight_decay, fused=True),
    "adamw": lambda groups, s: torch.optim.AdamW(groups, lr=s.lr, weight_decay=s.weight_decay, fused=True),
    "sgd": lambda groups, s: torch.optim.SGD(
        groups, lr=s.lr, momentum=s.momentum, nesterov=s.momentum > 0, weight_decay=s.weight_decay, fused=True
    ),
    "muon": lambda groups, s: _muon(groups, s),
}


def _muon(groups: list[dict[str, Any]], settings: Settings) -> torch.optim.Optimizer:
    """timm's Muon (Jordan 2024): filters step along an orthogonal matrix near their momentum; the rest are NAdamW's.

    Three steps of Newton and Schulz, as airbench has it, and each filter bank keeps the norm that it began with, so that a rate
    means the same turn throughout training. Groups say ``use_muon``, as ``parameter_groups`` makes them.
    """
    how: dict[str, Any] = {"nesterov": True, "ns_steps": 3, "ns_coefficients": "original", "adjust_lr_fn": None}
    made = Muon(groups, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay, **how)
    turned = [parameter for group in made.param_groups if group.get("use_muon") for parameter in group["params"]]
    kept = [(parameter, norm) for parameter in turned if (norm := parameter.detach().norm()) > 0]

    @torch.no_grad()
    def keep_norms(*_: Any) -> None:
        moved = [(parameter, norm) for parameter, norm in kept if parameter.grad is not None]
        if moved:  # all at once: on a GPU a step is as long as its launches are many
            filters, norms = (list(each) for each in zip(*moved, strict=True))
            torch._foreach_mul_(filters, torch._foreach_div(norms, torch._foreach_norm(filters)))

    made.register_step_post_hook(keep_norms)
    return made


def parameter_groups(network: nn.Module, settings: Settings, backbone: Any = None) -> list[dict[str, Any]]:
    """Optimizer groups by the settings' ``rates``: the first pattern that a parameter's name matches decides.

    A rate is a factor on the learning rate, or "frozen". Weight decay acts on weights alone, not on biases, BatchNorm and what
    else timm's network says (position embeddings, class tokens). Muon
    takes the matrices and filters of all but the head; the rest have ``BESIDE_MUON`` of the learning rate.

    Args:
        network: what trains; parameters that require no gradient stay as they are.
        settings: ``rates``, ``lr``, ``layer_decay``.
        backbone: timm's network, where ``network`` is a part of one; needed where ``layer_decay`` is not 1.

    Raises:
        UserError: a name that no pattern matches, a pattern that decides for none or cannot be read, or a backbone whose layers
            timm does not order.
    """
    rules = [_rule(text) for text in settings.rates]
    _check_patterns([pattern for pattern, _ in rules], [name for name, each in network.named_parameters() if each.requires_grad])
    undecayed = _undecayed(backbone)
    decays = _layer_decays(backbone, settings.layer_decay) if settings.layer_decay != 1 else {}
    groups: dict[tuple[float, bool, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        matching = [rate for pattern, rate in rules if fnmatchcase(name, pattern)]
        if not matching:
            raise UserError(
                f"No pattern of 'rates' matches {name}.", expected="a last pattern *=1", received=", ".join(settings.rates)
            )
        rate, decayed = matching[0], parameter.dim() > 1 and id(parameter) not in undecayed
        parameter.requires_grad_(rate is not None)
        if rate is not None:
            rate *= decays.get(id(parameter), 1.0)
            turned = settings.optimizer == "muon" and _can_be_turned(name, parameter)
            rate *= BESIDE_MUON if settings.optimizer == "muon" and not turned else 1.0
            group: dict[str, Any] = {"params": [], "lr": settings.lr * rate, **({} if decayed else {"weight_decay": 0.0})}
            group |= {"use_muon": turned} if settings.optimizer == "muon" else {}
            groups.setdefault((rate, decayed, turned), group)["params"].append(parameter)
    return list(groups.values())


def _check_patterns(patterns: list[str], names: list[str]) -> None:
    """Every pattern decides for some name, but a last *, which is for what is left."""
    deciding = {next((i for i, pattern in enumerate(patterns) if fnmatchcase(name, pattern)), None) for name in names}
    for place, pattern in enumerate(patterns):
        if place in deciding or (pattern == "*" and place == len(patterns) - 1):
            continue
        if any(fnmatchcase(name, pattern) for name in names):
            raise UserError(
                "A pattern of 'rates' comes after others that have decided for all that it matches.",
                expected="the special ones first, for example head.*=10,*=1",
                received=",".join(patterns),
                hint=f"{pattern} further to the front",
            )
        shown = ", ".join([*names[:3], *names[-2:]])
        raise UserError("A pattern of 'rates' matches no parameter.", expected=f"names such as {shown}", received=pattern)


def _undecayed(backbone: Any) -> set[int]:
    """Identities of the parameters that timm's network wants without weight decay, whatever their shape."""
    names: set[str] = getattr(backbone, "no_weight_decay", set)()
    return {id(parameter) for name, parameter in (backbone.named_parameters() if names else ()) if name in names}


def frozen_by(names: Iterable[str], freezeout: Sequence[str], done: float) -> set[str]:
    """The names that one of the settings' ``freezeout`` patterns holds once this share of the epochs, 0 to 1, is over.

    Early layers settle first, and a network whose lowest layers are frozen has less to go back through (Brock et al. 2017,
    "FreezeOut", arXiv 1706.04983).

    Raises:
        UserError: a pattern without a share between 0 and 1, or one that no name matches.
    """
    held: set[str] = set()
    names = list(names)
    for text in freezeout:
        pattern, share = _rule(text)
        matching = {name for name in names if fnmatchcase(name, pattern)}
        if share is None or not 0 <= share <= 1 or not matching:
            raise UserError(
                "A pattern of 'freezeout' names parameters and a share of the epochs.",
                expected="for example body.0.*=0.5, of " + ", ".join(names[:8]),
                received=text,
            )
        held |= matching if done >= share else set()
    return held


def check_freezeout(names: Iterable[str], settings: Settings) -> None:
    """See that ``freezeout`` can be read and leaves something to train in the last epoch, whenever that begins.

    Raises:
        UserError: see ``frozen_by``; or it holds all of these names.
    """
    names = set(names)
    last = 1 - 1e-9 if settings.budget else (settings.epochs - 1) / settings.epochs  # a budget's may begin at any time
    if names and frozen_by(names, settings.freezeout, last) == names:
        raise UserError(
            "Nothing would train in the last epoch: 'freezeout' holds every parameter.",
            expected="patterns that leave some, or shares after which no epoch begins",
            received=", ".join(settings.freezeout),
            hint="leave out one of them",
        )


def _can_be_turned(name: str, parameter: Tensor) -> bool:
    """Whether Muon makes its step: matrices and filters with several inputs and outputs, but for the head's."""
    return parameter.dim() > 1 and min(parameter.shape[:2]) > 1 and not name.startswith("head.")


def _layer_decays(backbone: Any, decay: float) -> dict[int, float]:
    """A factor for each of the backbone's parameters, by identity: the head's 1, and ``decay`` times as much for each layer below.

    Layers as timm groups them (``group_matcher``); the decay is that of Clark et al. 2020 (ELECTRA), section 3.1.
    """
    try:
        layers = group_parameters(backbone, backbone.group_matcher(coarse=False), reverse=True)
    except (AttributeError, NotImplementedError) as error:
        raise UserError("timm does not order this network's layers.", hint="leave layer_decay at 1, and name rates") from error
    named = dict(backbone.named_parameters())
    top = max(layers.values()) + 1
    return {id(named[name]): decay ** (top - layer) for name, layer in layers.items()}


def _rule(text: str) -> tuple[str, float | None]:
    pattern, _, rate = text.rpartition("=")
    try:
        factor = None if rate == "frozen" else float(rate)
    except ValueError:
        pattern, factor = "", None
    if not pattern or (factor is not None and not (math.isfinite(factor) and factor >= 0)):
        raise UserError("A rate is a pattern of names and a factor.", expected="head.*=10 or upper.*=frozen", received=text)
    return pattern, factor


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

    ``factor`` is what the base rates are multiplied by now; ``shortened``: the rise takes less than was asked.

    Args:
        optimizer: its groups' rates are the base rates.
        settings: schedule, epochs, warmup_epochs, of which a rise takes half of all at most.
        steps_per_epoch: of the epochs that the settings name.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, settings: Settings, steps_per_epoch: int) -> None:
        self.optimizer, self.name = optimizer, settings.schedule
        self.total, self.warmup = settings.epochs * steps_per_epoch, round(settings.warmup_epochs * steps_per_epoch)
        self.shortened = self.warmup > self.total // 2  # as a recipe's is that is tried for one epoch: its rate would never fall
        if self.shortened:
            self.warmup = self.total // 2
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

    def go_on(self, steps: int, spent: float = 0.0) -> None:
        """To the rates after so many steps, as if they had been made; ``spent`` as in ``step``."""
        self.steps = steps
        self._set(max(steps, int(spent * self.total)))

    def _set(self, step: int) -> None:
        self.factor = rate(self.name, min(step, self.total - 1), self.total, self.warmup)
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * self.factor
