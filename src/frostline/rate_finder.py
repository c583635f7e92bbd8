"""The learning-rate range test: a short training whose rate grows from step to step, and where its loss stops falling.

After Smith 2017, "Cyclical learning rates for training neural networks", section 3.3, who takes as the largest rate the one at
which training stops improving. Here it is half the rate of the least smoothed loss. The steepest fall, which fastai and Lightning
suggest, misleads where there is little to fall by: behind a head that is fitted already it is the noise of a few batches
(docs/log.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from frostline.data.batches import Batches
from frostline.models.layers import switch_dropout
from frostline.progress import stage
from frostline.rehearsal import rehearsal
from frostline.training import Training

#: Steps of the test, and the factors on the settings' learning rate between which the rate grows.
STEPS, LOWEST, HIGHEST = 100, 1e-3, 1e3
#: Share of the past in the smoothed loss; the test ends where the loss is above so many times its least value, and so many nats.
SMOOTHING, WORST, SLACK = 0.9, 2.0, 0.1
#: First steps that are not looked at, for their loss is that of a few batches; the share of the least loss's rate that is taken.
BEGIN, BELOW = 10, 0.5


def find_rate(training: Training) -> dict[str, Any]:
    """Find a learning rate for a training that has not begun, and set it; the network is left as it was.

    Returns:
        ``lr``: the rate found, in place of the settings' ``lr`` (groups keep their factors on it); ``found``: false where the loss
        fell at no rate, and ``lr`` is still the settings'; and ``curve``: a row of ``lr`` and smoothed ``loss`` (nats) for every
        step of the test.
    """
    base = training.schedule.base
    with rehearsal(training), stage("learning-rate finder", STEPS) as bar:
        curve = []
        for row in _grown(training, base):
            curve.append(row)
            bar.advance(1)
    wanted = training.settings.lr
    found = below_least(curve)
    rate = wanted if found is None else found
    training.schedule.base = [each * rate / wanted for each in base]
    training.schedule.go_on(0)
    return {"lr": rate, "found": found is not None, "curve": curve}


def _grown(training: Training, base: list[float]) -> Iterator[dict[str, float]]:
    smoothed, least = 0.0, math.inf
    training.network.train()
    switch_dropout(training.network, training.settings.dropout_share > 0)
    for step, (x, y) in enumerate(_endless(training.batches)):
        if step == STEPS:
            return
        factor = LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))
        for group, rate in zip(training.optimizer.param_groups, base, strict=True):
            group["lr"] = rate * factor
        smoothed = SMOOTHING * smoothed + (1 - SMOOTHING) * float(training.descend(x, y)[0].detach())
        loss = smoothed / (1 - SMOOTHING ** (step + 1))
        least = min(least, loss)
        if not loss < WORST * least + SLACK:  # not finite, too
            return
        yield {"lr": training.settings.lr * factor, "loss": loss}


def _endless(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    number = 0
    while True:
        yield from batches.epoch(number)
        number += 1


def below_least(curve: list[dict[str, float]]) -> float | None:
    """Half the rate at which the loss of a curve is least; None where it never falls."""
    losses = np.array([row["loss"] for row in curve[BEGIN:]])
    if not len(losses) or losses.argmin() == 0:
        return None
    return BELOW * curve[BEGIN + int(losses.argmin())]["lr"]
