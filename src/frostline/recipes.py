"""Named experiments. Each docstring gives the command, the minutes and the accuracy, with n and the 95 % interval, where measured.

All figures but those of digits: CIFAR-10, official training images, a fixed half of the test set (n = 5,000), two AVX-512 cores
with bf16, for fine-tuning Zen 5 cores; pretrained ones with the weights of Keras' applications (DenseNet169) and of Google
(MobileNetV2). The rows are in ``results/recipes.csv`` and ``results/finetuned.csv``. "Not measured": the weights were not at hand,
or nobody has run it yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from frostline.config import Settings
from frostline.errors import UserError, nearest

#: What the fine-tuning recipes share; ``announce`` is the best result that the sources state.
FINETUNE: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 3e-4,
    "weight_decay": 0.05,
    "schedule": "one-cycle",
    "label_smoothing": 0.1,
    "views": 2,
    "epochs": 5,
    "batch_size": 64,
    "announce": 0.9024,
}


def densenet169_frozen() -> Settings:
    """``frostline train cifar10 --recipe densenet169-frozen``: DenseNet169 at 128, logistic regression.

    6 minutes; 92.0 % (91.2 to 92.7, one seed); with ``--views 2`` 14 minutes, 92.4 % (91.6 to 93.1, one seed).
    """
    return Settings(backbone="densenet169")


def mobilenetv2_frozen() -> Settings:
    """``frostline train cifar10 --recipe mobilenetv2-frozen``: MobileNetV2 at 160, logistic regression.

    2 minutes; 88.3 % (87.4 to 89.1, one seed).
    """
    return Settings(backbone="mobilenetv2")


def resnet50_frozen() -> Settings:
    """``frostline train cifar10 --recipe resnet50-frozen``: ResNet50 at 128. Not measured."""
    return Settings(backbone="resnet50")


def resnet50v2_frozen() -> Settings:
    """``frostline train cifar10 --recipe resnet50v2-frozen``: ResNet50V2 at 128. Not measured."""
    return Settings(backbone="resnet50v2")


def efficientnetb0_frozen() -> Settings:
    """``frostline train cifar10 --recipe efficientnetb0-frozen``: EfficientNet-B0 at 160. Not measured."""
    return Settings(backbone="efficientnetb0")


def efficientnetb2_frozen() -> Settings:
    """``frostline train cifar10 --recipe efficientnetb2-frozen``: EfficientNet-B2 at 160. Not measured."""
    return Settings(backbone="efficientnetb2")


def efficientnetb4_frozen() -> Settings:
    """``frostline train cifar10 --recipe efficientnetb4-frozen``: EfficientNet-B4 at 160. Not measured."""
    return Settings(backbone="efficientnetb4")


def efficientnetv2s_frozen() -> Settings:
    """``frostline train cifar10 --recipe efficientnetv2s-frozen``: EfficientNetV2-S at 128. Not measured."""
    return Settings(backbone="efficientnetv2s")


def vgg16_frozen() -> Settings:
    """``frostline train cifar10 --recipe vgg16-frozen``: VGG16's convolutions at 128. Not measured."""
    return Settings(backbone="vgg16")


def cifar_fast_frozen() -> Settings:
    """``frostline train digits --recipe cifar-fast-frozen``: the network inside the package, for small images; no download.

    Seconds. Not for CIFAR-10, which it has seen.
    """
    return Settings(backbone="cifar-fast")


def cnn_small() -> Settings:
    """``frostline train cifar10 --recipe cnn-small``: source D's network from scratch.

    8 minutes with tests running beside; 84.7 % (83.6 to 85.6, one seed).
    """
    sgd: dict[str, Any] = {"optimizer": "sgd", "lr": 0.05, "schedule": "one-cycle", "weight_decay": 5e-4, "label_smoothing": 0.1}
    return Settings(kind="scratch", network="cnn-small", epochs=16, mirror=True, shift=2, views=2, **sgd)


#: Training images from which on recipes leave out easy ones. Of 500 and 2,000 that cost accuracy: docs/log.md.
SKIP_EASY_FROM = 10_000
#: What recipes from scratch share that learn by Muon, chosen on CIFAR-10's validation images: docs/log.md.
_BY_MUON: dict[str, Any] = {
    "kind": "scratch",
    "validation_max": 2000,
    "optimizer": "muon",
    "momentum": 0.6,
    "schedule": "linear",
    "least_steps": 48,
    "alternate": True,
    "views": 6,
}
#: What the fast recipes share (Jordan 2024, arXiv 2404.00498).
_FAST: dict[str, Any] = {
    **_BY_MUON,
    "network": "fast-small",
    "lr": 0.1,
    "batch_size": 500,
    "label_smoothing": 0.2,
    "accumulate": 2,
    "freezeout": ("body.0.bias=0.4",),  # the whitening's, as airbench has it: no gradient passes the first convolution then
    "grow_from": 20,
    "grow_share": 0.6,
    "shift": 2,
}


def cnn_vgg() -> Settings:
    """``frostline train cifar10 --recipe cnn-vgg``: source B's network from scratch by Muon, its dropout off: see docs/log.md.

    13 minutes; 92.0 % (91.2 to 92.7, one seed; six views).
    """
    settings = {**_BY_MUON, "lr": 0.07, "batch_size": 250, "label_smoothing": 0.1, "shift": 4}
    return Settings(network="cnn-vgg", epochs=40, dropout_share=0.0, **settings)


def cnn_digits() -> Settings:
    """``frostline train digits --recipe cnn-digits``: cnn-vgg for small signs that must not be mirrored; the demo's recipe.

    Taken for digits where no recipe is named. Less than a minute on one thread; 100 % (97.9 to 100, 180 images, one seed).
    """
    return Settings(kind="scratch", network="cnn-vgg", epochs=20, optimizer="adam", lr=1e-3, schedule="constant")


def fast_94() -> Settings:
    """``frostline train cifar10 --recipe fast-94``: whitening, Muon, alternating mirrors, and images that grow from 20 pixels.

    Taken where no recipe is named and no pretrained weights can be had. A quarter of the images is left out of each epoch, of
    those that are easy. 8 minutes; 94.0 % in the mean of two seeds: 93.9 %, and 94.2 % (93.5 to 94.8), by six views.
    """
    return Settings(**_FAST, epochs=13, skip_easy=0.25, skip_easy_from=SKIP_EASY_FROM)


def fast_95() -> Settings:
    """``frostline train cifar10 --recipe fast-95``: a wider network, trained for twice as long, squares of it covered.

    45 minutes on a machine that others used as well; 94.6 % (93.9 to 95.2, one seed; six views): not yet what its name says.
    """
    return Settings(**{**_FAST, "network": "fast-medium", "shift": 3}, epochs=20, cutout=8)


def fast_96() -> Settings:
    """``frostline train cifar10 --recipe fast-96``: a network twice as wide and deeper. Not measured."""
    return Settings(**{**_FAST, "network": "fast-large", "shift": 4}, epochs=40, cutout=12)


def mobilenetv2_finetune() -> Settings:
    """``frostline train cifar10 --recipe mobilenetv2-finetune``: MobileNetV2 at 160, trained from Keras' block_7 on.

    8 to 10 minutes; 95.8 % (seeds 0 to 2: 96.0, 95.8, 95.7), 95.4 % with the image's own view alone (95.4, 95.4, 95.4), where the
    F1 of cat and dog is .905 and .911. Shown all images in every epoch (``--set skip_easy=0``) it has 95.7 and 95.5 %, in 10 to 13.
    """
    # a rise longer than a quarter keeps the first epoch better than the head that it begins from
    settings = {**FINETUNE, "epochs": 7, "warmup_epochs": 2.5, "skip_easy": 0.4, "skip_easy_from": SKIP_EASY_FROM}
    return Settings(backbone="mobilenetv2", train_from="last:91", cached_views=3, **settings)


def densenet169_finetune() -> Settings:
    """``frostline train cifar10 --recipe densenet169-finetune``: DenseNet169 at 128, trained from its second dense block on.

    33 to 34 minutes, 42 in a slow hour; 96.7 % (seeds 0 and 1: 96.8, 96.6), 96.4 % with the image's own view alone (96.5, 96.3).
    """
    return Settings(backbone="densenet169", train_from="denseblock2", validation_max=2000, **{**FINETUNE, "epochs": 3})


def vgg16_block5() -> Settings:
    """``frostline train cifar10 --recipe vgg16-block5``: source C's: VGG16 at 128, its last block trained. Not measured.

    VGG16 has no BatchNorm to hold large steps, so its rate is a third of the others'. As the source has it:
    ``--set optimizer=sgd --set lr=1e-4 --set schedule=constant --set weight_decay=0 --set label_smoothing=0 --views 1 --set
    image_size=224 --set head=dense-c``; where the head has had a rate of its own: ``--set head_lr=1e-3``.
    """
    return Settings(backbone="vgg16", train_from="block5", **{**FINETUNE, "lr": 1e-4})


def resnet50_finetune() -> Settings:
    """``frostline train cifar10 --recipe resnet50-finetune``: ResNet50 at 128, trained from its last stage on. Not measured."""
    return Settings(backbone="resnet50", train_from="layer4", **FINETUNE)


def resnet50v2_finetune() -> Settings:
    """``frostline train cifar10 --recipe resnet50v2-finetune``: ResNet50V2 at 128, trained from Keras' conv5 on. Not measured."""
    return Settings(backbone="resnet50v2", train_from="conv5", **FINETUNE)


def efficientnetb0_finetune() -> Settings:
    """``frostline train cifar10 --recipe efficientnetb0-finetune``: EfficientNet-B0 at 160, from block6a on. Not measured."""
    return Settings(backbone="efficientnetb0", train_from="block6a", **{**FINETUNE, "epochs": 6})


def efficientnetb2_finetune() -> Settings:
    """``frostline train cifar10 --recipe efficientnetb2-finetune``: EfficientNet-B2 at 160, from block6a on. Not measured.

    With the source's head: ``--set head=dense-b``.
    """
    return Settings(backbone="efficientnetb2", train_from="block6a", **{**FINETUNE, "epochs": 6})


def efficientnetb4_finetune() -> Settings:
    """``frostline train cifar10 --recipe efficientnetb4-finetune``: EfficientNet-B4 at 160, from block6a on. Not measured."""
    return Settings(backbone="efficientnetb4", train_from="block6a", **{**FINETUNE, "epochs": 6})


def efficientnetv2s_finetune() -> Settings:
    """``frostline train cifar10 --recipe efficientnetv2s-finetune``: EfficientNetV2-S at 128, from block6a on. Not measured."""
    return Settings(backbone="efficientnetv2s", train_from="block6a", **FINETUNE)


RECIPES: dict[str, Callable[[], Settings]] = {
    "densenet169-frozen": densenet169_frozen,
    "mobilenetv2-frozen": mobilenetv2_frozen,
    "resnet50-frozen": resnet50_frozen,
    "resnet50v2-frozen": resnet50v2_frozen,
    "efficientnetb0-frozen": efficientnetb0_frozen,
    "efficientnetb2-frozen": efficientnetb2_frozen,
    "efficientnetb4-frozen": efficientnetb4_frozen,
    "efficientnetv2s-frozen": efficientnetv2s_frozen,
    "vgg16-frozen": vgg16_frozen,
    "cifar-fast-frozen": cifar_fast_frozen,
    "mobilenetv2-finetune": mobilenetv2_finetune,
    "densenet169-finetune": densenet169_finetune,
    "vgg16-block5": vgg16_block5,
    "resnet50-finetune": resnet50_finetune,
    "resnet50v2-finetune": resnet50v2_finetune,
    "efficientnetb0-finetune": efficientnetb0_finetune,
    "efficientnetb2-finetune": efficientnetb2_finetune,
    "efficientnetb4-finetune": efficientnetb4_finetune,
    "efficientnetv2s-finetune": efficientnetv2s_finetune,
    "cnn-small": cnn_small,
    "cnn-vgg": cnn_vgg,
    "cnn-digits": cnn_digits,
    "fast-94": fast_94,
    "fast-95": fast_95,
    "fast-96": fast_96,
}
#: Taken where no recipe is named: the frozen recipe that does best for its time, and the scratch recipe where there are no weights.
BEST_FROZEN, BEST_SCRATCH = "densenet169-frozen", "fast-94"


def recipe(name: str) -> Settings:
    """The settings of a recipe; an unknown name is a ``UserError`` with the nearest."""
    if name not in RECIPES:
        raise UserError(f"There is no recipe '{name}'.", received=name, hint=nearest(name, list(RECIPES)))
    return RECIPES[name]().with_values(recipe=name)


def model_name(settings: Settings) -> str:
    """What a model of these settings is called: by its recipe, and its network or backbone where that is not the recipe's own."""
    own = RECIPES.get(settings.recipe)
    part = "network" if settings.kind == "scratch" else "backbone"
    if own is None or (getattr(own(), part), own().kind) == (getattr(settings, part), settings.kind):
        return settings.recipe
    return f"{settings.recipe} with {getattr(settings, part)}"
