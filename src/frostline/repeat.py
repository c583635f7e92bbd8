"""The same training with several seeds: how much of a result is luck."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from frostline.config import Settings
from frostline.data.imageset import Splits
from frostline.errors import UserError
from frostline.experiment import load_data, train
from frostline.files import write_json
from frostline.metrics import score
from frostline.model_card import read_card
from frostline.predictions import Predictions
from frostline.progress import say
from frostline.run_folder import interrupted
from frostline.runs import DATA, MANIFEST, SETTINGS, Run
from frostline.teacher import digest_of, find_teacher
from frostline.verified import check_record, verified

SUMMARY = "seeds.json"


def train_seeds(data: Any, settings: Settings, count: int, out: Path, **options: Any) -> dict[str, Any]:
    """Train with ``count`` seeds from ``settings.seed`` on, each a run of its own in ``out/seed-N``.

    Runs in ``out`` that are finished, of the same settings and images, are not made again; one that was interrupted goes on. Scores
    are computed from the saved predictions, after these and the records were checked as ``compare`` does.

    Args:
        data: what ``experiment.train`` takes.
        settings: the seed decides the split (where one is cut), the order of images and the starting weights.
        count: how many, at least 2.
        out: the folder.
        **options: for ``experiment.train``.

    Returns:
        ``runs`` (folders), ``seeds``, ``n`` (test images of each run), and for each of ``accuracy`` and ``macro_f1`` on test:
        ``values``, ``mean``, ``standard_deviation`` and ``interval``, the mean's 95 % interval by Student's t. Written to
        ``out/seeds.json`` as well.

    Raises:
        UserError: a folder in the way, no test split, or Ctrl-C: what is done stays, and the same call goes on. A finished run of
            other images, one whose claims its predictions do not bear out, or runs judged on different test images.
    """
    if settings.teacher:  # may it teach the second seed, whose test split may be another one?
        second = settings.with_values(seed=settings.seed + 1)
        find_teacher(second, data if isinstance(data, Splits) else load_data(data, second))
    runs = [_one(data, settings.with_values(seed=settings.seed + number), out, options) for number in range(count)]
    if any("test" not in run.splits for run in runs):
        raise UserError("There is no test split to compare the seeds on.", expected="data with a test split, or test=auto")
    predictions = [_checked(run) for run in runs]
    if isinstance(data, Splits) or all(_declares_test(run) for run in runs):
        _check_the_same(runs, predictions)
    judged = [score(each) for each in predictions]
    summary = {
        "runs": [str(run.folder) for run in runs],
        "seeds": [settings.seed + number for number in range(count)],
        "n": [scores["n"] for scores in judged],
        "accuracy": spread([scores["accuracy"] for scores in judged]),
        "macro_f1": spread([scores["macro"]["f1"] for scores in judged]),
    }
    write_json(out / SUMMARY, summary)
    return summary


def _one(data: Any, settings: Settings, out: Path, options: dict[str, Any]) -> Run:
    folder = out / f"seed-{settings.seed}"
    run = Run.open(folder) if (folder / MANIFEST).exists() else None  # a damaged one is an error, and stays
    if run is None or interrupted(folder):
        go_on = run is not None or Run(folder).checkpoints_folder.is_dir()
        run = train(data, settings, folder, resume=go_on, **options)
        if interrupted(folder):
            hint = f"the same command with --out {quote(str(out))} goes on"
            raise UserError("Interrupted: no spread is computed of a training that was cut short.", hint=hint)
        return run
    if settings != Settings().with_values(**run.read(SETTINGS)):
        raise UserError(f"{run.folder} holds a finished run with other settings.", hint="another folder for --out")
    if settings.teacher and (found := _taught_by(run)) != (wanted := digest_of(settings)):
        raise UserError(
            f"{run.folder} holds a finished run that another teacher taught.",
            expected=wanted,
            received=found,
            hint="another folder for --out",
        )
    if run.read(DATA).get("source", "") != (data.record.get("source", "") if isinstance(data, Splits) else str(data)):
        raise UserError(f"{run.folder} holds a finished run on other data.", hint="another folder for --out")
    _check_its_images(run, load_data(data, settings))
    say(f"Seed {settings.seed} is done: {run.folder}.")
    return run


def _taught_by(run: Run) -> str:
    return str(read_card(run.model_folder).values["training"].get("teacher", {}).get("digest", "no teacher"))


def _check_its_images(run: Run, now: Splits) -> None:
    """That a finished run was trained and judged on the images that its data has now, as edited now."""
    record = run.read(DATA)
    then = {**record.get("fingerprints", {}), **record.get("edits", {}).get("fingerprints", {})}
    sets = {"train": now.train, "validation": now.validation, "test": now.test}
    found = {name: images.fingerprint for name, images in sets.items() if images is not None}
    names = sorted({*then, *found}) if then else ["test"]
    if not then and "test" in run.splits:  # splits made by hand have no record: their test images stand in the predictions
        then = {"test": run.predictions("test").fingerprint}
    if other := [name for name in names if then.get(name) != found.get(name)]:
        raise UserError(
            f"{run.folder} holds a finished run on other data: the images of {' and '.join(other)} are not those that it had.",
            expected=", ".join(f"{name} {then.get(name, 'none')}" for name in other),
            received=", ".join(f"{name} {found.get(name, 'none')}" for name in other),
            hint="another folder for --out, or the data as they were",
        )


def _checked(run: Run) -> Predictions:
    """What a run said of its test images, after its record and these were checked."""
    check_record(run)
    return verified(run, "test")


def _declares_test(run: Run) -> bool:
    """Whether the data has a test split of its own; one that is cut is another one for every seed."""
    return "test" not in run.read(DATA).get("cut", {})


def _check_the_same(runs: list[Run], predictions: list[Predictions]) -> None:
    """That all were judged on the same test images with the same true classes."""
    first, *others = (each.fingerprint for each in predictions)
    for run, other in zip(runs[1:], others, strict=True):
        if other != first:
            raise UserError(
                f"{runs[0].folder} and {run.folder} were judged on different test images.",
                expected=f"fingerprint {first}",
                received=f"fingerprint {other}",
                hint="another folder for --out, and data that stay as they are",
            )


def spread(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation (of the sample) and the mean's 95 % interval by Student's t; of at least two values."""
    from scipy import stats

    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * deviation / len(values) ** 0.5
    return {"values": values, "mean": mean, "standard_deviation": deviation, "interval": [mean - half, mean + half]}
