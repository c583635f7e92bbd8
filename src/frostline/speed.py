"""How fast a saved model answers, one image after another and many at once: a short look, at the very graph that is served."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from frostline.artifact import make_runner, read_model
from frostline.drawn import drawn_images
from frostline.engine import BATCH
from frostline.environment import cores
from frostline.runs import Run

#: Seconds that each of the two measurements may take. An answer that has begun is waited for.
SECONDS = 0.8
#: Answers to one image that are timed at most.
MOST = 500


def speed_of(run: Run) -> dict[str, Any]:
    """``measure`` of the model of a run that is being written; the time it takes is among the run's timings."""
    with run.timing("speed"):
        return measure(run.model_folder)


def measure(folder: Path, threads: int = 0) -> dict[str, Any]:
    """Latency and throughput of a model directory on this machine, as they are now: a reading, not a benchmark.

    Returns:
        latency_ms: median time for one image, which waits for none; preprocessing of stored pixels included, decoding of files not.
        latency_n: answers that it is the median of.
        images_per_second: of blocks of ``batch`` images, several of which are at work at a time.
        batch, threads, precision: of computing; size: [h, w] of the images.
    """
    card, graph = read_model(folder)
    threads = threads or cores()
    height, width = card.preprocess.stored
    images = drawn_images(BATCH, height, width)
    many = np.concatenate([images] * (2 * threads))
    alone = make_runner(graph, folder, card.values, card.precision, batch=1, threads=threads)
    answers = _timed(lambda: alone.probabilities(images[:1]), MOST)
    # torch, where nothing is compiled, takes what it is given: no second copy of the network is loaded
    together = alone if graph is None else make_runner(graph, folder, card.values, card.precision, batch=BATCH, threads=threads)
    blocks = _timed(lambda: together.probabilities(many), MOST)
    return {
        "latency_ms": round(1000 * median(answers), 4),
        "latency_n": len(answers),
        "images_per_second": round(len(many) / median(blocks), 1),
        "batch": BATCH,
        "threads": threads,
        "precision": card.precision,
        "size": [height, width],
    }


def _timed(answer: Callable[[], Any], most: int) -> list[float]:
    """Seconds that each of some answers took; the first, which warms up, counts only where there is time for no other."""
    started = time.perf_counter()
    taken: list[float] = []
    while not taken or (time.perf_counter() - started < SECONDS and len(taken) < most):
        before = time.perf_counter()
        answer()
        taken.append(time.perf_counter() - before)
    return taken[1:] or taken
