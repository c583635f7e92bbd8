"""Finished runs as training leaves them, drawn instead of trained: in milliseconds, for the tests of what is made of records."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from frostline.abstaining import thresholds
from frostline.calibrate import apply_temperature
from frostline.config import Settings
from frostline.conformal import promised
from frostline.data.imageset import UNKNOWN, ImageSet
from frostline.files import digest_file
from frostline.metrics import score
from frostline.paired import paired
from frostline.picked import described, least_certain_hits, most_confident_mistakes
from frostline.predictions import Predictions
from frostline.runs import Run

CLASSES = ("cat", "dog & <b>wolf</b>", "eel|x", "owl")
WEIGHTS = {
    "backbone.network.conv1.weight": (8, 3, 3, 3),
    "backbone.network.bn1.weight": (8,),
    "backbone.network.bn1.running_mean": (8,),
    "backbone.network.layer1.0.conv1.weight": (8, 8, 3, 3),
    "backbone.network.layer2.0.conv1.weight": (16, 8, 3, 3),
    "head.weight": (4, 16),
    "head.bias": (4,),
}
PARAMETERS = 216 + 8 + 576 + 1152 + 68


def judged(split: str, n: int, skill: float, seed: int, temperature: float = 1.4) -> Predictions:
    """Predictions of n images; the higher the skill, the more are right. The same images whatever the skill."""
    labels = np.arange(n, dtype=np.int64) % len(CLASSES)
    logits = np.random.default_rng([7, n, seed]).normal(0, 1, (n, len(CLASSES)))
    logits[np.arange(n), labels] += skill
    probabilities = apply_temperature(logits, temperature).astype(np.float32)
    digests = np.array([f"{split}{i:04}".encode() for i in range(n)], dtype="S16")
    return Predictions(np.array([f"{split}/{i:04}.png" for i in range(n)]), labels, probabilities, CLASSES, digests)


def counted(p: Predictions) -> dict[str, Any]:
    counts = np.bincount(p.labels, minlength=len(CLASSES)).tolist()
    return {"images": len(p), "classes": dict(zip(CLASSES, counts, strict=True))}


def fingerprint(p: Predictions) -> str:
    return ImageSet("test", p.classes, p.labels, p.ids, p.digests, pixels=np.zeros((len(p), 1, 1, 3), np.uint8)).fingerprint


def finished_run(folder: Path, skill: float = 3.0, *, seed: int = 0, n: int = 120, staged: bool = False, test: bool = True) -> Path:
    """A run directory; with ``staged`` an earlier stage, without ``test`` no test split."""
    validation, judged_test = judged("validation", 80, skill, seed), judged("test", n, skill, seed)
    splits = {"validation": validation, **({"test": judged_test} if test else {})}
    if staged:
        splits["test-head"], splits["validation-head"] = (
            judged("test", n, skill - 1, seed),
            judged("validation", 80, skill - 1, seed),
        )
    trained = PARAMETERS if not staged else 1152 + 68
    with Run.create(folder) as run:
        run.write_settings(Settings(recipe=f"{folder.name}-recipe", kind="frozen" if staged else "scratch", seed=seed))
        run.write_environment(
            {"frostline": "0.1.0", "python": "3.11.7", "packages": {"numpy": "2.4.6"}, "cpu": {"model": "drawn", "cores": 2}}
        )
        counts = {
            "train": counted(judged("train", 400, 1, seed)),
            **{name: counted(splits[name]) for name in splits if "-" not in name},
        }
        data = {"source": "animals", "published": "", "found": 603, "rejected": 3, "counts": counts, "notes": ["a note"]}
        cut = {name: {"from": "train", "images": len(p), "wanted": len(p), "seed": seed} for name, p in splits.items()}
        data["cut"] = {name: row for name, row in cut.items() if "-" not in name}
        run.write_data(data | {"fingerprints": {name: fingerprint(splits[name]) for name in splits if "-" not in name}})
        for epoch in (1, 2, 3):
            accuracy = 0.3 * epoch
            run.add_history(
                {
                    "epoch": epoch,
                    "train_loss": 2.0 / epoch,
                    "train_accuracy": accuracy,
                    "validation_loss": 2.2 / epoch,
                    "validation_accuracy": accuracy,
                    "elapsed": 10.0 * epoch,
                }
            )
        with run.timing("fit"):
            pass
        for name, predictions in splits.items():
            run.write_predictions(name, predictions)
            run.write_scores(name, score(predictions))
        run.model_folder.mkdir()
        save_file({name: np.ones(shape, np.float32) for name, shape in WEIGHTS.items()}, run.model_folder / "weights.safetensors")
        card = {
            "name": f"{folder.name}-recipe",
            "classes": list(CLASSES),
            "preprocess": {
                "size": [48, 48],
                "stored": [24, 24],
                "fit": "squash",
                "kernel": "bicubic",
                "mean": [0.5] * 3,
                "std": [0.25] * 3,
            },
            "views": 2,
            "temperature": 1.4,
            "precision": "f32",
            "architecture": {
                "kind": "finetune" if staged else "scratch",
                "backbone": "timm:drawn",
                "weights": "drawn.one (cc0-1.0)",
                "features": 16,
                "parameters": PARAMETERS,
                "trainable_parameters": trained,
            },
            "training": {"validation_images": 80, "validation_accuracy": 0.6, "validation_loss": 1.1},
        }
        (run.model_folder / "model.json").write_text(json.dumps({**card, "digest": "0123456789abcdef"}))
        run.finish(_record(splits, trained))
    return folder


def gallery(run: Path, out: Path, split: str = "test", count: int = 4) -> Path:
    """A folder as ``frostline explain --gallery`` leaves it, with grey pictures."""
    opened = Run.open(run)
    p = opened.predictions(split)
    picked = {"mistakes": most_confident_mistakes(p, count), "hits": least_certain_hits(p, count)}
    record: dict[str, Any] = {"run": opened.name, "split": split, "n": len(p), "wrong": int((~p.correct).sum())}
    record |= {"predictions": opened.manifest["files"][f"predictions/{split}.npz"], "pictures": {}}
    out.mkdir(parents=True)
    for shade, (name, rows) in enumerate(picked.items()):
        record[name] = described(rows, p)
        if len(rows):
            path = out / f"{name}.png"
            Image.fromarray(np.full((30, 60, 3), 100 + 50 * shade, np.uint8)).save(path)
            record["pictures"][path.name] = digest_file(path)
    (out / "galleries.json").write_text(json.dumps(record))
    return out


def _record(splits: dict[str, Predictions], trained: int) -> dict[str, Any]:
    record: dict[str, Any] = {
        "parameters": PARAMETERS,
        "trainable_parameters": trained,
        "training_seconds": 33.0,
        "model_digest": "0123456789abcdef",
        "test_accuracy": None,
        "ended": "all 3 epochs were run",
    }
    record["speed"] = {
        "latency_ms": 1.5,
        "latency_n": 100,
        "images_per_second": 900.0,
        "batch": 16,
        "threads": 2,
        "precision": "f32",
        "size": [24, 24],
    }
    if (test := splits.get("test")) is not None:
        record["test_accuracy"] = float(test.correct.mean())
        record["abstaining"], record["label_sets"] = thresholds(splits["validation"], test), promised(splits["validation"], test)
        if (head := splits.get("test-head")) is not None:
            both = paired("finished", test, "head", head)
            record["stages"] = {
                "head": {"test_accuracy": float(head.correct.mean()), **{key: both[key] for key in ("difference", "p", "n")}}
            }
    return record


def kept_run(folder: Path, whole: Path, *splits: str, unknown: bool = False) -> Path:
    """A run that keeps nothing but predictions of these splits of another; ``unknown``: of test images that no class is true of."""
    with Run.create(folder) as run:
        for split in splits:
            p = Run.open(whole).predictions(split)
            lost = unknown and split == "test"
            run.write_predictions(split, replace(p, labels=np.full(len(p), UNKNOWN)) if lost else p)
        run.finish({})
    return folder
