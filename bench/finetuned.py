"""Fine-tuning recipes on real data as a person runs them: one command in a process of its own, from a cold cache.

    python bench/finetuned.py --data cifar10:FOLDER --weights-root FOLDER [--only mobilenetv2,densenet169] [--seeds N] [--memory 1G]

Appends a row a run to results/finetuned.csv: test accuracy of the model as saved (two views) and with the image's own view
alone, F1 of cat and dog (one view), the head's stage, seconds by the clock to the saved model and to the line on screen that
validation has passed 90.24 %, images/s of training, anonymous memory, and the machine's bf16 rate measured just before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import append_rows
from inputs import machine_speed, versions

from frostline.data.imageset import ImageSet
from frostline.experiment import load_data
from frostline.metrics import score
from frostline.predictions import Predictions
from frostline.runs import Run
from frostline.serve.predictor import Predictor

JOBS = {
    "mobilenetv2": ("mobilenetv2-finetune", "mobilenetv2_100.imagenet"),
    "densenet169": ("densenet169-finetune", "densenet169.imagenet"),
}
PASSED = "Validation passed 90.24"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights-root", type=Path, required=True)
    parser.add_argument("--only", default=",".join(JOBS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--memory")
    parser.add_argument("--set", action="append", default=[], help="as for train")
    parser.add_argument("--keep", type=Path, help="folder for the runs; by default they go with the bench")
    asked = parser.parse_args()
    test = load_data(asked.data).test
    assert test is not None
    with tempfile.TemporaryDirectory() as scratch:
        for name in asked.only.split(","):
            for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
                place = (asked.keep or Path(scratch)) / f"{name}-{seed}"
                row = run(*JOBS[name], seed, asked, place, test)
                append_rows("finetuned", [row])
                print(json.dumps(row), flush=True)


def run(recipe: str, weights: str, seed: int, asked: argparse.Namespace, place: Path, test: ImageSet) -> dict[str, Any]:
    place.parent.mkdir(parents=True, exist_ok=True)
    machine, out = machine_speed(), place / "run"
    options = [option for setting in asked.set for option in ("--set", setting)]
    options += ["--memory", asked.memory] if asked.memory else []
    command = [sys.executable, "-m", "frostline", "train", asked.data, "--recipe", recipe, "--seed", str(seed), *options]
    command += ["--weights", str(asked.weights_root / weights), "--out", str(out), "--overwrite"]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=place.parent) as home:
        said = lines_said(command, {**os.environ, "FROSTLINE_HOME": home})
    wall = time.monotonic() - started
    made = Run.open(out)
    before = wall - made.record["total_seconds"]  # the start and end of the process, which the run's clock does not see
    epochs = [row for row in made.history() if "epoch" in row and row.get("stage") != "head"]
    single, both, head = score(one_view(made.model_folder, test)), made.scores("test"), made.scores("test-head")
    f1 = {row["class"]: row["f1"] for row in single["per_class"]}
    return {
        "recipe": " ".join([recipe, *options]),
        "seed": seed,
        "n": both["n"],
        "accuracy": both["accuracy"],
        "low": round(both["interval"][0], 4),
        "high": round(both["interval"][1], 4),
        "one_view": single["accuracy"],
        "cat_f1": round(f1["cat"], 4),
        "dog_f1": round(f1["dog"], 4),
        "head_stage": head["accuracy"],
        "validation": max(row["validation_accuracy"] for row in epochs),
        "wall_s": round(wall, 1),
        "to_model_s": round(made.record["training_seconds"] + before, 1),
        "passed_9024_s": next((round(moment - started, 1) for moment, line in said if PASSED in line), None),
        "images_per_second": round(float(np.median([row["images_per_second"] for row in epochs]))),
        "anonymous_mib": round((made.record["peak_memory"]["anonymous_bytes"] or 0) / 2**20),
        "stages_s": json.dumps(json.loads((out / "timings.json").read_text())),
        "machine_bf16_gflops": machine,
        "model_digest": made.record["model_digest"],
        "versions": versions(),
    }


def lines_said(command: list[str], environment: dict[str, str]) -> list[tuple[float, str]]:
    """What the command says on screen, each line with the moment (``time.monotonic``) at which it is there to be read."""
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = [(time.monotonic(), line.rstrip()) for line in process.stderr]
    if process.returncode:
        raise SystemExit("\n".join(line for _, line in said[-20:]))
    return said


def one_view(model: Path, images: ImageSet) -> Predictions:
    """What the saved model says of the images' own view alone: its head on the features of view 0."""
    predictor = Predictor(model)
    assert images.pixels is not None
    blocks = (images.pixels[i : i + predictor.batch] for i in range(0, len(images), predictor.batch))
    views = [0] * predictor.card.views  # the head averages as many views as it was made for: here the same one again
    parts = [predictor._compiled.head.features(features[:, views]) for (features,) in predictor._compiled.body.run(blocks)]
    return Predictions(images.ids, images.labels, np.concatenate(parts), predictor.classes, images.digests)


if __name__ == "__main__":
    main()
