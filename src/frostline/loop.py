"""The one training loop, for scratch networks, heads and fine-tuning alike: batches in, a network with its best weights out.

It takes batches and a set of trainable parameters and does not know which kind of training it is. The network's own
``train()`` decides what stays in inference mode (a frozen BatchNorm). Test data never comes here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from frostline.checkpoints import Checkpoints, State
from frostline.config import Settings
from frostline.data.batches import Batches, stream_seed
from frostline.errors import UserError
from frostline.loop_state import Best, Row, Sums, diverged
from frostline.losses import make_loss, make_penalty
from frostline.models.device import make_fabric, pick_device, pick_precision
from frostline.models.layers import seeded, switch_dropout
from frostline.optim import Schedule, make_optimizer, trainable_groups
from frostline.progress import Stage, say, stage
from frostline.stopping import StopRule

#: Steps between looks at the losses on an accelerator, which would wait for it each time.
LOOK_EVERY = 16


@dataclass(frozen=True)
class Fitted:
    """A trained network and how it came about.

    Attributes:
        network: in evaluation mode, with the weights of ``best``.
        history: a row an epoch, in order (see ``fit``).
        best: the row whose weights the network has.
        reason: why training ended.
        device: torch's name of the device.
        precision: "bf16" or "f32", as used.
    """

    network: nn.Module
    history: tuple[Row, ...]
    best: Row
    reason: str
    device: str
    precision: str

    def record(self) -> dict[str, Any]:
        """What a run's record says of it, without the history."""
        scores = {name: self.best[name] for name in ("validation_accuracy", "validation_loss")}
        return {"best": self.best, "ended": self.reason, "device": self.device, "precision": self.precision, **scores}


def predict_log_probs(network: nn.Module, batches: Batches, settings: Settings) -> NDArray[np.float32]:
    """The network's log-probabilities for every row, in evaluation mode, in the batches' order.

    Where the network answers (B, V, K) for V views of a row, their log-probabilities are averaged, then made to sum to one.

    Returns:
        (N, K) float32; each row's exponentials sum to one.
    """
    device = pick_device(settings.device)
    model = make_fabric(device, pick_precision(settings.precision, device)).setup_module(network)
    network.eval()
    return _log_probs(model, batches)[0].cpu().numpy()


@torch.inference_mode()
def _log_probs(model: nn.Module, batches: Batches) -> tuple[Tensor, Tensor]:
    """(N, K) log-probabilities and the (N,) labels they belong to."""
    rows, labels = [], []
    for x, y in batches.epoch(0):
        log_probs = functional.log_softmax(model(x).float(), dim=-1)
        if log_probs.dim() == 3:
            log_probs = functional.log_softmax(log_probs.mean(dim=1), dim=-1)
        rows.append(log_probs)
        labels.append(y)
    return torch.cat(rows), torch.cat(labels)


def _trained(network: nn.Module, parameters: Iterable[Any] | None) -> list[dict[str, Any]]:
    """Optimizer groups of what trains; everything else in the network stops asking for gradients."""
    if parameters is None:
        return trainable_groups(network)
    items = list(parameters)
    given = items if items and isinstance(items[0], dict) else [{"params": items}]
    groups = [{**group, "params": list(group["params"])} for group in given]
    chosen = {id(parameter) for group in groups for parameter in group["params"]}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    return groups


class _Run:
    """One training: the network, its optimizer and schedule, and the steps of an epoch."""

    def __init__(
        self, network: nn.Module, batches: Batches, settings: Settings, parameters: Iterable[Any] | None, began: float
    ) -> None:
        self.device = pick_device(settings.device)
        self.precision = pick_precision(settings.precision, self.device)
        self.network, self.batches = network.to(self.device), batches
        groups = _trained(network, parameters)
        if not any(group["params"] for group in groups):
            raise UserError("There is nothing to train: every parameter of the network is frozen.")
        optimizer = make_optimizer(groups, settings)
        self.schedule = Schedule(optimizer, settings, len(batches))
        self.fabric = make_fabric(self.device, self.precision)
        self.model, self.optimizer = self.fabric.setup(network, optimizer)
        self.loss, self.penalty = make_loss(settings), make_penalty(network)
        self.steps, self.began = 0, began
        self.dropout_epochs = math.ceil(settings.epochs * settings.dropout_share)

    def state(self, best: Best, history: list[Row]) -> State:
        """All that the next epoch depends on beside the data and the settings; random numbers begin anew with every epoch."""
        tensors, numbers = best.state(), {}
        for index, entries in self.optimizer.state_dict()["state"].items():
            for key, value in entries.items():
                name = f"optimizer.{index}.{key}"
                if isinstance(value, Tensor):
                    tensors[name] = value
                else:
                    numbers[name] = value
        return State(tensors, {"steps": self.steps, "history": history, "best": best.row, "optimizer": numbers})

    def go_on(self, saved: State, best: Best) -> list[Row]:
        """To where ``state`` was taken; returns the history so far."""
        best.go_on(saved.tensors, saved.values["best"])
        entries: dict[int, dict[str, Any]] = {}
        for name, value in (saved.tensors | saved.values["optimizer"]).items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                entries.setdefault(int(index), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": entries, "param_groups": groups})
        self.steps = int(saved.values["steps"])
        self.schedule.go_on(self.steps)
        history: list[Row] = saved.values["history"]
        return history

    def step(self, x: Tensor, y: Tensor, sums: Sums, spent: float) -> None:
        self.optimizer.zero_grad()
        logits = self.model(x)
        loss = self.loss(logits, y)
        self.fabric.backward(loss + self.penalty())
        if self.steps == 0:
            self._check_gradients()
        self.optimizer.step()
        sums.add(loss, logits, y, self.optimizer.param_groups[0]["lr"])
        self.schedule.step(spent)
        self.steps += 1

    def _check_gradients(self) -> None:
        unused = [name for name, p in self.network.named_parameters() if p.requires_grad and p.grad is None]
        if unused:
            raise UserError(
                "Some trainable parameters have no part in the network's output.",
                expected="a gradient for each of them, or that they are frozen",
                received="no gradient for " + ", ".join(unused),
            )

    def epoch(self, number: int, stop: StopRule, bar: Stage) -> Row:
        """Train one epoch, or up to the step after which ``stop`` holds."""
        self.network.train()
        switch_dropout(self.network, number < self.dropout_epochs)
        sums, started = Sums(), time.monotonic()
        look = 1 if self.device.type == "cpu" else LOOK_EVERY
        for x, y in self.batches.epoch(number):
            self.step(x, y, sums, stop.spent(self.began))
            bar.advance(len(y))
            last = stop.check()
            if last or len(sums.losses) % look == 0 or len(sums.losses) == len(self.batches):
                sums.check(number)
            if last:
                break
        row = sums.row()
        return {"steps": self.steps, **row, "images_per_second": sum(sums.sizes) / (time.monotonic() - started)}

    def validate(self, validation: Batches) -> Row:
        """Accuracy, and the mean cross-entropy in nats, over every row of ``validation``."""
        self.network.eval()
        log_probs, labels = _log_probs(self.model, validation)
        loss = float(functional.nll_loss(log_probs.double(), labels))
        return {"validation_loss": loss, "validation_accuracy": int((log_probs.argmax(dim=1) == labels).sum()) / len(labels)}


def fit(
    network: nn.Module,
    batches: Batches,
    validation: Batches,
    *,
    settings: Settings,
    stop: StopRule | None = None,
    on_epoch: Callable[[Row], None] = lambda row: None,
    parameters: Iterable[Any] | None = None,
    checkpoints: Checkpoints | None = None,
) -> Fitted:
    """Train ``network`` in place and leave it with the weights that did best on ``validation``, however training ends.

    ``stop`` is asked after every step (Ctrl-C, budget) and, with the new accuracy, after every epoch; an epoch that it cuts
    short is validated like a whole one. Where ``stop`` waits for an accuracy, accuracy decides which weights are best.
    The same seed gives the same weights on a CPU (with the same number of threads).

    Args:
        network: (B, …) inputs to (B, K) logits; moved to the settings' device.
        batches: training rows; see ``data.batches``.
        validation: rows in order, unaugmented.
        settings: epochs, optimizer, schedule, label smoothing, monitor, patience, seed, precision, device.
        stop: when to end early; None: never. Where its budget ends before the epochs do, the schedule follows the budget.
        on_epoch: called with each row of the history as it is made: epoch (1, 2, …), steps (so far), seconds (since the
            start, validation included), lr (of the epoch's last step), train_loss (nats, with label smoothing, without
            penalties), train_accuracy (while training: dropout and augmentation on), validation_loss (nats),
            validation_accuracy, images_per_second (training alone).
        parameters: the tensors, or ``torch.optim`` groups, that train; all others are frozen. None: those that require a
            gradient, weight decay on weights alone.
        checkpoints: where the state is kept after every whole epoch, and from where training goes on if there is one: on a CPU
            with the same bits as if it had never been interrupted.

    Raises:
        UserError: the loss is not finite, a trainable parameter gets no gradient, or nothing is trainable.
    """
    stop = stop or StopRule()
    run = _Run(network, batches, settings, parameters, stop.elapsed())
    best = Best(network, "accuracy" if stop.stop_at is not None else settings.monitor)
    history: list[Row] = []
    if checkpoints is not None and (saved := checkpoints.load()) is not None:
        history = run.go_on(saved, best)
        say(f"Training goes on after epoch {len(history)}.")
        for row in history:
            on_epoch(row)
    started = time.monotonic() - (history[-1]["seconds"] if history else 0.0)
    reason = _why_end(history, best.row, settings, stop) if history else ""
    try:
        with stage("train", total=settings.epochs * batches.rows) as bar:
            bar.advance(len(history) * batches.rows)
            while not reason:
                row = _one_epoch(run, validation, settings.seed, len(history), stop, bar)
                row["seconds"] = time.monotonic() - started
                history.append(row)
                best.offer(row)
                on_epoch(row)
                reason = _why_end(history, best.row, settings, stop)
                if checkpoints is not None and run.steps % len(batches) == 0:  # an epoch that was cut short is trained again
                    checkpoints.save(len(history), run.state(best, history))
    finally:
        best.restore()
        network.eval()
    return Fitted(network, tuple(history), best.row, reason, str(run.device), run.precision)


def _one_epoch(run: _Run, validation: Batches, seed: int, number: int, stop: StopRule, bar: Stage) -> Row:
    # Dropout draws from the global generator: seeded by epoch, an epoch can be trained again without those before it.
    with seeded(stream_seed(seed, number, 1), run.device):
        row = {"epoch": number + 1, **run.epoch(number, stop, bar), **run.validate(validation)}
    if not math.isfinite(row["validation_loss"]):
        diverged("The validation loss is not finite after training", number, run.steps, row["lr"])
    bar.note(f"epoch {number + 1}: validation accuracy {row['validation_accuracy']:.4f}")
    return row


def _why_end(history: list[Row], best: Row, settings: Settings, stop: StopRule) -> str:
    """Why training ends after this row; "" while it goes on."""
    if stop.check(history[-1]["validation_accuracy"]):
        return stop.reason
    if len(history) >= settings.epochs:
        return f"all {settings.epochs} epochs were run"
    if settings.patience and len(history) - best["epoch"] >= settings.patience:
        return f"no better validation {settings.monitor} in {settings.patience} epochs"
    return ""
