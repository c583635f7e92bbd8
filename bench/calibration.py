"""How well finished runs know what they know: the calibration error on test, with the temperature that validation gave.

    python bench/calibration.py RUN [RUN …]

Nothing is trained or fitted: the runs' saved predictions are checked and scored again. Appends a row a run to
results/calibration.csv: the temperature, the expected calibration error and its debiased variant, and both without the temperature.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from common import append_rows
from inputs import versions

from frostline.calibrate import apply_temperature, expected_calibration_error
from frostline.runs import MODEL, SETTINGS, Run
from frostline.verified import verified

BAR, CARD = 0.01, f"{MODEL}/model.json"


def row_of(folder: str) -> dict[str, object]:
    run = Run.open(Path(folder))
    predictions, settings = verified(run, "test"), run.read(SETTINGS)
    temperature = float(run.read(CARD)["temperature"])
    known = predictions.probabilities, predictions.labels
    logits = np.log(np.maximum(predictions.probabilities.astype(np.float64), 1e-30))
    before = apply_temperature(logits, 1 / temperature), predictions.labels
    debiased = expected_calibration_error(*known, debiased=True)
    return {
        "recipe": settings["recipe"],
        "seed": settings["seed"],
        "n": len(predictions),
        "temperature": round(temperature, 4),
        "ece": round(expected_calibration_error(*known), 4),
        "ece_debiased": round(debiased, 4),
        "ece_without": round(expected_calibration_error(*before), 4),
        "ece_debiased_without": round(expected_calibration_error(*before, debiased=True), 4),
        "bar": BAR,
        "met": debiased <= BAR,
        "versions": versions(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    rows = [row_of(folder) for folder in parser.parse_args().runs]
    append_rows("calibration", rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
