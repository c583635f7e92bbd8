"""What the loop carries along: the best weights so far, and the sums of an epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from frostline.errors import UserError

Row = dict[str, Any]


class Best:
    """The best weights so far: a copy of what training can change (trained parameters, buffers), and its row."""

    def __init__(self, network: nn.Module, monitor: str) -> None:
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._live: list[Tensor] = [*trained, *network.buffers()]
        self._kept: list[Tensor] = []
        self._monitor = monitor
        self.row: Row = {}

    def _score(self, row: Row) -> tuple[float, float]:
        accuracy, loss = row["validation_accuracy"], -row["validation_loss"]
        return (accuracy, loss) if self._monitor == "accuracy" else (loss, accuracy)

    def offer(self, row: Row) -> None:
        """Keep the present weights if this row is better than the best; a tie on one score is decided by the other."""
        if not self.row or self._score(row) > self._score(self.row):
            self.row, self._kept = row, [tensor.detach().clone() for tensor in self._live]

    def state(self) -> dict[str, Tensor]:
        """Present and kept tensors, by name."""
        present = {f"present.{i}": tensor for i, tensor in enumerate(self._live)}
        return present | {f"best.{i}": tensor for i, tensor in enumerate(self._kept)}

    @torch.no_grad()
    def go_on(self, tensors: dict[str, Tensor], row: Row) -> None:
        """Present and kept tensors as ``state`` gave them; ``row`` is that of the kept."""
        for i, live in enumerate(self._live):
            live.copy_(tensors[f"present.{i}"])
        self._kept = [tensors[f"best.{i}"].to(live.device) for i, live in enumerate(self._live)]
        self.row = row

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best weights back into the network; nothing to do before the first offer."""
        if self._kept:
            for live, kept in zip(self._live, self._kept, strict=True):
                live.copy_(kept)


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
        self.hits.append((logits.detach().argmax(dim=1) == labels).sum())
        self.sizes.append(len(labels))
        self.rates.append(rate)

    def check(self, epoch: int) -> None:
        """Look at the losses not yet looked at: the first that is not finite is a ``UserError`` that names its step."""
        bad = (~torch.stack(self.losses[self.looked :]).isfinite()).nonzero()
        if len(bad):
            step = self.looked + int(bad[0])
            diverged(f"The training loss became {float(self.losses[step]):g}", epoch, step + 1, self.rates[step])
        self.looked = len(self.losses)

    def row(self) -> Row:
        """Means over rows, not over batches."""
        sizes = torch.tensor(self.sizes, dtype=torch.float64)
        mean = float((torch.stack(self.losses).cpu().double() * sizes).sum() / sizes.sum())
        return {"lr": self.rates[-1], "train_loss": mean, "train_accuracy": int(torch.stack(self.hits).sum()) / sum(self.sizes)}


def diverged(what: str, epoch: int, step: int, rate: float) -> None:
    """Raise the ``UserError`` for a training that has left the finite numbers, in this epoch and step (counted from 0, 1)."""
    raise UserError(
        f"{what} in epoch {epoch + 1}, step {step}, at a learning rate of {rate:g}.",
        expected="a finite loss",
        hint=f"a smaller learning rate, for example --set lr={rate / 10:g}",
    )
