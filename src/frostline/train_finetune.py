"""The fine-tuning path: activations at the frost line through the cache, a head, then all above the line trains with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from frostline import engine
from frostline.anytime import Extracted, FeatureTable, stratified_order
from frostline.calibrate import apply_temperature, fit_temperature, undetermined
from frostline.checkpoints import Checkpoints, training_identity
from frostline.config import Settings
from frostline.convert import convert_head
from frostline.data.batches import FeatureBatches, stored_tensor
from frostline.data.imageset import Splits
from frostline.errors import UserError
from frostline.feature_cache import FeatureOverflowError, raw
from frostline.features import FeatureBlock
from frostline.frozen import Below, converted, freeze_below
from frostline.heads import FittedHead, fit_head
from frostline.linear import Moments
from frostline.loop import Fitted, fit, predict_log_probs
from frostline.models.device import make_fabric, pick_device, pick_precision
from frostline.models.transfer import Trainable, parameter_groups
from frostline.progress import say, stage
from frostline.runs import Run
from frostline.stopping import StopRule
from frostline.trained import Trained, judged_by_graph

#: Rows of a pass that only looks.
LOOKED_AT = 128


def train_finetune(splits: Splits, settings: Settings, run: Run, stop: StopRule) -> Trained:
    """Train the head, then the head and what is above the frost line; arguments as in ``train_frozen``.

    The head's stage is kept as a model of its own (``Trained.earlier``), to be scored beside the finished one.
    """
    if settings.head == "ridge":
        raise UserError(
            "Fine-tuning goes on from a head that gives probabilities.", expected="logistic or dense-…", received="ridge"
        )
    with run.timing("compile"):
        below = freeze_below(settings, splits.train.size)
        whole = _whole(below)
    _say_plan(below, settings, splits)
    with run.timing("activations"):
        stored = _activations(below, splits, settings, stop)
    tuning = _FineTuning(below, stored, splits, settings)
    with run.timing("head"):
        head = tuning.head_alone(run, stop)
    first = tuning.trained(whole, head.module, head.temperature, head.validation, head.record)
    say(f"Head alone: validation accuracy {head.record['validation_accuracy']:.2%} after {stop.elapsed():.0f} s.")
    if stop.check(head.record["validation_accuracy"]):
        say(f"Nothing above the frost line was trained: {stop.reason}. The head's model is the finished one.", "yellow")
        return replace(first, record={**first.record, "ended": stop.reason})
    with run.timing("fit"):
        network, fitted = tuning.above(head.chosen, run, stop)
        log_p = predict_log_probs(network, stored.batches(settings, False, LOOKED_AT), settings)
    network = network.cpu()
    temperature, note = fit_temperature(log_p, stored.judged), undetermined(log_p, stored.judged)
    if note:
        say(f"The temperature stays 1: {note}", "yellow")
    with run.timing("join"):
        whole = _whole(below)
    record = tuning.record(fitted, head, temperature, note)
    return tuning.trained(whole, network.head, temperature, log_p, record, earlier=(("head", first),))


def _whole(below: Below) -> tuple[Any, int]:
    """The whole network as it is now, compiled for a processor, and how many of its first layers stay in f32."""
    precision = engine.resolve_precision("auto") if below.frozen.graph is None else below.frozen.precision
    return converted(below.loaded.network.cpu().eval(), below.frozen.preprocess, precision)


def _say_plan(below: Below, settings: Settings, splits: Splits) -> None:
    line, frozen = below.line, below.frozen
    for note in (*frozen.notes, *([line.said] if line.said else [])):
        say(note)
    total, above = below.loaded.parameters, sum(parameter.numel() for parameter in line.upper.parameters())
    rows = len(splits.train) * max(settings.views, settings.cached_views) + len(splits.validation) * settings.views
    shape, size = "×".join(map(str, line.shape)), rows * frozen.width * 2 / 2**20
    say(
        f"Frost line: {below.loaded.name} is frozen below {line.first}; from there on {above:,} of its {total:,} parameters "
        f"train, and the head. {rows:,} activations of {shape} are kept: {size:,.0f} MiB."
    )


@dataclass(frozen=True)
class _Stored:
    """Activations of training and validation rows, (n, V, C·h·w), and the rows' labels."""

    train: FeatureTable
    validation: FeatureTable
    labels: NDArray[np.int64]
    judged: NDArray[np.int64]
    reason: str

    def batches(self, settings: Settings, train: bool, size: int, shuffle: bool = False) -> FeatureBatches:
        table, labels = (self.train, self.labels) if train else (self.validation, self.judged)
        features = stored_tensor(table.features, table.dtype)
        device = pick_device(settings.device)
        return FeatureBatches(features, labels, size, seed=settings.seed, shuffle=shuffle, device=device)


def _activations(below: Below, splits: Splits, settings: Settings, stop: StopRule) -> _Stored:
    wanted = "float16" if settings.feature_dtype == "auto" else settings.feature_dtype
    try:
        return _activations_as(wanted, below, splits, settings, stop)
    except FeatureOverflowError:
        if settings.feature_dtype != "auto":
            raise UserError("An activation is too large for float16.", hint="--set feature_dtype=bfloat16") from None
        say("An activation is too large for float16: they are stored in bfloat16.", "yellow")
        return _activations_as("bfloat16", below, splits, settings, stop)


def _activations_as(dtype: str, below: Below, splits: Splits, settings: Settings, stop: StopRule) -> _Stored:
    frozen, reason = below.frozen, ""
    tables = []
    with stage("activations", len(splits.train) + len(splits.validation)) as bar:
        for images in (splits.validation, splits.train):  # a run that is cut short has all of what it is judged by
            views = max(settings.views, settings.cached_views) if images is splits.train else settings.views
            table, caches = FeatureTable(len(images), views, frozen.width, dtype), frozen.caches(views, dtype)
            tables.append(table)
            for block in frozen.extract(images, stratified_order(images.labels, settings.seed), caches):
                table.add(block)
                bar.advance(len(block.rows))
                if images is splits.train and table.count < len(images) and stop.check():
                    reason = stop.reason
                    break
    validation, train = tables
    return _Stored(train, validation, splits.train.labels[train.seen], splits.validation.labels[validation.seen], reason)


@dataclass(frozen=True)
class _FineTuning:
    below: Below
    stored: _Stored
    splits: Splits
    settings: Settings

    def head_alone(self, run: Run, stop: StopRule) -> FittedHead:
        """The head on what the upper part, as pretrained, makes of the activations."""
        train, validation = self._pooled(True), self._pooled(False)
        moments = Moments(train.shape[1], len(self.splits.classes))
        for start in range(0, len(train), 4096):
            moments.add(train[start : start + 4096], self.stored.labels[start : start + 4096])
        found = Extracted(_table(train), _table(validation), moments)
        rule = StopRule(budget_s=None if self.stored.reason else stop.budget_s, started=stop.started)

        def on_epoch(row: dict[str, Any]) -> None:
            run.add_history({"stage": "head", **row})

        return fit_head(found, self.stored.labels, self.stored.judged, self.settings, rule, on_epoch)

    @torch.inference_mode()
    def _pooled(self, train: bool) -> NDArray[np.float32]:
        """(n, D) pooled features, averaged over the views."""
        line, device = self.below.line, pick_device(self.settings.device)
        network = Trainable(line.upper, nn.Identity(), line.shape).to(device).eval()
        model: Any = make_fabric(device, pick_precision(self.settings.precision, device)).setup_module(network)
        batches, parts = self.stored.batches(self.settings, train, LOOKED_AT), []
        with stage("features above the line", batches.rows) as bar:
            for x, y in batches.epoch(0):
                parts.append(model(x[:, : self.settings.views]).float().mean(1).cpu().numpy())
                bar.advance(len(y))
        return np.concatenate(parts)

    def above(self, head: nn.Module, run: Run, stop: StopRule) -> tuple[Trainable, Fitted]:
        """Train the upper part and the head together, from this head on."""
        settings, stored = self.settings, self.stored
        passed: list[float] = []
        network = Trainable(self.below.line.upper, head, self.below.line.shape)

        def on_epoch(row: dict[str, Any]) -> None:
            run.add_history({**row, "elapsed": round(stop.elapsed(), 1)})
            accuracy = row["validation_accuracy"]
            if settings.announce and not passed and accuracy >= settings.announce:
                passed.append(accuracy)
                say(f"Validation passed {settings.announce:.2%} after {stop.elapsed():.0f} s: {accuracy:.2%}.", "bold")

        fitted = fit(
            network,
            stored.batches(settings, True, settings.batch_size, shuffle=True),
            stored.batches(settings, False, LOOKED_AT),
            settings=settings,
            stop=stop,
            on_epoch=on_epoch,
            parameters=parameter_groups(network, settings),
            checkpoints=Checkpoints(run.checkpoints_folder, training_identity(settings, self.splits, self.below.loaded.digest)),
        )
        return network, fitted

    def record(self, fitted: Fitted, head: FittedHead, temperature: float, note: str) -> dict[str, Any]:
        """What was trained, and how it ended."""
        return {
            "head": self.settings.head,
            "train_from": self.settings.train_from,
            **fitted.record(),
            "head_validation_accuracy": head.record["validation_accuracy"],
            "temperature": temperature,
            **({"temperature_note": note} if note else {}),
        }

    def trained(
        self,
        whole: tuple[Any, int],
        head: nn.Module,
        temperature: float,
        log_p: NDArray[np.float32],
        record: dict[str, Any],
        earlier: tuple[tuple[str, Trained], ...] = (),
    ) -> Trained:
        """A model of the network as it is now, with this head."""
        frozen, loaded, stored, splits = self.below.frozen, self.below.loaded, self.stored, self.splits
        body, exact_layers = whole
        width = body.output("features").get_partial_shape()[1].get_length()
        seen = [splits.train.digests[stored.train.seen], splits.validation.digests[stored.validation.seen]]
        trains = sum(parameter.numel() for module in (head, self.below.line.upper) for parameter in module.parameters())
        own = sum(parameter.numel() for parameter in head.parameters())
        named = {f"backbone.{name}": value for name, value in loaded.network.state_dict().items()}
        named |= {f"head.{name}": value for name, value in head.state_dict().items()}
        seen_rows = {"train_images": stored.train.count, "validation_images": stored.validation.count}
        return Trained(
            graph=engine.join(engine.with_views(body, self.settings.views), convert_head(head, width, temperature)),
            weights={name: value.detach().cpu().numpy().copy() for name, value in named.items()},
            preprocess=frozen.preprocess,
            views=self.settings.views,
            temperature=temperature,
            precision=frozen.precision,
            architecture={
                "kind": "finetune",
                "backbone": loaded.name,
                "weights": loaded.origin,
                "weights_digest": loaded.digest,
                "model_args": loaded.model_args,
                "train_from": self.below.line.first,
                "head": self.settings.head,
                "power": 1.0,
                "features": width,
                "parameters": loaded.parameters + own,
                "trainable_parameters": trains if earlier else own,
                "exact_layers": exact_layers,
            },
            validation=(stored.validation.seen.copy(), apply_temperature(log_p, temperature)),
            seen={raw(digest) for digests in seen for digest in digests},
            record={"ended": stored.reason or "all images were seen", "feature_dtype": stored.train.dtype, **seen_rows, **record},
            judge=judged_by_graph(frozen.preprocess),
            earlier=earlier,
        )


def _table(features: NDArray[np.float32]) -> FeatureTable:
    table = FeatureTable(len(features), 1, features.shape[1], "float32")
    table.add(FeatureBlock(np.arange(len(features)), features[:, None]))
    return table
