"""What ``frostline tune`` can search, from where to where, and what it searches where nothing is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from frostline.config import Settings
from frostline.errors import UserError

#: What can be searched, and how a trial draws it. The rates are searched around the recipe's own.
SPACES: dict[str, Callable[[Any, Settings], Any]] = {
    "lr": lambda trial, s: trial.suggest_float("lr", s.lr / 10, s.lr * 10, log=True),
    "weight_decay": lambda trial, s: trial.suggest_float("weight_decay", 1e-5, 0.3, log=True),
    "label_smoothing": lambda trial, s: trial.suggest_float("label_smoothing", 0.0, 0.2),
    "epochs": lambda trial, s: trial.suggest_int("epochs", max(1, s.epochs // 2), 2 * s.epochs),
    "batch_size": lambda trial, s: trial.suggest_categorical("batch_size", [32, 64, 128, 256]),
    "optimizer": lambda trial, s: trial.suggest_categorical("optimizer", ["adam", "adamw", "sgd"]),
    "schedule": lambda trial, s: trial.suggest_categorical("schedule", ["constant", "cosine", "one-cycle", "linear"]),
    "mixup": lambda trial, s: trial.suggest_float("mixup", 0.0, 0.5),
    "cutmix": lambda trial, s: trial.suggest_float("cutmix", 0.0, 1.0),
    "layer_decay": lambda trial, s: trial.suggest_float("layer_decay", 0.6, 1.0),
    "ema": lambda trial, s: trial.suggest_categorical("ema", [0.0, 0.99, 0.999]),
    "clip": lambda trial, s: trial.suggest_categorical("clip", [0.0, 1.0]),
    "dropout_share": lambda trial, s: trial.suggest_float("dropout_share", 0.0, 1.0),
    "shift": lambda trial, s: trial.suggest_int("shift", 0, 4),
    "cutout": lambda trial, s: trial.suggest_categorical("cutout", [0, 4, 8]),
    "augment": lambda trial, s: trial.suggest_categorical("augment", ["", "mirror", "mirror,contrast,gamma", "mirror,trivial"]),
    "cached_views": lambda trial, s: trial.suggest_categorical("cached_views", [2, 4, 6]),
    "head": lambda trial, s: trial.suggest_categorical("head", ["logistic", "dense-a", "dense-b", "dense-c", "dense-d"]),
    "power": lambda trial, s: trial.suggest_float("power", 0.4, 1.0),
    "views": lambda trial, s: trial.suggest_categorical("views", [1, 2]),
}
#: What a kind of training is not chosen by: from scratch the loop validates by one view whatever is served.
WITHOUT = {"scratch": ("views", "cached_views", "head", "power", "layer_decay")}
#: What is searched where nothing is named.
USUAL = {
    "scratch": ("lr", "weight_decay", "label_smoothing", "shift", "cutout"),
    "head": ("head", "lr", "weight_decay", "power"),
    "finetune": ("lr", "weight_decay", "label_smoothing", "mixup", "layer_decay"),
}
#: What leaves no image a loss of its own, so that easy ones cannot be left out; not searched unasked where they are.
MIXING = {"mixup", "cutmix"}


def searched_names(settings: Settings, names: list[str], cuts: list[str]) -> list[str]:
    """What is searched: these names, or the usual ones for this kind of training that go with these settings.

    Raises:
        UserError: a name that cannot be searched.
    """
    kind = "scratch" if settings.kind == "scratch" else "head" if settings.train_from == "head" and not cuts else "finetune"
    unfit = ({"label_smoothing"} if settings.teacher else set[str]()) | (MIXING if settings.skip_easy else set[str]())
    searched = names or [name for name in USUAL[kind] if name not in unfit]
    spaces = [name for name in SPACES if name not in WITHOUT.get(kind, ())]
    if unknown := sorted(set(searched) - set(spaces)):
        raise UserError("These settings cannot be searched.", expected=", ".join(spaces), received=", ".join(unknown))
    return searched
