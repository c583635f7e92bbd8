"""What the loop carries along: the best weights so far, their moving average, and the sums of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from frostline.errors import UserError

Row = dict[str, Any]


class DivergedError(UserError):
    """The losses have left the finite numbers."""


def live_tensors(network: nn.Module) -> list[Tensor]:
    """What training can change: trained parameters, and buffers."""
    return [*(parameter for parameter in network.parameters() if parameter.requires_grad), *network.buffers()]


@torch.no_grad()
def _copy(target: list[Tensor], source: list[Tensor]) -> None:
    for to, value in zip(target, source, strict=True):
        to.copy_(value)


class Best:
    """Copies of the best weights so far, best first, and their rows.

    Args:
        network: whose weights are copied.
        monitor: the score that decides, "accuracy" or "loss" of validation.
        kept: how many are held.
    """

    def __init__(self, network: nn.Module, monitor: str, kept: int = 1) -> None:
        self._live, self.monitor, self._room = live_tensors(network), monitor, max(1, kept)
        self._kept: list[tuple[Row, list[Tensor]]] = []

    @property
    def row(self) -> Row:
        """The best row; empty before the first offer."""
        return self._kept[0][0] if self._kept else {}

    def _score(self, row: Row) -> tuple[float, float]:
        accuracy, loss = row["validation_accuracy"], -row["validation_loss"]
        return (accuracy, loss) if self.monitor == "accuracy" else (loss, accuracy)

    def offer(self, row: Row) -> None:
        """Keep the present weights if this row is among the best; a tie on one score is decided by the other, then by age."""
        place = sum(self._score(row) <= self._score(other) for other, _ in self._kept)
        if place < self._room:
            self._kept.insert(place, (row, [tensor.detach().clone() for tensor in self._live]))
            del self._kept[self._room :]

    def average(self) -> list[Row]:
        """Put the mean of the kept weights into the network (a "soup", Wortsman et al. 2022); returns the rows it was made of."""
        columns = zip(*(tensors for _, tensors in self._kept), strict=True)
        _copy(self._live, [torch.stack(column).mean(0) if column[0].is_floating_point() else column[0] for column in columns])
        return [row for row, _ in self._kept]

    def state(self) -> tuple[dict[str, Tensor], list[Row]]:
        """Present and kept tensors, by name, and the rows of the kept."""
        tensors = {f"present.{i}": tensor for i, tensor in enumerate(self._live)}
        for place, (_, kept) in enumerate(self._kept):
            tensors |= {f"best.{place}.{i}": tensor for i, tensor in enumerate(kept)}
        return tensors, [row for row, _ in self._kept]

    def go_on(self, tensors: dict[str, Tensor], rows: list[Row]) -> None:
        """Present and kept tensors as ``state`` gave them."""
        _copy(self._live, [tensors[f"present.{i}"] for i in range(len(self._live))])
        self._kept = [
            (row, [tensors[f"best.{place}.{i}"].to(live.device) for i, live in enumerate(self._live)])
            for place, row in enumerate(rows)
        ]

    def restore(self) -> None:
        """Put the best weights back into the network; nothing to do before the first offer."""
        if self._kept:
            _copy(self._live, self._kept[0][1])


class MovingAverage:
    """The exponential moving average of all that training changes (Polyak and Juditsky 1992), warmed up as TensorFlow's and timm's:
    after t steps the decay is at most (1 + t) / (10 + t), so that the first weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._live = [tensor for tensor in live_tensors(network) if tensor.is_floating_point()]
        self._mean = [tensor.detach().clone() for tensor in self._live]
        self._decay = decay

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take up the weights as they are after ``steps`` steps."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(self._mean, [tensor.detach() for tensor in self._live], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While inside, the network has the averaged weights."""
        present = [tensor.detach().clone() for tensor in self._live]
        _copy(self._live, self._mean)
        try:
            yield
        finally:
            _copy(self._live, present)

    def state(self) -> dict[str, Tensor]:
        """The averages, by name."""
        return {f"average.{i}": tensor for i, tensor in enumerate(self._mean)}

    def go_on(self, tensors: dict[str, Tensor]) -> None:
        """To the averages that ``state`` gave."""
        _copy(self._mean, [tensors[f"average.{i}"] for i in range(len(self._mean))])


@dataclass
class Sums:
    """What an epoch's steps add up to; everything stays on the device until it is looked at."""

    losses: list[Tensor] = field(default_factory=list)
    hits: list[Tensor] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    looked: int = 0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor, rate: float) -> None:
        self.losses.append(loss.detach())
        right = labels if labels.dim() == 1 else labels.argmax(dim=1)  # of a teacher's answers the likeliest
        self.hits.append((logits.detach().argmax(dim=1) == right).sum())
        self.sizes.append(len(labels))
        self.rates.append(rate)

    def check(self, epoch: int, lr: float) -> None:
        """Look at the losses not yet looked at: the first that is not finite is a ``UserError`` that names its step.

        ``lr``: the learning rate that the schedule began with.
        """
        bad = (~torch.stack(self.losses[self.looked :]).isfinite()).nonzero()
        if len(bad):
            step = self.looked + int(bad[0])
            diverged(f"The training loss became {float(self.losses[step]):g}", epoch, step + 1, self.rates[step], lr)
        self.looked = len(self.losses)

    def row(self) -> Row:
        """Means over rows, not over batches."""
        sizes = torch.tensor(self.sizes, dtype=torch.float64)
        mean = float((torch.stack(self.losses).cpu().double() * sizes).sum() / sizes.sum())
        return {"lr": self.rates[-1], "train_loss": mean, "train_accuracy": int(torch.stack(self.hits).sum()) / sum(self.sizes)}


def diverged(what: str, epoch: int, step: int, rate: float, lr: float) -> None:
    """Raise the error for a training that has left the finite numbers, in this epoch and step (counted from 0, 1).

    ``rate`` is the step's, which the schedule and a factor of the settings' ``rates`` have made of ``lr``.
    """
    raise DivergedError(
        f"{what} in epoch {epoch + 1}, step {step}, at a learning rate of {rate:g}.",
        expected="a finite loss",
        hint=f"a smaller learning rate, for example --set lr={lr / 10:g}",
    )


def check_gradients(network: nn.Module) -> None:
    """After a backward pass: a parameter that trains and has no gradient has no part in the output, and is a ``UserError``."""
    unused = [name for name, parameter in network.named_parameters() if parameter.requires_grad and parameter.grad is None]
    if unused:
        raise UserError(
            "Some trainable parameters have no part in the network's output.",
            expected="a gradient for each of them, or that they are frozen",
            received="no gradient for " + ", ".join(unused),
            hint=f'--set "rates={unused[0]}=frozen,*=1"',
        )
