"""What each option of the training craft does, on validation only: one option at a time over a plain training, several seeds.

    python bench/craft.py --data cifar10:FOLDER --weights-root FOLDER [--seeds 2] [--only finetune,live,scratch,recipe]
        [--images 10000] [--options "noise .1,freezeout"]

Two plain trainings on a part of the data: MobileNetV2 at 160 fine-tuned from its last block on (two cached views, 3 epochs; beside
it its live path, which runs the whole network at every step), and ``cnn-small`` from scratch (20 epochs, mirror and shift). By
``--only recipe``, ``mobilenetv2-finetune`` leaving out easy images however few there are, with all images in every epoch beside it.
Test is never read. A row an option and seed goes to results/craft.csv as soon as it is there: accuracy and log loss on 5,000
validation images, their difference to the plain training of the same seed (in points and nats), and the time as a share of the
plain one's.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import append_rows
from inputs import versions

from frostline.anytime import stratified_order
from frostline.config import Settings
from frostline.data.imageset import Splits
from frostline.experiment import load_data, trained_on
from frostline.recipes import recipe
from frostline.runs import Run
from frostline.stopping import StopRule

FINETUNE: dict[str, dict[str, Any]] = {
    "plain": {},
    "constant rate": {"schedule": "constant"},
    "cosine, warm-up": {"schedule": "cosine", "warmup_epochs": 0.5},
    "adam": {"optimizer": "adam", "weight_decay": 0.0},
    "sgd": {"optimizer": "sgd", "lr": 0.02, "weight_decay": 5e-4},
    "lr finder": {"find_lr": True},
    "clip 1": {"clip": 1.0},
    "no label smoothing": {"label_smoothing": 0.0},
    "ema .998": {"ema": 0.998},
    "soup of 2": {"soup": 2},
    "mixup .2": {"mixup": 0.2},
    "cutmix 1": {"cutmix": 1.0},
    "focal loss": {"loss": "focal", "label_smoothing": 0.0},
    "layer decay .8": {"layer_decay": 0.8},
    "noise .1": {"noise": 0.1},
    "activations dropped .1": {"drop_activations": 0.1},
    "freezeout": {"freezeout": ("upper.*.blocks.6.*=0.5",)},  # before the last of three epochs
    "one cached view": {"cached_views": 1, "views": 1},
    "4 cached views": {"cached_views": 4},
}
LIVE: dict[str, dict[str, Any]] = {
    "plain": {},
    "live: mirror": {"augment": ("mirror",)},
    "live: mirror, shift 2": {"augment": ("mirror",), "shift": 2},
}
RECIPE: dict[str, dict[str, Any]] = {
    "plain": {},
    "all images": {"skip_easy": 0.0},
}
SCRATCH: dict[str, dict[str, Any]] = {
    "plain": {},
    "no augmentation": {"mirror": False, "shift": 0},
    "cutout 8": {"cutout": 8},
    "zoom": {"augment": ("zoom",)},
    "gamma": {"augment": ("gamma",)},
    "contrast": {"augment": ("contrast",)},
    "channels": {"augment": ("channels",)},
    "erase": {"augment": ("erase",)},
    "RandAugment": {"augment": ("randaugment",)},
    "TrivialAugment": {"augment": ("trivial",)},
    "mixup .2": {"mixup": 0.2},
    "cutmix 1": {"cutmix": 1.0},
    "ema .99": {"ema": 0.99},
    "focal loss": {"loss": "focal", "label_smoothing": 0.0},
    "clip 1": {"clip": 1.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights-root", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--images", type=int, default=10_000, help="of training, drawn by the seed")
    parser.add_argument("--only", default="finetune,live,scratch")
    parser.add_argument("--options", default="", help="of the trainings, beside the plain one; by default all")
    asked = parser.parse_args()
    weights = str(asked.weights_root / "mobilenetv2_100.imagenet")
    lasting = {"epochs": 3, "warmup_epochs": 0.0, "cached_views": 2, "skip_easy": 0.0}
    finetune = recipe("mobilenetv2-finetune").with_values(train_from="blocks.6", weights=weights, **lasting)
    scratch = recipe("cnn-small").with_values(epochs=20)
    whole = recipe("mobilenetv2-finetune").with_values(weights=weights, skip_easy_from=0)  # what it would lose by leaving out
    trainings = {"finetune": (finetune, FINETUNE), "live": (finetune, LIVE), "scratch": (scratch, SCRATCH)}
    trainings["recipe"] = (whole, RECIPE)
    with tempfile.TemporaryDirectory() as home:
        os.environ["FROSTLINE_HOME"] = home  # activations are computed once, and no option has them cheaper than another
        for name in asked.only.split(","):
            for seed in range(asked.seeds):
                plain, options = trainings[name]
                compare(name, plain, chosen(options, asked.options), seed, asked)


def chosen(options: dict[str, dict[str, Any]], names: str) -> dict[str, dict[str, Any]]:
    """The plain training and the options of these names; all of them without names."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    return {name: values for name, values in options.items() if name == "plain" or not wanted or name in wanted}


def compare(name: str, plain: Settings, options: dict[str, dict[str, Any]], seed: int, asked: argparse.Namespace) -> None:
    """A row for every option of a training with this seed."""
    splits = reduced(load_data(asked.data, plain.with_values(seed=seed)), asked.images, seed)
    base: dict[str, Any] = {}
    if name != "scratch":  # one epoch has all views from the beginning: none is made within the time of another training
        most = max(values.get("cached_views", plain.cached_views) for values in options.values())
        trained(splits, plain.with_values(seed=seed, epochs=1, warmup_epochs=0.0, cached_views=most))
    for option, values in options.items():
        found = trained(splits, plain.with_values(seed=seed, **values))
        base = base or found  # the first one is plain
        row = {"training": name, "option": option, "seed": seed, **compared(found, base), "versions": versions()}
        print({key: value for key, value in row.items() if key != "versions"}, flush=True)
        append_rows("craft", [{**row, "train_images": len(splits.train), "n": len(splits.validation)}])


def trained(splits: Splits, settings: Settings) -> dict[str, Any]:
    """What a training reached on validation, and the seconds of its loop."""
    with tempfile.TemporaryDirectory() as folder, Run.create(Path(folder) / "run") as run:
        record = trained_on(splits, settings, run, StopRule()).record
        return {"accuracy": record["validation_accuracy"], "loss": record["validation_loss"], "fit_s": run.timings["fit"]}


def reduced(splits: Splits, images: int, seed: int) -> Splits:
    """The same with so many training images, of every class as much as before."""
    rows = stratified_order(splits.train.labels, seed)[:images]
    return dataclasses.replace(splits, train=splits.train.take(np.sort(rows)), test=None)


def compared(found: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """What an option reached, and what it changed."""
    return {
        "validation_accuracy": round(found["accuracy"], 4),
        "gain_points": round(100 * (found["accuracy"] - plain["accuracy"]), 2),
        "validation_loss": round(found["loss"], 4),
        "loss_difference": round(found["loss"] - plain["loss"], 4),
        "fit_s": round(found["fit_s"], 1),
        "time_share": round(found["fit_s"] / plain["fit_s"], 2),
    }


if __name__ == "__main__":
    main()
