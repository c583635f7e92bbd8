"""Recipes on real data, each as a person runs it: one command in a process of its own, from a cold cache and again from a warm one.

    python bench/recipes.py --data cifar10:FOLDER --weights-root FOLDER [--only NAME,…] [--seeds N]

Appends a row a run to results/recipes.csv: accuracy on test with its interval, seconds as the process took them, peak memory, and
the machine's bf16 matrix-product rate measured just before, by which seconds on other machines scale.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import append_rows
from inputs import machine_speed, versions


@dataclass(frozen=True)
class Job:
    """One line of the table: a recipe, its options, the weights it takes, and how it is repeated."""

    recipe: str
    options: tuple[str, ...] = ()
    weights: str = ""
    caches: tuple[str, ...] = ("cold",)  # "warm": once more, with features cached; "one view": the image's features are cached
    seeds: bool = False  # for every seed


JOBS = {
    "densenet169": Job("densenet169-frozen", (), "densenet169.imagenet", ("cold", "warm")),
    "densenet169-views": Job("densenet169-frozen", ("--views", "2"), "densenet169.imagenet", ("one view",)),
    "densenet169-stop": Job("densenet169-frozen", ("--stop-at", "0.9024"), "densenet169.imagenet", seeds=True),
    "mobilenetv2": Job("mobilenetv2-frozen", (), "mobilenetv2_100.imagenet", ("cold", "warm")),
    "cnn-small": Job("cnn-small"),
    "cnn-vgg": Job("cnn-vgg"),
    "fast-94": Job("fast-94", seeds=True),
    "fast-95": Job("fast-95", seeds=True),
    "fast-96": Job("fast-96"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights-root", type=Path, required=True)
    parser.add_argument("--only", default=",".join(JOBS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the run directories; by default they go with the bench")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = asked.keep or Path(scratch)
        for name in asked.only.split(","):
            race(name, JOBS[name], asked, place)


def race(name: str, job: Job, asked: argparse.Namespace, place: Path) -> None:
    rows = []
    for seed in range(asked.first_seed, asked.first_seed + (asked.seeds if job.seeds else 1)):
        home = place / f"home-{job.recipe}-{seed}"
        for cache in job.caches:
            if cache == "cold":
                shutil.rmtree(home, ignore_errors=True)
            rows.append(run(name, job, asked, place / f"{name}-{seed}-{cache.replace(' ', '-')}", home, seed, cache))
            append_rows("recipes", rows[-1:])
            print(json.dumps({key: rows[-1][key] for key in ("name", "cache", "accuracy", "wall_s", "to_model_s")}), flush=True)
    if len(rows) > 1 and job.seeds:
        mean = statistics.mean(row["accuracy"] for row in rows)
        print(f"{name}: mean of {len(rows)} seeds {mean:.4f}, longest {max(row['to_model_s'] for row in rows):.1f} s to the model")


def run(name: str, job: Job, asked: argparse.Namespace, out: Path, home: Path, seed: int, cache: str) -> dict[str, Any]:
    machine = machine_speed()
    command = [sys.executable, "-m", "frostline", "train", asked.data, "--recipe", job.recipe, "--out", str(out), "--overwrite"]
    command += [*job.options, "--seed", str(seed)]
    if job.weights:
        command += ["--weights", str(asked.weights_root / job.weights)]
    started = time.monotonic()
    subprocess.run(command, check=True, env={**os.environ, "FROSTLINE_HOME": str(home)}, capture_output=True)
    wall = time.monotonic() - started
    scores = json.loads((out / "scores" / "test.json").read_text())
    record = json.loads((out / "run.json").read_text())["record"]
    timings = json.loads((out / "timings.json").read_text())
    return {
        "name": name,
        "recipe": " ".join([job.recipe, *job.options]),
        "seed": seed,
        "cache": cache,
        "accuracy": scores["accuracy"],
        "low": round(scores["interval"][0], 4),
        "high": round(scores["interval"][1], 4),
        "n": scores["n"],
        "wall_s": round(wall, 1),
        # the process starts before its first line runs: what the run does not see is the start of Python
        "to_model_s": round(record["training_seconds"] + wall - record["total_seconds"], 1),
        "anonymous_mib": round((record["peak_memory"]["anonymous_bytes"] or 0) / 2**20),
        "ended": record["ended"],
        "stages_s": json.dumps(timings),
        "machine_bf16_gflops": machine,
        "versions": versions(),
    }


if __name__ == "__main__":
    main()
