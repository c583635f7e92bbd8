"""The one training loop, for scratch networks, heads and fine-tuning alike: batches in, a network with its best weights out.

It takes batches and a set of trainable parameters and does not know which kind of training it is. The network's own
``train()`` decides what stays in inference mode (a frozen BatchNorm). Test data never comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from frostline.checkpoints import Checkpoints
from frostline.config import Settings
from frostline.data.batches import Batches
from frostline.heap import freed_memory_kept
from frostline.loop_state import DivergedError, Row
from frostline.models.device import only_looking, slow_layers_in_f32
from frostline.progress import say, stage
from frostline.rate_finder import find_rate
from frostline.rehearsal import needs_warm_up, warm_up
from frostline.stopping import StopRule
from frostline.training import Training, log_probabilities


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
        soup: what the mean of the best epochs' weights scored, and whether it was kept; empty where none was tried.
        rates: what the learning-rate finder found; empty where it was not asked.
        warmup_seconds: of compiling, and of a GPU's first steps, before the clock of the history; 0 where there is no such thing.
    """

    network: nn.Module
    history: tuple[Row, ...]
    best: Row
    reason: str
    device: str
    precision: str
    soup: Row = field(default_factory=dict)
    rates: Row = field(default_factory=dict)
    warmup_seconds: float = 0.0

    def record(self) -> dict[str, Any]:
        """What a run's record says of it, without the history."""
        scores = {name: self.best[name] for name in ("validation_accuracy", "validation_loss")}
        made = {"best": self.best, "ended": self.reason, "device": self.device, "precision": self.precision, **scores}
        found = {"lr_found": self.rates["lr"], "lr_finder": self.rates} if self.rates else {}
        warmed_up = {"warmup_seconds": round(self.warmup_seconds, 3)} if self.warmup_seconds else {}
        return {**made, **({"soup": self.soup} if self.soup else {}), **found, **warmed_up}


def predict_log_probs(network: nn.Module, batches: Batches, settings: Settings) -> NDArray[np.float32]:
    """The network's log-probabilities for every row, in evaluation mode, in the batches' order.

    Where the network answers (B, V, K) for V views of a row, their log-probabilities are averaged, then made to sum to one.

    Returns:
        (N, K) float32; each row's exponentials sum to one.
    """
    with only_looking(network, settings) as model:
        return log_probabilities(model, batches)[0].cpu().numpy()


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
        settings: those of training ("trained by the loop" in ``config``), seed, precision, device.
        stop: when to end early; None: never. Where its budget ends before the epochs do, the schedule follows the budget.
        on_epoch: called with each row of the history as it is made: epoch (1, 2, …), steps (so far), seconds (since the
            start, validation included), elapsed (seconds on the stop rule's clock), lr (of the epoch's last step, before the
            groups' own factors), train_loss (nats, with label smoothing, without penalties; with a teacher ``losses.taught``),
            train_accuracy (while training: dropout and augmentation on; with a teacher how often the likeliest class is his),
            validation_loss (nats), validation_accuracy, images_per_second (training alone).
        parameters: the tensors, or ``torch.optim`` groups, that train; all others are frozen. None: those that require a
            gradient, weight decay on weights alone.
        checkpoints: where the state is kept after whole epochs, as often as ``Checkpoints.offer`` says; training goes on from it
            if there is one, on a CPU with the same bits as if it had never been interrupted.

    Raises:
        UserError: the loss is not finite, a trainable parameter gets no gradient, or nothing is trainable.
    """
    training = Training(network, batches, validation, settings, parameters, stop or StopRule())
    if training.schedule.shortened:
        say(f"The learning rate rises for half of the {settings.epochs} epochs, not for {settings.warmup_epochs:g} of them.")
    if checkpoints is not None and (saved := checkpoints.load()) is not None:
        training.go_on(saved)
        say(f"Training goes on after epoch {len(training.history)}.")
        for row in training.history:
            on_epoch(row)
    with freed_memory_kept(), slow_layers_in_f32(network, training.device, training.precision):
        warmup = warm_up(training) if needs_warm_up(training) else 0.0
        reason = _train(training, on_epoch, checkpoints)
    best, history = training.best.row, tuple(training.history)
    return Fitted(network, history, best, reason, str(training.device), training.precision, training.soup, training.rates, warmup)


def _train(training: Training, on_epoch: Callable[[Row], None], checkpoints: Checkpoints | None) -> str:
    """All epochs; returns why training ended."""
    settings, rows = training.settings, training.batches.shown
    if settings.find_lr and not training.history:
        training.rates = find_rate(training)
        if training.rates["found"]:
            say(f"The learning-rate finder takes {training.rates['lr']:.2g} instead of {settings.lr:g}.")
        else:
            say(f"The learning-rate finder found no rate at which the loss falls: it stays {settings.lr:g}.", "yellow")
    try:
        with stage("train", total=settings.epochs * rows) as bar:
            bar.advance(len(training.history) * rows)
            while not (reason := training.why_end() or training.prepare()):
                try:
                    row = training.epoch(bar)
                except DivergedError as error:
                    reason = _what_is_left(training, error)
                    break
                on_epoch(row)
                # an epoch that was cut short is trained again
                if checkpoints is not None and training.steps % len(training.batches) == 0:
                    checkpoints.offer(len(training.history), training.state())
        training.try_soup()
    finally:
        training.best.restore()
        training.thaw()
        training.network.eval()
    return reason


def _what_is_left(training: Training, error: DivergedError) -> str:
    """Why training ends where it diverges after an epoch whose weights can be kept; before that it is the error it is."""
    if not training.best.row:
        raise error
    kept = f"the weights after epoch {training.best.row['epoch']} are kept"
    say(f"{error.message} Training ends; {kept}. Try {error.hint}.", "yellow")
    return f"{error.message} {kept.capitalize()}."
