"""Training of the fast networks against the matrix products that the machine reaches beside it.

    python bench/throughput.py [--networks fast-small] [--batch 500] [--rounds 5]

In each round the bf16 rate of matrix products is measured, then steps of training on drawn 32×32 images: forward,
backward, optimizer, and what stands in front of them (mirror, shift, normalisation), by the product's own loop. The arithmetic of a
step counts convolutions and the head alone, a multiplication and its addition as two, as torch counts it. Rows go to
results/throughput.csv: images/s, GFLOP an image, the share of the matrix rate, median over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
from common import append_rows
from inputs import machine_speed, versions
from torch.utils.flop_counter import FlopCounterMode

from frostline.data.augment import make_augmentations
from frostline.data.batches import ArrayBatches
from frostline.drawn import drawn_images
from frostline.models.cnn import make_network
from frostline.models.fast import begin_from
from frostline.optim import parameter_groups
from frostline.recipes import recipe
from frostline.stopping import StopRule
from frostline.training import Training

BAR = 0.70
STEPS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="fast-small")
    parser.add_argument("--batch", type=int, default=recipe("fast-94").batch_size)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    for name in asked.networks.split(","):
        training, batches = prepared(name, asked.batch)
        work = arithmetic(training, batches) / asked.batch / 1e9
        speed(training, batches)  # warm
        rounds = [(machine_speed(), speed(training, batches)) for _ in range(asked.rounds)]
        shares = [images * work / rate for rate, images in rounds]
        row = {
            "network": name,
            "batch": asked.batch,
            "n": asked.rounds,
            "images_per_second": round(statistics.median(images for _, images in rounds)),
            "gflop_per_image": round(work, 4),
            "machine_bf16_gflops": round(statistics.median(rate for rate, _ in rounds)),
            "share": round(statistics.median(shares), 3),
            "lowest": round(min(shares), 3),
            "highest": round(max(shares), 3),
            "bar": BAR,
            "met": statistics.median(shares) >= BAR,
            "versions": versions(),
        }
        append_rows("throughput", [row])
        print(row, flush=True)


def prepared(name: str, batch: int) -> tuple[Training, ArrayBatches]:
    """A training as ``fast-94`` has it, and batches of drawn images."""
    settings = recipe("fast-94").with_values(network=name, batch_size=batch, grow_from=0)  # in the recipe's parts
    images = drawn_images(batch * STEPS, 32, 32)
    labels = np.arange(len(images)) % 10
    common: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    augmentations = make_augmentations(settings, common["mean"])
    batches = ArrayBatches(images, labels, batch, shuffle=True, alternate=True, augmentations=augmentations, **common)
    network = make_network(name, 10, (32, 32), 0)
    begin_from(network, batches.sample)
    judged = ArrayBatches(images[:batch], labels[:batch], batch, **common)
    return Training(network, batches, judged, settings, parameter_groups(network, settings), StopRule()), batches


def arithmetic(training: Training, batches: ArrayBatches) -> float:
    """Floating-point operations of one step, forward and backward."""
    training.network.train()
    x, y = next(iter(batches.epoch(0)))
    with FlopCounterMode(display=False) as counter:
        training.fabric.backward(training.loss(training.model(x), y))
    training.optimizer.zero_grad()
    return counter.get_total_flops()


def speed(training: Training, batches: ArrayBatches) -> float:
    """Images/s over an epoch of the drawn images."""
    training.network.train()
    began, images = time.monotonic(), 0
    for x, y in batches.epoch(1):
        training.descend(x, y)
        images += len(y)
    return images / (time.monotonic() - began)


if __name__ == "__main__":
    main()
