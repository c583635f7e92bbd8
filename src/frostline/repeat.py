"""The same training with several seeds: how much of a result is luck."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from frostline.config import Settings
from frostline.data.imageset import Splits
from frostline.errors import UserError
from frostline.experiment import train
from frostline.files import write_json
from frostline.progress import say
from frostline.runs import DATA, MANIFEST, SETTINGS, Run

SUMMARY = "seeds.json"


def train_seeds(data: Any, settings: Settings, count: int, out: Path, **options: Any) -> dict[str, Any]:
    """Train with ``count`` seeds from ``settings.seed`` on, each a run of its own in ``out/seed-N``.

    Runs in ``out`` that are finished, of the same settings and images, are not made again; one that was interrupted goes on.

    Args:
        data: what ``experiment.train`` takes.
        settings: the seed decides the split (where one is cut), the order of images and the starting weights.
        count: how many, at least 2.
        out: the folder.
        **options: for ``experiment.train``.

    Returns:
        ``runs`` (folders), ``seeds``, and for each of ``accuracy`` and ``macro_f1`` on test: ``values``, ``mean``,
        ``standard_deviation`` and ``interval``, the mean's 95 % interval by Student's t. Written to ``out/seeds.json`` as well.

    Raises:
        UserError: a folder in the way, no test split, or Ctrl-C: what is done stays, and the same call goes on.
    """
    runs = [_one(data, settings.with_values(seed=settings.seed + number), out, options) for number in range(count)]
    judged = [run.scores("test") for run in runs if "test" in run.splits]
    if len(judged) < count:
        raise UserError("There is no test split to compare the seeds on.", expected="data with a test split, or test=auto")
    summary = {
        "runs": [str(run.folder) for run in runs],
        "seeds": [settings.seed + number for number in range(count)],
        "n": judged[0]["n"],
        "accuracy": spread([scores["accuracy"] for scores in judged]),
        "macro_f1": spread([scores["macro"]["f1"] for scores in judged]),
    }
    write_json(out / SUMMARY, summary)
    return summary


def _one(data: Any, settings: Settings, out: Path, options: dict[str, Any]) -> Run:
    folder = out / f"seed-{settings.seed}"
    run = Run.open(folder) if (folder / MANIFEST).exists() else None  # a damaged one is an error, and stays
    if run is None or _interrupted(run):
        go_on = Run(folder).checkpoints_folder.is_dir()
        run = train(data, settings, folder, resume=go_on, overwrite=run is not None, **options)
        if _interrupted(run):
            raise UserError("Interrupted: no spread is computed of a training that was cut short.", hint="the same command goes on")
        return run
    if settings != Settings().with_values(**run.read(SETTINGS)):
        raise UserError(f"{run.folder} holds a finished run with other settings.", hint="another folder for --out")
    if run.read(DATA)["source"] != (data.record.get("source", "") if isinstance(data, Splits) else str(data)):
        raise UserError(f"{run.folder} holds a finished run on other data.", hint="another folder for --out")
    say(f"Seed {settings.seed} is done: {run.folder}.")
    return run


def _interrupted(run: Run) -> bool:
    return "Ctrl-C" in str(run.record.get("ended", ""))


def spread(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation (of the sample) and the mean's 95 % interval by Student's t; of at least two values."""
    from scipy import stats

    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * deviation / len(values) ** 0.5
    return {"values": values, "mean": mean, "standard_deviation": deviation, "interval": [mean - half, mean + half]}
