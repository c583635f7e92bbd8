"""Steps of training that leave no trace: for the learning-rate finder, and for a GPU's first ones, which are slow."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from frostline.data.order import stream_seed
from frostline.loop_state import live_tensors
from frostline.models.layers import seeded
from frostline.progress import stage
from frostline.training import Training


@contextmanager
def rehearsal(training: Training) -> Iterator[None]:
    """While inside, steps may be made; afterwards weights, buffers, optimizer and random numbers are as they were."""
    live = live_tensors(training.network)
    before, optimizer = [tensor.detach().clone() for tensor in live], copy.deepcopy(training.optimizer.state_dict())
    with seeded(stream_seed(training.settings.seed, 0, 2), training.device):
        yield
    with torch.no_grad():
        for tensor, value in zip(live, before, strict=True):
            tensor.copy_(value)
    training.optimizer.load_state_dict(optimizer)


def needs_warm_up(training: Training) -> bool:
    """Whether its first steps would be spent on compiling, or on a GPU's loading and choosing of kernels."""
    return training.device.type != "cpu" or training.settings.compile != "no"


def warm_up(training: Training) -> float:
    """Make a step with rows of every shape that training will show, and judge a batch; the clocks of training begin after it.

    Returns:
        the seconds that it took.
    """
    started, batches = time.monotonic(), training.batches
    with rehearsal(training), stage("warm up", batches.shapes) as bar:
        training.network.train()
        for number in range(batches.shapes):
            training.descend(*next(iter(batches.epoch(number))))
            bar.advance(1)
        training.network.eval()
        with torch.inference_mode():
            training.model(next(iter(training.validation.epoch(0)))[0])
        if training.device.type == "cuda":
            torch.cuda.synchronize(training.device)
    training.optimizer.zero_grad()
    took = time.monotonic() - started
    training.started += took
    if not training.history:  # one that goes on has a schedule that goes on
        training.began = training.stop.elapsed()
    return took
