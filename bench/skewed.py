"""What balancing does where classes are rare: CIFAR-10 with one tenth of its cats and dogs kept, in training and validation.

    python bench/skewed.py --data cifar10:FOLDER --weights-root FOLDER [--seeds 5]

MobileNetV2 frozen at 160; a logistic head and a dense head trained by the loop, each plain, with a balanced loss and, for the dense
head, with balanced sampling and with the focal loss. Test is as balanced as it ever was. Every seed keeps other cats and dogs; the
difference of macro F1 to the plain head of the same seed is averaged over seeds, with Student's 95 % interval.
Rows go to results/skewed.csv.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import append_rows
from inputs import versions

from frostline.data.imageset import ImageSet, Splits
from frostline.experiment import load_data, train
from frostline.recipes import recipe
from frostline.repeat import spread

RARE, KEPT = ("cat", "dog"), 0.1
HEADS: dict[str, dict[str, Any]] = {
    "logistic": {"head": "logistic"},
    "dense-d": {"head": "dense-d", "epochs": 8, "optimizer": "adamw", "schedule": "one-cycle", "lr": 1e-3},
}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "balanced loss": {"balance": "loss"},
    "balanced sampling": {"balance": "sampling"},
    "focal loss": {"loss": "focal"},
}
#: For logistic regression, which sees all rows at once, drawing more often is weighting, and there is no focal loss.
TRIED = {"logistic": ("plain", "balanced loss"), "dense-d": tuple(WAYS)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights-root", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    weights = str(asked.weights_root / "mobilenetv2_100.imagenet")
    found: dict[tuple[str, str], list[float]] = {}
    rare: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(asked.seeds):
            splits = skewed(load_data(asked.data), seed)
            for head, ways in TRIED.items():
                for way in ways:
                    settings = recipe("mobilenetv2-frozen").with_values(weights=weights, seed=seed, **HEADS[head], **WAYS[way])
                    run = train(splits, settings, Path(scratch) / f"{head}-{way}-{seed}")
                    scores = run.scores("test")
                    found.setdefault((head, way), []).append(scores["macro"]["f1"])
                    f1 = [row["f1"] for row in scores["per_class"] if row["class"] in RARE]
                    rare.setdefault((head, way), []).append(float(np.mean(f1)))
                    print(f"seed {seed} {head} {way}: macro F1 {scores['macro']['f1']:.4f}", flush=True)
    rows = [row(head, way, values, found[head, "plain"], rare[head, way]) for (head, way), values in found.items()]
    for each in rows:
        print(each)
    print(f"rows appended to {append_rows('skewed', rows)}")


def skewed(splits: Splits, seed: int) -> Splits:
    """The same with a tenth of the rare classes' training and validation images, drawn by ``seed``."""
    return dataclasses.replace(splits, train=kept(splits.train, seed), validation=kept(splits.validation, seed))


def kept(images: ImageSet, seed: int) -> ImageSet:
    rng, numbers = np.random.default_rng([seed, len(images)]), [images.classes.index(name) for name in RARE]
    chances = np.where(np.isin(images.labels, numbers), KEPT, 1.0)
    return images.take(np.flatnonzero(rng.random(len(images)) < chances))


def row(head: str, way: str, values: list[float], plain: list[float], rare: list[float]) -> dict[str, Any]:
    gain = spread([a - b for a, b in zip(values, plain, strict=True)])
    return {
        "head": head,
        "way": way,
        "n": len(values),
        "macro_f1": round(float(np.mean(values)), 4),
        "cat_and_dog_f1": round(float(np.mean(rare)), 4),
        "gain": round(gain["mean"], 4),
        "low": round(gain["interval"][0], 4),
        "high": round(gain["interval"][1], 4),
        "versions": versions(),
    }


if __name__ == "__main__":
    main()
