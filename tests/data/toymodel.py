"""A model directory whose every probability can be worked out by hand: it says which colour an image has most of."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from frostline import engine
from frostline.artifact import write_model
from frostline.config import Settings
from frostline.records import json_record
from frostline.vino import ops, ov

CLASSES = ("red", "green", "blue")
#: The settings that decide how data was cut.
CUT_BY = ("seed", "validation_fraction", "validation_max", "group")
#: Logit of a channel whose every pixel is 255.
SHARPNESS = 8.0


def probabilities(pixels: np.ndarray) -> np.ndarray:
    """(N, 3) for (N, H, W, 3) uint8: softmax of SHARPNESS times the mean of each channel, in [0, 1]."""
    logits = SHARPNESS * pixels.reshape(len(pixels), -1, 3).mean(1) / 255
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def write_toy(
    folder: Path,
    side: int = 8,
    seen: Iterable[bytes] = (),
    data: dict[str, str] | None = None,
    label_sets: Mapping[float, float] | None = None,
    **settings: Any,
) -> Path:
    """Write the model for images of ``side``².

    ``seen`` and ``data`` (fingerprints) say what it claims to be trained on; ``label_sets`` are its thresholds by coverage.
    """
    preprocess = {"size": [side, side], "stored": [side, side], "fit": "squash", "kernel": "bicubic", "crop": 1.0}
    chosen = Settings(**settings).as_dict()
    card = {
        "name": "toy",
        "classes": list(CLASSES),
        "preprocess": {**preprocess, "mean": [0.5] * 3, "std": [0.5] * 3},
        "views": 1,
        "temperature": 1.0,
        "precision": "f32",
        "architecture": {"kind": "toy", "parameters": 0},
        "settings": {},
        "data": {"cut": {key: chosen[key] for key in CUT_BY}, "fingerprints": data or {"train": "none", "validation": "none"}},
    }
    if label_sets is not None:
        card["label_sets"] = [{"promised": each, "threshold": threshold, "n": 100} for each, threshold in label_sets.items()]
    write_model(
        folder, engine.join(engine.with_views(_body(side), 1), _head()), {"none": np.zeros(1)}, set(seen), json_record(card)
    )
    return folder


def _body(side: int) -> ov.Model:
    images = ops.parameter([-1, side, side, 3], np.uint8, name="images")
    images.output(0).set_names({"images"})
    scaled = ops.multiply(ops.convert(images, "f32"), ops.constant(np.float32(1 / 255)))
    mean = ops.reduce_mean(scaled, ops.constant(np.array([1, 2])), keep_dims=False)
    mean.output(0).set_names({"features"})
    return ov.Model([mean], [images], "body")


def _head() -> ov.Model:
    features = ops.parameter([-1, -1, 3], np.float32, name="features")
    features.output(0).set_names({"features"})
    averaged = ops.reduce_mean(features, ops.constant(np.array([1])), keep_dims=False)
    answer = ops.softmax(ops.multiply(averaged, ops.constant(np.float32(SHARPNESS))), 1)
    answer.output(0).set_names({"probabilities"})
    return ov.Model([answer], [features], "head")
