"""The classifier inside the package against what it promises: right, sure of what it knows, small, and quick on one core.

    python bench/inside.py --data cifar10:FOLDER [--model inside]

Test images are judged as ``frostline evaluate`` does, with the temperature of the card. Drawn arrays of 32×32, one at a time, go
through everything from pixels to probabilities (the model's views, the temperature) in a process held to one core. Appends a row
to results/inside.csv.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import numpy as np
from common import append_rows
from inputs import machine_speed, versions

from frostline.calibrate import expected_calibration_error
from frostline.drawn import drawn_images
from frostline.inside import MODEL, place
from frostline.judge import evaluate
from frostline.serve.predictor import Predictor

ACCURACY, ECE, MIB, MILLISECONDS = 0.95, 0.015, 4.0, 3.0
ANSWERS, WARM = 500, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default=MODEL, help="a model directory in its place")
    asked = parser.parse_args()
    rate = machine_speed()
    predictions, scores = evaluate(asked.model, asked.data)
    low, high = scores["interval"]
    ece = expected_calibration_error(predictions.probabilities, predictions.labels, debiased=True)
    folder = place() if asked.model == MODEL else Path(asked.model)
    mib = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    times = one_at_a_time(asked.model)
    middle = statistics.median(times)
    row = {
        "model": asked.model,
        "n": len(predictions),
        "accuracy": round(scores["accuracy"], 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "ece_debiased": round(ece, 4),
        "directory_mib": round(mib, 2),
        "answers": ANSWERS,
        "ms_median": round(middle, 2),
        "ms_p95": round(float(np.percentile(times, 95)), 2),
        "machine_bf16_gflops": rate,
        "met": scores["accuracy"] >= ACCURACY and ece <= ECE and mib <= MIB and middle <= MILLISECONDS,
        "versions": versions(),
    }
    append_rows("inside", [row])
    print(row)


def one_at_a_time(model: str) -> list[float]:
    """Milliseconds of single answers on one core; the process stays on that core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    predictor = Predictor(model, batch=1, threads=1)
    images = drawn_images(WARM + ANSWERS, 32, 32)
    times = []
    for image in images:
        started = time.perf_counter()
        list(predictor.stored([image[None]]))
        times.append(1000 * (time.perf_counter() - started))
    return times[WARM:]


if __name__ == "__main__":
    main()
