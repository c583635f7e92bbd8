"""Make the classifier inside the package from a run: python scripts/make_inside.py RUN DATA [--views 2] [--out FOLDER]

RUN is a run of one of the fast networks; DATA is what it was trained on, whose validation images fit temperature and threshold
anew. The test split is read once, by the model that was written.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from frostline import inside
from frostline.calibrate import expected_calibration_error
from frostline.config import Settings
from frostline.experiment import load_data
from frostline.judge import evaluate
from frostline.metrics import stated
from frostline.model_card import read_card
from frostline.models.inside import compact
from frostline.runs import SETTINGS, Run

#: What the card says that a record of training cannot know.
PURPOSE: dict[str, Any] = {
    "for": "A first try without training, tests and demonstrations, and features of small images (backbone cifar-fast).",
    "not_for": "Decisions of consequence; anything that is none of the ten classes, which it takes for one of them all the same; "
    "photos whose subject does not fill the picture: they are reduced to 32x32 pixels first.",
    "licences": {
        "weights": "Apache-2.0; trained from random weights",
        "data": "none stated by its authors (CIFAR-10, Krizhevsky 2009); its images are not contained",
    },
}


def main() -> None:
    """Write the model directory, judge it, and write it again with its scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data")
    parser.add_argument("--command", help="the command that made RUN; by default its recipe and seed")
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--out", type=Path, default=inside.place())
    asked = parser.parse_args()
    run = Run.open(asked.run)
    settings = Settings().with_values(**run.read(SETTINGS))
    command = asked.command or f"frostline train cifar10 --recipe {settings.recipe} --seed {settings.seed}"
    taught = read_card(run.model_folder).values["training"].get("teacher")
    if taught and not asked.command:
        parser.error(f"{asked.run} was taught by {taught['name']}: say with --command how to make both")
    made = f"{command}; python scripts/make_inside.py RUN cifar10 --views {asked.views}"
    about = {"name": inside.BACKBONE, **PURPOSE, "command": made}
    if taught:
        licence = taught["licences"]["weights"]
        weights = f"{PURPOSE['licences']['weights']}; taught by {taught['name']}, the licence of whose weights is {licence}"
        about["licences"] = {**PURPOSE["licences"], "weights": weights}
    splits = load_data(asked.data, settings)
    compact(run.model_folder, splits.validation, asked.out, asked.views, about)
    predictions, _ = evaluate(asked.out, asked.data, "test")
    error = expected_calibration_error(predictions.probabilities, predictions.labels, debiased=True)
    told = {**stated(predictions), "debiased_ece": error}
    compact(run.model_folder, splits.validation, asked.out, asked.views, {**about, "scores": {"test": told}})
    print(json.dumps(told, indent=2))
    print({path.name: path.stat().st_size for path in sorted(asked.out.iterdir())})


if __name__ == "__main__":
    main()
