"""One training: the network, its optimizer, schedule, averages and best weights; steps, epochs, validation, and its whole state."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from frostline.checkpoints import State
from frostline.config import Settings
from frostline.data.batches import Batches
from frostline.data.mixing import mix
from frostline.data.order import stream_seed
from frostline.errors import UserError
from frostline.loop_state import Best, MovingAverage, Row, Sums, check_gradients, diverged
from frostline.losses import make_loss, make_penalty
from frostline.models.compiled import Compiled, check_graphs
from frostline.models.device import make_fabric, pick_device, pick_precision, placed
from frostline.models.layers import seeded, switch_dropout
from frostline.optim import Schedule, check_freezeout, frozen_by, make_optimizer, parameter_groups
from frostline.progress import Stage, say
from frostline.stopping import StopRule

#: Steps between looks at the losses on an accelerator, which would wait for it each time.
LOOK_EVERY = 256


@torch.inference_mode()
def log_probabilities(model: nn.Module, batches: Batches) -> tuple[Tensor, Tensor]:
    """(N, K) log-probabilities and the (N,) labels they belong to; those of several views are averaged, then sum to one again."""
    rows, labels = [], []
    for x, y in batches.epoch(0):
        log_probs = functional.log_softmax(model(x).float(), dim=-1)
        if log_probs.dim() == 3:
            log_probs = functional.log_softmax(log_probs.mean(dim=1), dim=-1)
        rows.append(log_probs)
        labels.append(y)
    return torch.cat(rows), torch.cat(labels)


def _trained(network: nn.Module, parameters: Iterable[Any] | None, settings: Settings) -> list[dict[str, Any]]:
    """Optimizer groups of what trains; everything else in the network stops asking for gradients."""
    if parameters is None:
        return parameter_groups(network, settings.with_values(rates=("*=1",), layer_decay=1.0))
    items = list(parameters)
    given = items if items and isinstance(items[0], dict) else [{"params": items}]
    groups = [{**group, "params": list(group["params"])} for group in given]
    chosen = {id(parameter) for group in groups for parameter in group["params"]}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    return groups


class Training:
    """A network in training. Arguments as in ``loop.fit``; ``began`` is the stop rule's clock at the start, in seconds."""

    def __init__(
        self,
        network: nn.Module,
        batches: Batches,
        validation: Batches,
        settings: Settings,
        parameters: Iterable[Any] | None,
        stop: StopRule,
    ) -> None:
        self.settings, self.stop, self.began = settings, stop, stop.elapsed()
        self.device = pick_device(settings.device)
        check_graphs(settings, self.device)
        self.precision = pick_precision(settings.precision, self.device)
        self.network, self.batches, self.validation = placed(network, self.device), batches, validation
        groups = _trained(network, parameters, settings)
        if not any(group["params"] for group in groups):
            raise UserError("There is nothing to train: every parameter of the network is frozen.")
        optimizer = make_optimizer(groups, settings)
        self.schedule = Schedule(optimizer, settings, len(batches))
        self.trainable = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
        check_freezeout(self.trainable, settings)  # said before anything is trained
        self.fabric = make_fabric(self.device, self.precision)
        self.model, self.optimizer = self.fabric.setup(network, optimizer)
        self.stepping = self.model if settings.compile == "no" else Compiled(self.fabric, network, settings.compile)
        self.loss, self.penalty = make_loss(settings, batches.labels), make_penalty(network)
        self.best = Best(network, "accuracy" if stop.stop_at is not None else settings.monitor, settings.soup)
        self.average = MovingAverage(network, settings.ema) if settings.ema else None
        self.history: list[Row] = []
        self.soup: Row = {}
        self.rates: Row = {}  # what the learning-rate finder found
        self.steps, self.started = 0, time.monotonic()
        batches.due = self._due

    def _due(self) -> float:
        """Of how many epochs the time has come by the clock of a budget; 0 without one."""
        return self.settings.epochs * self.stop.spent(self.began)

    @property
    def lr(self) -> float:
        """The learning rate of the settings, or what the finder found in its place."""
        return float(self.rates.get("lr", self.settings.lr))

    def state(self) -> State:
        """All that the next epoch depends on beside the data and the settings; random numbers begin anew with every epoch."""
        tensors, kept = self.best.state()
        if self.average:
            tensors |= self.average.state()
        if self.batches.losses is not None:
            tensors["losses"] = self.batches.losses
        numbers = {}
        for index, entries in self.optimizer.state_dict()["state"].items():
            for key, value in entries.items():
                name = f"optimizer.{index}.{key}"
                if isinstance(value, Tensor):
                    tensors[name] = value
                else:
                    numbers[name] = value
        values = {"steps": self.steps, "history": self.history, "best": kept, "optimizer": numbers}
        clock = {"elapsed": self.stop.elapsed(), "began": self.began}
        return State(tensors, {**values, "base": self.schedule.base, "rates": self.rates, "clock": clock, "how": self._how()})

    def _how(self) -> dict[str, str]:
        """What the bits of a training depend on beside its settings."""
        return {"precision": self.precision, "device": self.device.type, "torch": torch.__version__}

    def go_on(self, saved: State) -> None:
        """To where ``state`` was taken; that it was taken by other means is said."""
        then, now = saved.values.get("how", {}), self._how()
        if changed := [f"{name} {then[name]}, now {now[name]}" for name in then if then[name] != now[name]]:
            say(f"Training began with {', '.join(changed)}: it does not become what it would have been.", "yellow")
        self.best.go_on(saved.tensors, saved.values["best"])
        if self.average:
            self.average.go_on(saved.tensors)
        if self.batches.losses is not None:
            self.batches.losses.copy_(saved.tensors["losses"])
        entries: dict[int, dict[str, Any]] = {}
        for name, value in (saved.tensors | saved.values["optimizer"]).items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                entries.setdefault(int(index), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": entries, "param_groups": groups})
        self.steps = int(saved.values["steps"])
        self.schedule.base, self.rates = saved.values["base"], saved.values["rates"]
        clock = saved.values["clock"]  # what was spent before counts: for the record, the budget and the schedule that follows it
        self.stop.started -= clock["elapsed"]
        self.began = clock["began"]
        self.schedule.go_on(self.steps, self.stop.spent(self.began))
        self.history = saved.values["history"]
        self.started = time.monotonic() - self.history[-1]["seconds"]
        self.batches.prepare(len(self.history) - 1)  # what the epochs so far had: where no other follows, the record tells of it

    def descend(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """One step down the loss of a batch (B, …), (B,): forward, backward, the optimizer; returns the loss and the logits."""
        # on a heap gradients stay where they are: made anew in every step, they leave ever more holes between what is large
        self.optimizer.zero_grad(set_to_none=self.device.type != "cpu")
        mixed, shares = mix(x, y, self.settings)
        parts = max(1, min(self.settings.accumulate, len(x) // 2))  # BatchNorm knows no statistics of a single row
        labels = zip(*(each.tensor_split(parts) for each, _ in shares), strict=True)
        done = [
            self._gradients(part, zip(theirs, (share for _, share in shares), strict=True), len(part) / len(x))
            for part, theirs in zip(mixed.tensor_split(parts), labels, strict=True)
        ]
        loss, logits = torch.stack([loss for loss, _ in done]).sum(), torch.cat([logits for _, logits in done])
        if self.steps == 0:
            check_gradients(self.network)
        if self.settings.clip:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.settings.clip, error_if_nonfinite=False)
        self.optimizer.step()
        return loss, logits

    def _gradients(self, x: Tensor, shares: Iterable[tuple[Tensor, float]], weight: float) -> tuple[Tensor, Tensor]:
        """Add a part's gradients, ``weight`` being its share of the batch, to those there are; its weighted loss, and logits."""
        logits = self._forward(x)
        loss = sum((share * self.loss(logits, labels) for labels, share in shares), logits.new_zeros((), dtype=torch.float32))
        self.fabric.backward(weight * (loss + self.penalty()))
        return weight * loss.detach(), logits.detach()

    def _forward(self, x: Tensor) -> Tensor:
        try:
            logits: Tensor = self.stepping(x)
        except ValueError as error:
            if len(x) > 1:
                raise
            raise UserError(
                "BatchNorm knows no statistics of a single image.",
                expected="batches of two images at least",
                received=str(error),
                hint="--set batch_size=32",
            ) from error
        return logits

    def step(self, x: Tensor, y: Tensor, sums: Sums) -> None:
        """One batch of an epoch, with all that goes on beside the descent."""
        loss, logits = self.descend(x, y)
        if self.batches.losses is not None:
            self.batches.learned(functional.cross_entropy(logits.float(), y, reduction="none"))
        sums.add(loss, logits, y, self.lr * self.schedule.factor)
        self.schedule.step(self.stop.spent(self.began))
        self.steps += 1
        if self.average:
            self.average.update(self.steps)

    def prepare(self) -> str:
        """Let the batches compute what the next epoch needs; why training ends where that was cut short, else ""."""
        self.batches.prepare(len(self.history))
        return self.stop.reason if self.history and self.stop.check() else ""

    def epoch(self, bar: Stage) -> Row:
        """Train one epoch, or up to the step after which ``stop`` holds; judge the weights; the row joins the history."""
        number = len(self.history)
        # Dropout and mixing draw from the global generator: seeded by epoch, an epoch can be trained again without those before.
        with seeded(stream_seed(self.settings.seed, number, 1), self.device):
            row = {"epoch": number + 1, **self._steps(number, bar)}
            if self.average:
                with self.average.in_place():
                    row = self._judged(row)
            else:
                row = self._judged(row)
        self.history.append(row)
        bar.note(f"epoch {number + 1}: validation accuracy {row['validation_accuracy']:.4f}")
        return row

    def _steps(self, number: int, bar: Stage) -> Row:
        self.network.train()
        done = max(number, self._due())  # a budget gives a short training that is whole
        self._freeze_out(done / self.settings.epochs)
        switch_dropout(self.network, done < math.ceil(self.settings.epochs * self.settings.dropout_share))
        sums, started = Sums(), time.monotonic()
        look = 1 if self.device.type == "cpu" else LOOK_EVERY
        for x, y in self.batches.epoch(number):
            self.step(x, y, sums)
            bar.advance(len(y))
            last = self.stop.check()
            if last or len(sums.losses) % look == 0 or len(sums.losses) == len(self.batches):
                sums.check(number, self.lr)
            if last:
                break
        return {"steps": self.steps, **sums.row(), "images_per_second": sum(sums.sizes) / (time.monotonic() - started)}

    def _freeze_out(self, done: float) -> None:
        """Let the optimizer and the backward pass leave out what ``freezeout`` holds from here on."""
        held = frozen_by(self.trainable, self.settings.freezeout, done)
        for name, parameter in self.trainable.items():
            parameter.requires_grad_(name not in held)
            if name in held:
                parameter.grad = None

    def thaw(self) -> None:
        """Let everything that trained ask for gradients again: what was held at the end was trained too."""
        self._freeze_out(-1.0)

    def _judged(self, row: Row) -> Row:
        row = {**row, **self.validate()}
        if not math.isfinite(row["validation_loss"]):
            diverged("The validation loss is not finite after training", row["epoch"] - 1, self.steps, row["lr"], self.lr)
        row |= {"seconds": time.monotonic() - self.started, "elapsed": round(self.stop.elapsed(), 1)}
        self.best.offer(row)
        return row

    def validate(self) -> Row:
        """Accuracy, and the mean cross-entropy in nats, over every row of validation."""
        self.network.eval()
        log_probs, labels = log_probabilities(self.model, self.validation)
        log_probs, labels = log_probs.cpu(), labels.cpu()  # Apple's GPUs have no double precision
        loss = float(functional.nll_loss(log_probs.double(), labels))
        return {"validation_loss": loss, "validation_accuracy": int((log_probs.argmax(dim=1) == labels).sum()) / len(labels)}

    def try_soup(self) -> None:
        """Judge the mean of the best epochs' weights, and take it where it is better than each of them."""
        if self.settings.soup < 2 or len(self.history) < 2:
            return
        best, epochs = self.best.row, [row["epoch"] for row in self.best.average()]
        scores = self.validate()
        self.best.offer({**best, **scores, "soup": epochs})
        self.soup = {"epochs": epochs, **scores, "kept": self.best.row is not best}

    def why_end(self) -> str:
        """Why training ends after the last row of the history; "" while it goes on."""
        if not self.history:
            return ""
        if self.stop.check(self.history[-1]["validation_accuracy"]):
            return self.stop.reason
        epochs, patience = self.settings.epochs, self.settings.patience
        if len(self.history) >= epochs:
            return f"all {epochs} epochs were run"
        if patience > 0 and len(self.history) - self.best.row["epoch"] >= patience:
            return f"no better validation {self.best.monitor} in {patience} epochs"
        return ""
