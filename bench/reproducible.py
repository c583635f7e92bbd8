"""Whether the same seed gives the same weights, and what other numbers of threads change: `fast-94` on a part of CIFAR-10.

    python bench/reproducible.py --data cifar10:FOLDER [--images 8000] [--epochs 3] [--seeds 4]

Every training is a process of its own. Each seed is trained with one thread and with all; the first seed twice with all. Appends a
row for each training to results/reproducible.csv: threads, seed, digest of the weights, validation accuracy; and a last row with
the spread of accuracy over seeds and the mean difference between the numbers of threads.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import append_rows
from inputs import versions

from frostline.environment import cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=8000, help="training images, the first of a seeded order")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        print(json.dumps(trained(asked.data, asked.images, asked.epochs, asked.one)))
        return
    jobs = [(0, cores()), *((seed, threads) for seed in range(asked.seeds) for threads in (cores(), 1))]
    rows = [one(asked, seed, threads) for seed, threads in jobs]
    again, first = rows[0], rows[1]
    ways = {threads: [row["accuracy"] for row in rows[1:] if row["threads"] == threads] for threads in (cores(), 1)}
    differences = [a - b for a, b in zip(ways[cores()], ways[1], strict=True)]
    summary = {
        **dict.fromkeys(rows[0]),
        "identical_again": again["weights"] == first["weights"],
        "spread_of_seeds": round(statistics.stdev(ways[cores()]), 5),
        "mean_difference_of_threads": round(statistics.mean(differences), 5),
        "largest_difference_of_threads": round(max(map(abs, differences)), 5),
        "versions": versions(),
    }
    append_rows("reproducible", [{**dict.fromkeys(summary), **row} for row in rows] + [summary])
    print(summary)


def one(asked: argparse.Namespace, seed: int, threads: int) -> dict[str, Any]:
    """A training in a process that has so many threads."""
    arguments = [sys.executable, __file__, "--data", asked.data, "--images", asked.images, "--epochs", asked.epochs, "--one", seed]
    variables = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(list(map(str, arguments)), env=variables, stdout=subprocess.PIPE, text=True, check=True)
    row = {"threads": threads, "seed": seed, "n": asked.images, "epochs": asked.epochs, **json.loads(done.stdout.splitlines()[-1])}
    print(row, flush=True)
    return row


def trained(data: str, images: int, epochs: int, seed: int) -> dict[str, Any]:
    """Digest of the weights, and validation accuracy, of one training."""
    from frostline.experiment import load_data, train
    from frostline.files import digest_file
    from frostline.recipes import recipe

    settings = recipe("fast-94").with_values(epochs=epochs, seed=seed)
    splits = load_data(data, recipe("fast-94"))
    rows = np.sort(np.random.default_rng(0).permutation(len(splits.train))[:images])
    with tempfile.TemporaryDirectory() as scratch:
        run = train(dataclasses.replace(splits, train=splits.train.take(rows), test=None), settings, Path(scratch) / "run")
        weights = digest_file(run.model_folder / "weights.safetensors")
        return {"weights": weights, "accuracy": run.scores("validation")["accuracy"]}


if __name__ == "__main__":
    main()
