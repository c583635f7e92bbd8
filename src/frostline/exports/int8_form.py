"""``frostline export --to int8``: a model directory whose network computes in 8 bits, if it loses little and gains enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import frostline
from frostline import engine, inside
from frostline.abstaining import stated_threshold
from frostline.artifact import Compiled, write_model
from frostline.conformal import card_rows
from frostline.data.imageset import ImageSet
from frostline.data.reading import stored_blocks
from frostline.drawn import drawn_images
from frostline.environment import cores, cpu_model
from frostline.errors import UserError
from frostline.exports.quantisation import quantised
from frostline.feature_cache import raw
from frostline.judge import rows_of
from frostline.paired import paired
from frostline.predictions import Predictions
from frostline.progress import say
from frostline.records import json_record
from frostline.runs import DATA, MANIFEST, Run
from frostline.selftest import TOLERANCE
from frostline.serve.predictor import Predictor
from frostline.vino import ov

#: Points of accuracy that may be lost, and images per second against bf16 (f32 without it) that must be gained, by default.
MAX_LOSS, MIN_GAIN = 0.5, 1.3
#: Images that the ranges of activations are taken from.
CALIBRATION = 300
#: How many first layers stay in floats: tried in turn until the loss is small enough.
FLOAT_LAYERS = (0, 3, 4, 8, 12)
#: Fewer others than this say nothing about half a point.
LEAST_JUDGED = 50
#: Rounds in turn, and blocks of images in each, by which speeds are compared.
ROUNDS, BLOCKS = 5, 8


def write_int8(
    model: str | Path,
    folder: Path,
    data: str | Path | None,
    split: str = "validation",
    *,
    max_loss: float = MAX_LOSS,
    min_gain: float = MIN_GAIN,
    calibration: int = CALIBRATION,
    float_layers: Sequence[int] = FLOAT_LAYERS,
) -> dict[str, Any]:
    """Quantise a model and write it as a model directory of its own.

    Args:
        model: a model directory, a run, a ZIP, or "inside".
        folder: the directory to write.
        data, split: images to choose on; by default the data that the run was trained from. ``calibration`` of them, but no more
            than half, give the ranges, all others the loss of accuracy. They count as seen by the new model. Test images are
            refused: a choice made on them would void them.
        max_loss: points of accuracy that may be lost.
        min_gain: images per second, relative to the model in its own precision, that must be reached; 0 for any.
        calibration: number of images.
        float_layers: how many of the first layers to leave as they are; the first number that loses little enough is taken.

    Returns:
        What the card says of it under "int8". Thresholds of label sets are fitted anew, on the validation images that the accuracy
        was compared on; of other images the card keeps none.

    Raises:
        UserError: no data or too few, the test split, a model that cannot be quantised, too great a loss or too small a gain.
    """
    if calibration < 1:
        raise UserError("Ranges are taken from one image at least.", received=f"calibration={calibration}")
    source = Predictor(model)
    if source.graph is None or source.card.precision == "int8":
        raise UserError("This model cannot be quantised.", expected="one with a compiled graph in f32 or bf16")
    images = _images(source, data, split)
    first, others = _apart(images, min(calibration, len(images) // 2))
    say(f"Ranges from {len(first):,} {images.name} images, accuracy on the {len(others):,} others.")
    seen = {raw(digest) for digest in images.digests} | (source.seen() if source.card.knows_seen else set())
    pixels, before = _pixels(source, first), source.judge(others)
    tried: list[dict[str, Any]] = []
    for number in float_layers:
        graph = quantised(source.graph, pixels, number)
        write_model(folder, graph, {}, seen, _card(source, {}))  # to be judged as it will be used, through the one door
        after = Predictor(folder).judge(others)
        found = _loss(source.precision, before, after)
        tried.append({"float_layers": number, "loss": found["loss"]})
        if found["loss"] <= max_loss:
            break
    about: dict[str, Any] = {"split": images.name, "calibration": len(first), "max_loss": max_loss, "tolerance": TOLERANCE["int8"]}
    about |= {**found, "float_layers": number, "tried": tried, "graph_bytes": _sizes(source.folder, folder)}
    _refuse_loss(about, max_loss)
    about |= _gain(source, graph)
    _refuse_gain(about, min_gain)
    fitted, sure_from = list[dict[str, Any]](), None
    if images.name == "validation":
        fitted, sure_from = card_rows(after.probabilities, after.labels), stated_threshold(after.probabilities, after.labels)
    write_model(folder, graph, {}, seen, {**_card(source, about, fitted), "sure_from": sure_from})
    return about


def say_int8(about: Mapping[str, Any]) -> None:
    """What was lost and gained, in two lines."""
    low, high = about["interval"]
    say(
        f"Accuracy {about['accuracy']:.2%}, {about['loss']:+.2f} points lost ({low:+.2f} to {high:+.2f}) on {about['n']:,} "
        f"{about['split']} images; worst difference of a probability {about['parity']['worst']:.2g}."
    )
    if about["float_layers"]:
        say(f"The first {about['float_layers']} layers stay as they are: all in int8 lost {about['tried'][0]['loss']:.2f} points.")
    speed, sizes = about["images_per_second"], about["graph_bytes"]
    say(
        f"Speed {about['gain']:.2f} × {about['against']}: {speed['int8']:,.0f} images/s against {speed[about['against']]:,.0f}; "
        f"graph {sizes['int8'] / 1e6:.2f} MB against {sizes['source'] / 1e6:.2f} MB."
    )


def _trained_on(source: Predictor) -> str:
    """What the run that a model lies in was trained from."""
    run = Run(source.folder.parent)
    if run.model_folder != source.folder or not (run.folder / MANIFEST).is_file():
        raise UserError("Quantisation takes ranges from images.", hint="--data DATA, with the data that the model was trained from")
    data = str(run.read(DATA).get("source") or "")
    if not data:
        raise UserError(f"The run {run.name} does not say which data it was trained from.", hint="--data DATA, with these data")
    say(f"The data are those that it was trained from: {data}.")
    return data


def _images(source: Predictor, data: str | Path | None, split: str) -> ImageSet:
    if split == "train":
        raise UserError(
            "Training images flatter the model: what 8 bits lose is not seen on them.",
            expected="validation",
            received="train",
        )
    if split == "test":
        raise UserError(
            "Test images choose nothing: ranges and the allowed loss are chosen on validation.",
            expected="validation",
            received="test",
        )
    images, _ = rows_of(source, data or _trained_on(source), split)
    if source.card.knows_seen:
        inside.refuse_seen(
            source.card, images, int(images.among(source.seen()).sum()), "quantised by", "--data FOLDER, images of your own"
        )
    if len(images) < 2 * LEAST_JUDGED:
        raise UserError(
            f"There are too few {images.name} images.",
            expected=f"{2 * LEAST_JUDGED} at least, half of them to take ranges from",
            received=f"{len(images):,}",
        )
    return images


def _apart(images: ImageSet, calibration: int) -> tuple[ImageSet, ImageSet]:
    """Rows for the ranges, drawn with a fixed seed, and all the others."""
    order = np.random.default_rng(0).permutation(len(images))
    return images.take(np.sort(order[:calibration])), images.take(np.sort(order[calibration:]))


def _pixels(source: Predictor, images: ImageSet) -> NDArray[np.uint8]:
    rows = [np.arange(i, min(i + source.batch, len(images))) for i in range(0, len(images), source.batch)]
    return np.concatenate(list(stored_blocks(images, rows, source.card.preprocess)))


def _card(source: Predictor, about: Mapping[str, Any], label_sets: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The source's card, and what was changed. Scores and label sets were measured on the source and stay with it."""
    not_its_own = ("schema", "files", "digest", "shared_weights", "scores", "label_sets")
    values = {key: value for key, value in source.card.values.items() if key not in not_its_own}
    if "training" in values:
        scores = ("validation_accuracy", "validation_loss")
        values["training"] = {key: value for key, value in values["training"].items() if key not in scores}
    changed = {"precision": "int8", "frostline": frostline.__version__, "made_from": source.card.digest, "int8": dict(about)}
    return json_record({**values, **changed, **({"label_sets": label_sets} if label_sets else {})})


def _loss(precision: str, before: Predictions, after: Predictions) -> dict[str, Any]:
    both = paired(precision, before, "int8", after)
    off = np.abs(before.probabilities.astype(np.float64) - after.probabilities)
    low, high = both["interval"]
    return {
        "n": len(after),
        "accuracy": float(after.correct.mean()),
        "accuracy_before": float(before.correct.mean()),
        "loss": 100 * float(before.correct.mean() - after.correct.mean()),
        "interval": [100 * low, 100 * high],
        "parity": {"worst": float(off.max()), "mean": float(off.mean()), "same_winner": _same(before, after)},
    }


def _same(one: Predictions, other: Predictions) -> float:
    return float((one.predicted == other.predicted).mean())


def _gain(source: Predictor, graph: ov.Model) -> dict[str, Any]:
    """Images per second of both, in turn, so that what else the machine does meets both alike."""
    images = drawn_images(engine.BATCH, *source.card.preprocess.stored)
    many = np.concatenate([images] * (BLOCKS * cores()))
    runners = {name: Compiled(given, name) for name, given in ((source.precision, source.graph), ("int8", graph))}
    times: dict[str, list[float]] = {name: [] for name in runners}
    for round_ in range(ROUNDS + 1):
        for name, runner in runners.items():
            taken = _seconds(lambda runner=runner: runner.probabilities(many))  # type: ignore[misc]
            if round_:  # the first warms up
                times[name].append(taken)
    speed = {name: len(many) / median(taken) for name, taken in times.items()}
    ratio = median(a / b for a, b in zip(times[source.precision], times["int8"], strict=True))
    hardware = {"processor": cpu_model(), "cores": cores(), "openvino": engine.version()}
    return {"gain": round(ratio, 3), "against": source.precision, "images_per_second": speed, "hardware": hardware}


def _seconds(work: Callable[[], Any]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


def _sizes(source: Path, smaller: Path) -> dict[str, int]:
    return {name: (folder / "graph.bin").stat().st_size for name, folder in (("source", source), ("int8", smaller))}


def _refuse_loss(about: Mapping[str, Any], max_loss: float) -> None:
    if about["loss"] > max_loss:
        raise UserError(
            "Quantisation costs this model too much; nothing was written.",
            expected=f"at most {max_loss:g} points of accuracy on {about['n']:,} {about['split']} images",
            received=", ".join(
                f"{each['loss']:.2f} with {each['float_layers']} layers left as they are" for each in about["tried"]
            ),
            hint="--max-loss",
        )


def _refuse_gain(about: Mapping[str, Any], min_gain: float) -> None:
    if about["gain"] < min_gain:
        raise UserError(
            "Quantisation gains this model too little here; nothing was written.",
            expected=f"at least {min_gain:g} times the images per second of {about['against']}",
            received=f"{about['gain']:.2f} times",
            hint="--min-gain 0 writes it all the same",
        )
