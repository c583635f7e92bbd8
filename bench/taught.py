"""What a teacher does for a network from scratch, on validation only: the same training from labels and from a model's answers.

    python bench/taught.py --data cifar10:FOLDER --teacher RUN [--recipe fast-94] [--temperatures 1,2,4] [--mixtures 0,3]
        [--set KEY=VALUE]

RUN is a finished run; students have its seed and its validation images, so that it has learned none of those by which they are
judged; that is checked. Where mixtures are asked for, every training shows all images, that from labels too: none of a mixture's
has a loss of its own to be left out by. Test is never read. A row a training goes to
results/taught.csv as soon as it is there: the accuracy and log loss on validation of the model as it would be served, and the gain
over the training from labels.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import tempfile
from pathlib import Path
from typing import Any

from common import append_rows
from inputs import versions

from frostline.config import Settings
from frostline.data.imageset import Splits
from frostline.experiment import load_data, trained_on
from frostline.metrics import score
from frostline.recipes import recipe
from frostline.runs import SETTINGS, Run
from frostline.stopping import StopRule
from frostline.trained import on_validation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--recipe", default="fast-94")
    parser.add_argument("--temperatures", default="1,2,4", help="empty: from labels alone")
    parser.add_argument("--mixtures", default="0", help="of each image, of which the teacher is asked as well")
    parser.add_argument("--set", action="append", default=[], help="as for train")
    parser.add_argument("--no-plain", action="store_true", help="leave out the training from labels")
    asked = parser.parse_args()
    teacher = Run.open(asked.teacher)
    its = teacher.read(SETTINGS)
    cut = {key: its[key] for key in ("seed", "validation_max", "validation_fraction")}
    plain = recipe(asked.recipe).with_values(**cut).with_assignments(asked.set)
    given = load_data(asked.data, plain)
    check_apart(teacher, given)
    splits = dataclasses.replace(given, test=None)
    base: dict[str, float] = {}
    temperatures, mixtures = (
        list(map(float, filter(None, asked.temperatures.split(",")))),
        list(map(int, asked.mixtures.split(","))),
    )
    if any(mixtures):
        plain = plain.with_values(skip_easy=0.0)
    for temperature, mixed in [*([] if asked.no_plain else [(0.0, 0)]), *itertools.product(temperatures, mixtures)]:
        told = {"teacher": str(asked.teacher), "teacher_temperature": temperature, "teacher_mixtures": mixed}
        found = trained(splits, plain.with_values(**(told if temperature else {})))
        base = base or ({} if temperature else found)
        gain = round(100 * (found["validation_accuracy"] - base["validation_accuracy"]), 2) if base else None
        row = {"recipe": " ".join([asked.recipe, *asked.set]), "seed": plain.seed, "temperature": temperature or "labels"}
        row |= {"mixtures": mixed, **found}
        row |= {"gain_points": gain, "n": len(splits.validation), "teacher": teacher.record["recipe"]}
        row |= {"teacher_validation": teacher.scores("validation")["accuracy"]}
        print(row, flush=True)
        append_rows("taught", [{**row, "teacher_digest": teacher.record["model_digest"], "versions": versions()}])


def check_apart(teacher: Run, splits: Splits) -> None:
    """End where the teacher was trained on images by which its student is to be judged."""
    if teacher.predictions("validation").fingerprint != splits.validation.fingerprint:
        raise SystemExit("the teacher's validation images are others: it was trained on other data")


def trained(splits: Splits, settings: Settings) -> dict[str, Any]:
    """Scores on validation, and what it took."""
    with tempfile.TemporaryDirectory() as folder, Run.create(Path(folder) / "run") as run:
        made = trained_on(splits, settings, run, StopRule())
        scores = score(on_validation(made, splits))
        return {
            "validation_accuracy": scores["accuracy"],
            "validation_loss": round(scores["log_loss"], 4),
            "asking_s": round(run.timings.get("teacher", 0.0), 1),
            "fit_s": round(run.timings["fit"], 1),
        }


if __name__ == "__main__":
    main()
