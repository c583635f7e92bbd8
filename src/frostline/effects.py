"""Which settings have an effect in which kind of training; what is asked for in vain is said, never passed over in silence."""

from __future__ import annotations

from frostline.config import Settings
from frostline.models.heads import HEADS
from frostline.progress import say
from frostline.recipes import RECIPES

#: Of what is trained step by step.
_STEPWISE = (
    *("epochs", "batch_size", "accumulate", "optimizer", "lr", "find_lr", "momentum", "weight_decay", "schedule", "warmup_epochs"),
    *("clip", "loss", "focal_gamma", "label_smoothing", "mixup", "cutmix", "ema", "soup", "compile", "monitor", "patience"),
    *("skip_easy", "skip_easy_from", "rates", "freezeout", "dropout_share", "head_lr", "head_epochs"),
)
#: Of what trains above a frost line.
_ABOVE = ("cached_views", "drop_activations", "noise", "crop_from", "layer_decay", "train_batchnorm", "announce")
_LINEAR = ("power", "l2")
#: By the kind of training, the settings that it has no use for. Those that name another kind of network are errors elsewhere.
_WITHOUT: dict[str, tuple[str, ...]] = {
    "fitted": (*_STEPWISE, *_ABOVE),
    "dense": (*_ABOVE, *_LINEAR, "rates", "freezeout", "cutmix"),
    "cached": ("power",),
    "live": ("power", "cached_views", "feature_dtype"),
    "scratch": (*_ABOVE, *_LINEAR, "feature_dtype", "excuse", "head_lr", "head_epochs"),
}
_CALLED = {
    "fitted": "A {head} head is fitted, not trained",
    "dense": "A {head} head on frozen features",
    "cached": "Training above the frost line, from activations that are kept",
    "live": "Training above the frost line, from pixels that change",
    "scratch": "Training from random weights",
}


def kind_of_training(settings: Settings) -> str:
    """One of "scratch"; "fitted" and "dense", heads on frozen features; "cached" and "live", training above a frost line."""
    if settings.kind == "scratch":
        return "scratch"
    if settings.train_from == "head":
        return "dense" if settings.head in HEADS else "fitted"
    return "live" if settings.changes_pixels else "cached"


def without_effect(settings: Settings) -> list[str]:
    """Names of the settings that were changed and that this kind of training has no use for."""
    kind, plain = kind_of_training(settings), Settings()
    given = RECIPES[settings.recipe]() if settings.recipe in RECIPES else plain
    unused = [*_WITHOUT[kind]]
    if kind in ("cached", "live"):
        unused += ["l2"] if settings.head in HEADS else ["head_lr", "head_epochs"]
    return [name for name in unused if getattr(settings, name) not in (getattr(plain, name), getattr(given, name))]


def say_without_effect(settings: Settings, images: int) -> None:
    """Name on screen what was asked for in vain, and what of the recipe goes with it, for so many training images."""
    stepwise = kind_of_training(settings) != "fitted"
    if stepwise and settings.skip_easy and not settings.left_out(images):
        say(
            f"Every epoch shows all {images:,} images: skip_easy={settings.skip_easy:g} is for {settings.skip_easy_from:,} or more."
        )
    if stepwise and (own := RECIPES.get(settings.recipe)) and own().skip_easy and not settings.skip_easy:
        say(f"Every epoch shows all images: skip_easy={own().skip_easy:g} of the recipe is off.", "yellow")
    if unused := without_effect(settings):
        say(f"{_CALLED[kind_of_training(settings)].format(head=settings.head)}: {', '.join(unused)} without effect.", "yellow")
