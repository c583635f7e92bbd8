"""Above the frost line: a head is fitted on features, what is chosen is chosen on validation, and a temperature is kept.

Linear heads (logistic, ridge) sweep ``l2`` on validation and are then refitted on training and validation rows together with
what was chosen. Dense heads are trained by the one loop, with early stopping, and keep the weights that did best on validation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from frostline.anytime import Extracted
from frostline.calibrate import recorded_temperature
from frostline.config import Settings
from frostline.data.batches import FeatureBatches, stored_tensor
from frostline.errors import UserError
from frostline.files import scratch_array
from frostline.linear import Linear, Logistic, Moments, judge, log_softmax, sweep
from frostline.loop import fit, predict_log_probs
from frostline.losses import balanced_weights
from frostline.models.device import pick_device
from frostline.models.heads import compressed_linear, make_head
from frostline.progress import stage
from frostline.stopping import StopRule

Labels = NDArray[np.int64]
#: Epochs without a better validation score before a dense head's training stops, where the settings leave that open.
PATIENCE = 5


@dataclass(frozen=True)
class FittedHead:
    """A head and how it came about.

    Attributes:
        module: (B, D) features to (B, K) logits, on the CPU, in evaluation mode.
        chosen: the same before it was refitted: it has not seen validation.
        temperature: fitted on validation predictions of a head that had not seen validation.
        validation: (n, K) log-probabilities of the validation rows from that head, before the temperature.
        record: what was tried and chosen, for the run's record.
    """

    module: nn.Module
    chosen: nn.Module
    temperature: float
    validation: NDArray[np.float32]
    record: dict[str, Any]


def fit_head(
    found: Extracted,
    labels: Labels,
    judged: Labels,
    settings: Settings,
    stop: StopRule,
    on_epoch: Callable[[dict[str, Any]], None],
    split: Labels | None = None,
) -> FittedHead:
    """Fit the head that ``settings.head`` names.

    Args:
        found: features of training and validation rows.
        labels: (n,) labels of the training rows seen, in the table's order.
        judged: (m,) labels of the validation rows seen, in the table's order.
        settings: head, l2 or training settings, seed.
        stop: ends a dense head's training early.
        on_epoch: called with each row of a dense head's history.
        split: (N,) labels of all training rows, seen or not; classes that are not among them get next to no probability, unless
            the head is refitted on validation rows of theirs. None: they have every class.

    Raises:
        UserError: extraction was ended before it had seen an image of every class that the training rows have.
    """
    there = set(range(len(found.moments.y)) if split is None else np.unique(split).tolist())
    missing = there - set(np.unique(labels).tolist())
    if missing:
        raise UserError(
            f"Extraction ended before an image of every class was seen ({len(missing)} of {len(there)} are missing).",
            hint="a larger --budget, or let it run longer before Ctrl-C",
        )
    if settings.head.startswith("dense"):
        return _dense(found, labels, judged, settings, stop, on_epoch)
    return _linear(found, labels, judged, settings)


def _linear(found: Extracted, labels: Labels, judged: Labels, settings: Settings) -> FittedHead:
    n, m, views, width = found.train.count, found.validation.count, found.train.features.shape[1], len(found.moments.x)
    # one array for both, so that the refit needs no copy: training rows first; every view is a row of its own
    x = scratch_array((n + m, views, width), np.dtype(np.float32))
    found.train.compressed(found.power, x[:n])
    validation = found.validation.compressed(found.power, x[n:]).mean(axis=1)  # of linear logits, the mean over the views
    rows, y = x.reshape(-1, width), np.repeat(np.concatenate([labels, judged]), views)
    total = Moments(width, len(found.moments.y))
    total.add(rows[n * views :], y[n * views :])
    total = found.moments.added(total)
    # rows of a class that training lacks choose nothing: the refitted head, which is shown them, is not the one that they judge
    shown = np.isin(judged, labels)
    chooses = slice(None) if shown.all() or not shown.any() else shown
    with stage(f"fit {settings.head} head"):
        tried = _tried(rows[: n * views], y[: n * views], found.moments, validation[chooses], judged[chooses], settings)
        weights = _class_weights(y, len(total.y), settings)
        l2, head, accuracy, loss = _best(tried, settings.head)
        if not shown.all():
            accuracy, loss = judge(head, validation, judged)
        log_p = log_softmax(head.logits(validation))
        refitted = total.ridge(l2) if settings.head == "ridge" else Logistic(rows, y, total, weights).fit(l2, head, tolerance=3e-6)
    record = {
        "head": settings.head,
        "power": found.power,
        "l2": l2,
        "swept": [{"l2": value, "validation_accuracy": a, "validation_loss": b} for value, _, a, b in tried],
        "validation_accuracy": accuracy,
        "validation_loss": loss,
        "refitted_on": f"training and validation, {n + m} images, with the l2 chosen on validation",
    }
    module, chosen = (compressed_linear(each.weight, each.bias, found.power) for each in (refitted, head))
    return _finished(module, chosen, log_p, record, recorded_temperature(log_p[chooses], judged[chooses]))


def _best(tried: list[tuple[float, Linear, float, float]], head: str) -> tuple[float, Linear, float, float]:
    """The lowest log loss on validation, which varies less than accuracy; ridge has no probabilities, so there accuracy decides."""
    return max(tried, key=lambda item: (item[2], -item[3]) if head == "ridge" else (-item[3], item[2]))


def _tried(
    x: NDArray[np.float32], y: Labels, moments: Moments, validation: NDArray[np.float32], judged: Labels, settings: Settings
) -> list[tuple[float, Linear, float, float]]:
    if settings.head == "ridge":
        heads = [(l2, moments.ridge(l2)) for l2 in settings.l2]
        return [(l2, head, *judge(head, validation, judged)) for l2, head in heads]
    return sweep(Logistic(x, y, moments, _class_weights(y, len(moments.y), settings)), settings.l2, validation, judged)


def _class_weights(labels: Labels, classes: int, settings: Settings) -> NDArray[np.float32] | None:
    """(K,) for logistic regression; drawing rare classes more often comes to the same as weighting them."""
    if settings.balance == "none":
        return None
    if settings.head == "ridge":
        raise UserError("Ridge regression weights all images alike.", expected="balance=none", hint="--set head=logistic")
    return balanced_weights(torch.from_numpy(labels), classes).numpy()


def _dense(
    found: Extracted,
    labels: Labels,
    judged: Labels,
    settings: Settings,
    stop: StopRule,
    on_epoch: Callable[[dict[str, Any]], None],
) -> FittedHead:
    device = pick_device(settings.device)
    head = make_head(settings.head, len(found.moments.x), len(found.moments.y), settings.seed)
    train, validation = (stored_tensor(table.features, table.dtype) for table in (found.train, found.validation))
    patience = PATIENCE if settings.patience < 0 else settings.patience
    # cutmix and freezeout are of a fine-tuning's maps and layers, of which a head on features has none; it learns from labels
    own = {"lr": settings.head_lr or settings.lr, "epochs": settings.head_epochs or settings.epochs}
    settings = settings.with_values(cutmix=0.0, freezeout=(), teacher="", patience=patience, **own)
    balanced = settings.balance == "sampling"
    batches = FeatureBatches(train, labels, settings.batch_size, seed=settings.seed, shuffle=True, balanced=balanced, device=device)
    batches.leave_out(settings.left_out(batches.rows))
    judging = FeatureBatches(validation, judged, 4096, device=device)
    fitted = fit(head, batches, judging, settings=settings, stop=stop, on_epoch=on_epoch)
    log_p = predict_log_probs(head, judging, settings)
    head = head.cpu().eval()
    record = {"head": settings.head, "patience": patience, "head_ended": fitted.reason, **fitted.record()}
    return _finished(head, copy.deepcopy(head), log_p, record, recorded_temperature(log_p, judged))


def _finished(
    module: nn.Module, chosen: nn.Module, log_p: NDArray[np.float32], record: dict[str, Any], calibrated: dict[str, Any]
) -> FittedHead:
    return FittedHead(module, chosen, calibrated["temperature"], log_p, {**record, **calibrated})
