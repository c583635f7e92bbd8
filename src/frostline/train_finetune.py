"""The fine-tuning path: a head on the network as pretrained, then all above the frost line trains with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from frostline import engine
from frostline.activations import Activations, Answers, Cached, Live, views_that_fit
from frostline.anytime import Extracted
from frostline.calibrate import apply_temperature, recorded_temperature
from frostline.checkpoints import Checkpoints, noted, training_identity
from frostline.config import Settings
from frostline.convert import convert_head
from frostline.data.batches import crops
from frostline.data.imageset import Splits
from frostline.errors import UserError
from frostline.feature_cache import raw
from frostline.frozen import Below, freeze_below
from frostline.heads import FittedHead, fit_head
from frostline.loop import Fitted, fit, predict_log_probs
from frostline.models.folded import has_no_statistics
from frostline.models.transfer import Cut, Trainable
from frostline.optim import parameter_groups
from frostline.plan import make_plan, say_plan
from frostline.progress import say
from frostline.runs import Run
from frostline.stopping import StopRule
from frostline.teacher import Teacher, open_teacher
from frostline.trained import Trained, judged_by_graph

#: Why extraction ended, usually.
ALL_SEEN = "all images were seen"


def train_finetune(splits: Splits, settings: Settings, run: Run, stop: StopRule) -> Trained:
    """Train the head, then the head and what is above the frost line; arguments as in ``train_frozen``.

    The head's stage is kept as a model of its own (``Trained.earlier``), to be scored beside the finished one. Activations are
    cached where training sees the same few views of an image again and again; where its pixels change, every step runs the whole
    network.
    """
    if settings.head == "ridge":
        raise UserError(
            "Fine-tuning goes on from a head that gives probabilities.", expected="logistic or dense-…", received="ridge"
        )
    teacher = open_teacher(settings, splits)
    with run.timing("compile"):
        below = freeze_below(settings, splits.train.size)
        _check(below.line, settings, getattr(below.loaded.network.network, "output_fmt", "NCHW"))
        as_pretrained = below.whole_as_pretrained()
        began_with = noted(run.checkpoints_folder).get("views", 0)
        views = 0 if settings.changes_pixels else views_that_fit(below, splits, settings, began_with)
        say_plan(make_plan(below, settings, splits, views), below, settings)
    activations: Activations
    if settings.changes_pixels:
        activations = Live(below, splits, settings)
    else:
        with run.timing("activations"):
            activations = Cached(below, splits, settings, stop, views)
    tuning = _FineTuning(below, activations, splits, settings, teacher)
    with run.timing("head"):
        found, head = tuning.head_alone(run, stop)
    # on the live path the head was fitted on features of its own, of other rows where it was cut short
    rows, ended = (found.train.seen.copy(), found.validation.seen.copy()), {"ended": activations.reason or found.reason or ALL_SEEN}
    del found  # features, for which training has no use: at a million images most of the memory
    first = tuning.trained(as_pretrained, head.module, head.temperature, head.validation, {**head.record, **ended}, rows=rows)
    say(f"Head alone: validation accuracy {head.record['validation_accuracy']:.2%} after {stop.elapsed():.0f} s.")
    if stop.check(head.record["validation_accuracy"]):
        say(f"Nothing above the frost line was trained: {stop.reason}. The head's model is the finished one.", "yellow")
        return replace(first, record={**first.record, "ended": stop.reason})
    answers: Answers = None
    if teacher:
        tuning.checkpoints(run).check()
        with run.timing("teacher"):
            answers = teacher.answers(splits.train, stop)
        if answers is None:
            say(f"Not all was asked of the teacher: {stop.reason}. The head's model is the finished one.", "yellow")
            return replace(first, record={**first.record, "ended": stop.reason})
    with run.timing("fit"):
        network, fitted, log_p = tuning.above(head.chosen, run, stop, answers)
    network = network.cpu()
    labels = splits.validation.labels[activations.judged]
    calibrated = recorded_temperature(log_p, labels)
    with run.timing("join"):
        whole = below.whole()
    record = {**tuning.record(fitted, head), **calibrated}
    return tuning.trained(whole, network.head, calibrated["temperature"], log_p, record, earlier=(("head", first),))


def _check(line: Cut, settings: Settings, layout: str = "NCHW") -> None:
    """What cannot be done above this frost line, of maps in timm's name for their layout, is said before minutes are spent."""
    if settings.cutmix and (len(line.shape) != 3 or layout != "NCHW"):
        raise UserError(
            "cutmix mixes maps, and what passes this frost line is none.",
            expected="activations (C, h, w)",
            received=f"{line.shape}" + (f", {layout}" if layout != "NCHW" else ""),
            hint="--set cutmix=0, and mixup instead",
        )
    if settings.crop_from < 1:
        _check_parts(line, settings, layout)
    if settings.train_batchnorm and has_no_statistics(line.upper):
        raise UserError(
            "The BatchNorm of these weights cannot train: it was folded into the convolutions, and holds no statistics.",
            expected="the means and variances of the data that the weights were trained on",
            received="mean 0 and one variance for every channel",
            hint="leave out train_batchnorm; or other weights of this network",
        )


def _check_parts(line: Cut, settings: Settings, layout: str) -> None:
    """Whether what trains takes parts of its maps: some networks are made for maps of one size."""
    sizes, why = crops(line.shape, settings), ""
    if not sizes or layout != "NCHW":
        why = f"{line.shape}, {layout}"
    else:
        try:
            with torch.inference_mode():
                line.upper.eval()(torch.zeros(1, line.shape[0], *sizes[0]))
        except (RuntimeError, ValueError, AssertionError) as error:
            why = f"of {sizes[0][0]}×{sizes[0][1]}: {error}"
    if why:
        raise UserError(
            "What trains above this frost line takes no parts of maps.",
            expected="activations (C, h, w) of any size",
            received=why,
            hint="--set crop_from=1, and whole maps in every epoch",
        )


@dataclass(frozen=True)
class _FineTuning:
    below: Below
    activations: Activations
    splits: Splits
    settings: Settings
    teacher: Teacher | None

    def head_alone(self, run: Run, stop: StopRule) -> tuple[Extracted, FittedHead]:
        """The head on the features that the network gives as pretrained, and these."""
        found = self.activations.head_features(run, stop)
        labels, judged = self.splits.train.labels[found.train.seen], self.splits.validation.labels[found.validation.seen]
        # a rule that has ended the features has done its work: it does not end a dense head's training as well
        rule = StopRule(started=stop.started) if stop.reason else stop

        def on_epoch(row: dict[str, Any]) -> None:
            run.add_history({"stage": "head", **row})

        return found, fit_head(found, labels, judged, self.settings, rule, on_epoch, self.splits.train.labels)

    def above(self, head: nn.Module, run: Run, stop: StopRule, answers: Answers) -> tuple[Trainable, Fitted, NDArray[np.float32]]:
        """Train the upper part and the head together, from this head on; with the log-probabilities of validation."""
        settings, line = self.settings, self.below.line
        passed: list[float] = []
        network = Trainable(
            line.upper, head, line.shape, settings.train_batchnorm, drop=settings.drop_activations, noise=settings.noise
        )

        def on_epoch(row: dict[str, Any]) -> None:
            run.add_history(row)
            accuracy = row["validation_accuracy"]
            if settings.announce and not passed and accuracy >= settings.announce:
                passed.append(accuracy)
                say(f"Validation passed {settings.announce:.2%} after {row['elapsed']:.0f} s: {accuracy:.2%}.", "bold")

        validation = self.activations.validation()
        with network.folded():
            fitted = fit(
                network,
                self.activations.training(answers),
                validation,
                settings=settings,
                stop=stop,
                on_epoch=on_epoch,
                parameters=parameter_groups(network, settings, self.below.loaded.network.network),
                checkpoints=self.checkpoints(run),
            )
            return network, fitted, predict_log_probs(network, validation, settings)

    def checkpoints(self, run: Run) -> Checkpoints:
        """Where this training's state is kept."""
        views = self.activations.views  # as the disk had room for
        taught = self.teacher.digest if self.teacher else ""
        identity = training_identity(self.settings.with_values(cached_views=views), self.splits, self.below.loaded.digest, taught)
        return Checkpoints(run.checkpoints_folder, identity, {"views": views})

    def record(self, fitted: Fitted, head: FittedHead) -> dict[str, Any]:
        """What was trained, and how it ended."""
        return {
            "head": self.settings.head,
            "train_from": self.settings.train_from,
            **fitted.record(),
            **({"teacher": self.teacher.record} if self.teacher else {}),
            "head_validation_accuracy": head.record["validation_accuracy"],
            "notes": [*self.below.frozen.notes, *([self.below.line.said] if self.below.line.said else [])],
        }

    def trained(
        self,
        whole: tuple[Any, int],
        head: nn.Module,
        temperature: float,
        log_p: NDArray[np.float32],
        record: dict[str, Any],
        earlier: tuple[tuple[str, Trained], ...] = (),
        rows: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    ) -> Trained:
        """A model of the network as it is now, with this head; ``rows`` of training and validation that it has seen, in the order
        of ``log_p``, where they are not those of the activations.
        """
        frozen, loaded, activations, splits = self.below.frozen, self.below.loaded, self.activations, self.splits
        body, exact_layers = whole
        width = body.output("features").get_partial_shape()[1].get_length()
        trained_on, judged = rows or (activations.seen, activations.judged)
        seen = [splits.train.digests[trained_on], splits.validation.digests[judged]]
        both = [parameter for module in (head, self.below.line.upper) for parameter in module.parameters()]
        trains = sum(parameter.numel() for parameter in both if parameter.requires_grad)
        own = sum(parameter.numel() for parameter in head.parameters())
        named = {f"backbone.{name}": value for name, value in loaded.network.state_dict().items()}
        named |= {f"head.{name}": value for name, value in head.state_dict().items()}
        seen_rows = {"train_images": len(trained_on), "validation_images": len(judged)}
        return Trained(
            graph=engine.join(engine.with_views(body, self.settings.views), convert_head(head, width, temperature)),
            weights={name: value.detach().cpu().numpy().copy() for name, value in named.items()},
            preprocess=frozen.preprocess,
            views=self.settings.views,
            temperature=temperature,
            precision=self.below.precision,
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
            validation=(judged.copy(), apply_temperature(log_p, temperature)),
            seen={raw(digest) for digests in seen for digest in digests}
            | (self.teacher.seen if self.teacher and earlier else set()),
            record={**activations.record, **seen_rows, **record},
            judge=judged_by_graph(frozen.preprocess),
            earlier=earlier,
        )
