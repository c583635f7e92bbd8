"""One run from data to a judged, saved model: the straight path, stage by stage."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

import frostline
from frostline.abstaining import stated_threshold, thresholds
from frostline.artifact import make_runner, read_model, write_model
from frostline.choosing import settled
from frostline.config import NOT_OF_THE_MODEL, Settings
from frostline.conformal import card_rows, promised
from frostline.data.edits import described
from frostline.data.imageset import Splits
from frostline.environment import MemoryWatch, describe
from frostline.feature_cache import in_use
from frostline.files import memory_limit
from frostline.history import check_tensorboard
from frostline.layers import blocks
from frostline.metrics import score, stated
from frostline.paired import paired
from frostline.pictures import draw_pictures
from frostline.predictions import Predictions
from frostline.preparing import Prepared, prepare
from frostline.preparing import load_data as load_data
from frostline.progress import say
from frostline.recipes import model_name
from frostline.records import json_record
from frostline.run_folder import cannot_write
from frostline.runs import Run
from frostline.speed import speed_of
from frostline.stopping import StopRule
from frostline.trained import Trained, licences_of, on_validation, predicted
from frostline.verified import ROW_ORDER


def train(
    data: str | Path | Splits,
    settings: Settings | str | None = None,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    csv: bool = False,
    tensorboard: bool = False,
    **values: Any,
) -> Run:
    """Train, judge and save a classifier.

    Args:
        data: what ``load_data`` takes, or its result.
        settings: a recipe's name, settings, or None to have one chosen.
        out: the run directory; by default a new one under ``runs/``.
        overwrite: replace the run in ``out``, finished or interrupted, once this one has finished.
        resume: go on from the last whole epoch of the unfinished run in ``out``; see ``resumed``.
        csv, tensorboard: write the history in these forms too.
        **values: settings to change, for example ``weights="folder"``, ``seed=1``.

    Returns:
        The finished run; its model is in ``run.model_folder``.

    Raises:
        UserError: anything that the caller can put right.
    """
    if tensorboard:
        check_tensorboard()  # it is needed last, and hours may lie between
    stop = StopRule()
    chosen = settled(data, settings, values)
    stop.stop_at, stop.budget_s = chosen.stop_at or None, chosen.budget or None
    folder = Path(out) if out is not None else free_folder(chosen, data)
    begun = _begun(data, chosen, folder, overwrite, resume)
    with _made(folder, out is None), MemoryWatch() as watch, stop.listen(), in_use(), begun as (run, splits):
        trained = trained_on(splits, chosen, run, stop)
        record = _saved_and_judged(trained, splits, chosen, run, stop)
        _draw(trained, chosen, run)
        run.finish({**record, "peak_memory": watch.peak()})
        if "Ctrl-C" not in record["ended"]:  # what a person has ended early can go on
            shutil.rmtree(run.checkpoints_folder, ignore_errors=True)
    if csv or tensorboard:
        run.export_history(csv=csv, tensorboard=tensorboard)
    return run


@contextmanager
def _made(folder: Path, by_us: bool) -> Iterator[None]:
    """Where what is inside fails, a folder that was made for it goes, if nothing was left in it."""
    try:
        yield
    except BaseException:
        if by_us:
            with suppress(OSError):  # there is something in it
                folder.rmdir()
                folder.parent.rmdir()
        raise


def _saved_and_judged(trained: Trained, splits: Splits, settings: Settings, run: Run, stop: StopRule) -> dict[str, Any]:
    """Write the model, then judge it; returns the run's record."""
    for row in trained.record.get("lr_finder", {}).get("curve", ()):
        run.add_history({"stage": "lr-finder", **row})
    digest = _save(trained, splits, settings, run)
    ready = stop.elapsed()
    say(f"Model saved after {ready:.1f} s: {run.model_folder} ({digest})")
    accuracy, stages = _judge(trained, splits, run)
    return {
        "recipe": settings.recipe,
        "data": splits.record.get("source", ""),
        "parameters": trained.architecture["parameters"],
        "trainable_parameters": trained.architecture["trainable_parameters"],
        "training_seconds": round(ready, 3),
        "total_seconds": round(stop.elapsed(), 3),
        "model_digest": digest,
        "test_accuracy": accuracy,
        **ROW_ORDER,
        **({"stages": stages} if stages else {}),
        **(_how_sure(run) if splits.test is not None else {}),
        "blocks": blocks({name: weight.shape for name, weight in trained.weights.items()}, trained.architecture),
        "speed": speed_of(run),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "ended": trained.record["ended"],
    }


def free_folder(settings: Settings, data: Any) -> Path:
    """runs/RECIPE-DATA-1, or the first number that is free; made at once, for data take time to load and others train as well."""
    source = str(data.record.get("source", "data")) if isinstance(data, Splits) else str(data)
    name = Path(source.partition(":")[0]).stem or "data"
    for number in count(1):
        folder = Path("runs") / f"{settings.recipe}-{name}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise cannot_write(folder, error) from error
        return folder
    raise AssertionError("there is always another number")


@contextmanager
def _begun(
    data: str | Path | Splits, settings: Settings, folder: Path, overwrite: bool, resume: bool
) -> Iterator[tuple[Run, Splits]]:
    """A run that has written what it was asked for and on what, and its data; what can be wrong at once is found before."""
    prepared = prepare(data, settings, folder, overwrite, resume)
    with Run.create(folder, overwrite, resume) as run:
        run.write_settings(settings)
        run.write_environment(describe())
        run.timings["data"] = round(prepared.seconds, 3)
        _say_data(prepared, run)
        yield run, prepared.splits


def _say_data(prepared: Prepared, run: Run) -> None:
    splits, rejects = prepared.splits, prepared.source.rejects if prepared.source else ()
    with run.timing("data"):
        run.write_data(splits.record, rejects)
    sets = [images for images in (splits.train, splits.validation, splits.test) if images is not None]
    say(f"Data: {', '.join(f'{len(images):,} {images.name}' for images in sets)} images of {len(splits.classes)} classes.")
    for note in splits.record.get("notes", ()):  # type: ignore[attr-defined]
        say(f"Note: {note}", "yellow")
    if rejects:
        say(f"Left out: {len(rejects):,} unusable files, listed with their reasons in {run.folder / 'rejects.csv'}.", "yellow")


def trained_on(splits: Splits, settings: Settings, run: Run, stop: StopRule) -> Trained:
    """Train by the path that the settings name; test is not touched."""
    with memory_limit(settings.memory * 2**30):
        return _by_its_path(splits, settings, run, stop)


def _by_its_path(splits: Splits, settings: Settings, run: Run, stop: StopRule) -> Trained:
    if settings.kind == "frozen" and settings.train_from == "head":
        from frostline.train_frozen import train_frozen

        return train_frozen(splits, settings, run, stop)
    if settings.kind == "frozen":
        from frostline.train_finetune import train_finetune

        return train_finetune(splits, settings, run, stop)
    from frostline.train_scratch import train_scratch

    return train_scratch(splits, settings, run, stop)


def _save(trained: Trained, splits: Splits, settings: Settings, run: Run) -> str:
    """Write the model directory, and those of the stages before it; returns its digest."""
    for name, stage in trained.earlier:
        _write(stage, splits, settings, run, run.stage_folder(name))
    return _write(trained, splits, settings, run, run.model_folder)


def _write(trained: Trained, splits: Splits, settings: Settings, run: Run, folder: Path) -> str:
    """Write a model directory; nothing in it comes from the test split, a clock or this machine's paths."""
    chosen = {key: value for key, value in settings.as_dict().items() if key not in NOT_OF_THE_MODEL}
    timeless = {key: value for key, value in trained.record.items() if key not in ("learning_curve", "best", "lr_finder")}
    rows, probabilities = trained.validation
    labels = splits.validation.take(rows).labels
    teacher = trained.record.get("teacher", {})
    card = {
        "name": model_name(settings),
        "frostline": frostline.__version__,
        "classes": list(splits.classes),
        "preprocess": trained.preprocess.as_dict(),
        "views": trained.views,
        "temperature": trained.temperature,
        "precision": trained.precision,
        "sure_from": stated_threshold(probabilities, labels),
        "label_sets": card_rows(np.asarray(probabilities, np.float32), labels),  # the numbers that the run's predictions keep
        "architecture": trained.architecture,
        "settings": chosen,
        "training": timeless,
        "scores": {"validation": stated(on_validation(trained, splits))},
        "licences": licences_of(trained.architecture, splits.record, teacher),
        **({} if teacher.get("knows_seen", True) else {"knows_seen": False}),
        "data": {
            "published": splits.record.get("published", ""),
            "cut": splits.record.get("options", {}),
            **described(splits),
            "images": {"train": len(splits.train), "validation": len(splits.validation)},
            **_absent(splits),
        },
    }
    with run.timing("save"):
        return write_model(folder, trained.graph, trained.weights, trained.seen, json_record(card))


def _absent(splits: Splits) -> dict[str, list[str]]:
    """The classes without an image in train, where there are any: the model has been shown none, unless in validation."""
    absent = [name for number, name in enumerate(splits.classes) if not (splits.train.labels == number).any()]
    return {"absent_from_train": absent} if absent else {}


def _judge(trained: Trained, splits: Splits, run: Run) -> tuple[float | None, dict[str, Any]]:
    """Validation predictions as they were made while choosing; then the test split, read here for the first and only time.

    Returns:
        test accuracy, and for each stage before the last its own, with the difference and its McNemar p.
    """
    if splits.test is None:
        say("There is no test split: this model has not been judged on images that nothing has read.", "yellow")
    earlier = {name: _judge_stage(stage, splits, run, run.stage_folder(name), f"-{name}") for name, stage in trained.earlier}
    accuracy = _judge_stage(trained, splits, run, run.model_folder)
    stages = {}
    for name in earlier if splits.test is not None else ():
        both = paired("finished", run.predictions("test"), name, run.predictions(f"test-{name}"))
        stages[name] = {"test_accuracy": earlier[name], **{key: both[key] for key in ("difference", "p", "n")}}
        gain = f"{100 * both['difference']:+.2f} points on the same {both['n']:,} images"
        say(f"Against the {name} stage: {gain} (p = {both['p']:.2g}).")
    return accuracy, stages


def _how_sure(run: Run) -> dict[str, Any]:
    """What thresholds and label sets that validation gives do on test, from the saved predictions."""
    validation, test = run.predictions("validation"), run.predictions("test")
    return {"abstaining": thresholds(validation, test), "label_sets": promised(validation, test)}


def _judge_stage(trained: Trained, splits: Splits, run: Run, folder: Path, suffix: str = "") -> float | None:
    _keep(f"validation{suffix}", on_validation(trained, splits), run)
    if splits.test is None:
        return None
    with run.timing("test"):
        card, graph = read_model(folder)
        runner = make_runner(graph, folder, card.values, card.precision)
        probabilities = trained.judge(runner, splits.test)
    scores = _keep(f"test{suffix}", predicted(splits.test, probabilities), run, trained.notes)
    low, high = scores["interval"]
    stage = f" of the {suffix[1:]} stage" if suffix else ""
    say(f"Test accuracy{stage} {scores['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%}, n = {scores['n']:,}).", "bold")
    return float(scores["accuracy"])


def _keep(name: str, predictions: Predictions, run: Run, notes: Sequence[str] = ()) -> dict[str, Any]:
    run.write_predictions(name, predictions)
    found = score(predictions)
    scores = {**found, "notes": [*found["notes"], *notes]}
    run.write_scores(name, scores)
    return scores


def _draw(trained: Trained, settings: Settings, run: Run) -> None:
    draw_pictures(run, model_name(settings), trained.record)
