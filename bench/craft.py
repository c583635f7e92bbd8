"""What each option of the training craft does, on validation only: one option at a time over a plain training, several seeds.

    python bench/craft.py --data cifar10:FOLDER --weights-root FOLDER [--seeds 2] [--only finetune,scratch]

Two plain trainings: MobileNetV2 at 160 fine-tuned from its last block on (two cached views, 3 epochs), and ``cnn-small`` from
scratch (6 epochs, mirror and shift). Test is never read. Rows go to results/craft.csv: validation accuracy and log loss, their
difference to the plain training of the same seed (in points and nats), and the time as a share of the plain one's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from common import append_rows
from inputs import versions

from frostline.config import Settings
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
    "BatchNorm trains": {"train_batchnorm": True},
    "one cached view": {"cached_views": 1, "views": 1},
    "4 cached views": {"cached_views": 4},
    "live: mirror": {"augment": ("mirror",)},
    "live: mirror, shift 2": {"augment": ("mirror",), "shift": 2},
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
    parser.add_argument("--only", default="finetune,scratch")
    asked = parser.parse_args()
    weights = str(asked.weights_root / "mobilenetv2_100.imagenet")
    plain = {
        "finetune": (recipe("mobilenetv2-finetune").with_values(train_from="blocks.6", epochs=3, weights=weights), FINETUNE),
        "scratch": (recipe("cnn-small").with_values(epochs=6), SCRATCH),
    }
    for name in asked.only.split(","):
        rows = compare(name, *plain[name], asked)
        print(f"rows appended to {append_rows('craft', rows)}")


def compare(name: str, plain: Settings, options: dict[str, dict[str, Any]], asked: argparse.Namespace) -> list[dict[str, Any]]:
    found: dict[str, list[tuple[float, float, float]]] = {option: [] for option in options}
    for seed in range(asked.seeds):
        splits = load_data(asked.data, plain)
        for option, values in options.items():
            settings = plain.with_values(seed=seed, **values)
            started = time.monotonic()
            with tempfile.TemporaryDirectory() as folder, Run.create(Path(folder) / "run") as run:
                record = trained_on(splits, settings, run, StopRule()).record
                seconds = run.timings["fit"]
            found[option].append((record["validation_accuracy"], record["validation_loss"], seconds))
            print(
                f"{name} {option} seed {seed}: {record['validation_accuracy']:.4f} {time.monotonic() - started:.0f} s", flush=True
            )
    return [row(name, option, values, found["plain"]) for option, values in found.items()]


def row(
    name: str, option: str, values: list[tuple[float, float, float]], plain: list[tuple[float, float, float]]
) -> dict[str, Any]:
    accuracy, loss, seconds = (statistics.mean(column) for column in zip(*values, strict=True))
    gains = [100 * (a[0] - b[0]) for a, b in zip(values, plain, strict=True)]
    losses = [a[1] - b[1] for a, b in zip(values, plain, strict=True)]
    return {
        "training": name,
        "option": option,
        "n": len(values),
        "validation_accuracy": round(accuracy, 4),
        "gain_points": round(statistics.mean(gains), 2),
        "gains": " ".join(f"{gain:+.2f}" for gain in gains),
        "validation_loss": round(loss, 4),
        "loss_difference": round(statistics.mean(losses), 4),
        "time_share": round(seconds / statistics.mean(each[2] for each in plain), 2),
        "versions": versions(),
    }


if __name__ == "__main__":
    main()
