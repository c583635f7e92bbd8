"""The scratch path: images of one stored size, the one loop, and a graph of the network with its best weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from frostline import engine
from frostline.calibrate import apply_temperature, recorded_temperature
from frostline.checkpoints import Checkpoints, training_identity
from frostline.config import Settings
from frostline.convert import checked_features, convert_head, convert_network
from frostline.data.augment import make_augmentations
from frostline.data.batches import ArrayBatches, growing
from frostline.data.imageset import ImageSet, Splits
from frostline.data.mixtures import mixtures_alone, with_mixtures
from frostline.data.reading import stored_pixels
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.feature_cache import raw
from frostline.loop import fit, predict_log_probs
from frostline.models.cnn import WithMap, make_network
from frostline.models.device import pick_device
from frostline.models.fast import begin_from
from frostline.optim import parameter_groups
from frostline.preprocess import Preprocess
from frostline.progress import say
from frostline.runs import Run
from frostline.stopping import StopRule
from frostline.teacher import open_teacher
from frostline.trained import Trained, judged_by_graph

#: Images, or views of them, that are judged at once.
JUDGED = 500
#: Batches that shrink for the sake of ``least_steps`` keep so many images (measured: docs/log.md).
FEWEST = 64
#: Pixels that these batches have at most: 256 images of 64×64, a step of ``fast-small`` on which takes 1.2 GiB in bf16.
MOST_PIXELS = 2**20
#: Numbers that are counted at once for the images' mean and deviation.
COUNTED = 2**22
#: Side to which photos are reduced for a network that is trained from scratch.
PHOTOS = 64


def train_scratch(splits: Splits, settings: Settings, run: Run, stop: StopRule) -> Trained:
    """Train a network from random weights; arguments as in ``train_frozen``."""
    precision = _precision_of_the_graph(settings)  # what cannot be saved should not be trained first
    teacher = open_teacher(settings, splits)
    settings, notes = _fitting(settings, _stored(splits, settings))
    with run.timing("read"):
        preprocess, batches, judging, served = _read(splits, settings)
    settings = settings.with_values(accumulate=parts(batches.batch_size, settings))
    network = make_network(settings.network, len(splits.classes), preprocess.stored, settings.seed)
    _check_sizes(network, batches.sizes, settings)
    begin_from(network, batches.sample)
    with run.timing("compile"):  # the same
        body = WithMap(network.body.eval())
        checked_features(convert_network(body, preprocess), body, preprocess, drawn_images(engine.BATCH, *preprocess.stored))
    kept = Checkpoints(run.checkpoints_folder, training_identity(settings, splits, teacher=teacher.digest if teacher else ""))
    if teacher:
        kept.check()
        with run.timing("teacher"):
            mixed = mixtures(splits, settings, batches.images.cpu().numpy())
            if (answers := teacher.answers(splits.train, stop, mixed)) is None:
                raise teacher.unfinished(stop)
        batches.learn_from(answers)
    with run.timing("fit"):
        groups = parameter_groups(network, settings)
        fitted = fit(
            network, batches, judging, settings=settings, stop=stop, on_epoch=run.add_history, parameters=groups, checkpoints=kept
        )
        log_p = predict_log_probs(network, served, settings)
    calibrated = recorded_temperature(log_p, splits.validation.labels)
    temperature = calibrated["temperature"]
    with run.timing("compile"):
        network = network.cpu().eval()
        body = engine.with_views(convert_network(WithMap(network.body), preprocess), settings.views)
        graph = engine.join(body, convert_head(network.head, _width(network), temperature))
    return Trained(
        graph=graph,
        weights={name: value.detach().numpy() for name, value in network.state_dict().items()},
        preprocess=preprocess,
        views=settings.views,
        temperature=temperature,
        precision=precision,
        architecture=_architecture(network, settings),
        validation=(np.arange(len(splits.validation)), apply_temperature(log_p, temperature)),
        seen={raw(digest) for images in (splits.train, splits.validation) for digest in images.digests}
        | (teacher.seen if teacher else set()),
        record={
            **fitted.record(),
            **({"teacher": teacher.record} if teacher else {}),
            **({"notes": notes} if notes else {}),
            "train_images": len(splits.train),
            "batch_size": batches.batch_size,
            "accumulate": settings.accumulate,
            "validation_images": len(splits.validation),
            **calibrated,
        },
        judge=judged_by_graph(preprocess),
    )


def _precision_of_the_graph(settings: Settings) -> str:
    """In which the saved graph is to be computed: as training, or where a GPU trains in its own, what suits this processor."""
    return engine.resolve_precision(settings.precision if pick_device(settings.device).type == "cpu" else "auto")


def _stored(splits: Splits, settings: Settings) -> tuple[int, int]:
    """(H, W) of the images as the network sees them in the end."""
    return splits.train.size or (settings.image_size or PHOTOS,) * 2


def _fitting(settings: Settings, size: tuple[int, int]) -> tuple[Settings, list[str]]:
    """The settings with squares covered and shifts that leave something to see of images of this size, and what was changed.

    Recipes name pixels of 32×32: a square of 12 would cover most of a digit of 8×8.
    """
    notes, side = [], min(size)
    for name, most in (("cutout", side // 2), ("shift", side // 4)):
        if getattr(settings, name) > most:
            notes.append(f"{name}={most} instead of {getattr(settings, name)}, for images of {size[0]}×{size[1]}")
            settings = settings.with_values(**{name: most})
    for note in notes:
        say(f"{note}.", "yellow")
    return settings, notes


def mixtures(splits: Splits, settings: Settings, mixed: NDArray[np.uint8] | None = None) -> ImageSet | None:
    """The mixtures of training images of which a teacher is to be asked, as the network will see them; None without any.

    ``mixed``: what ``with_mixtures`` gives of them, where it is at hand.
    """
    if not settings.teacher_mixtures:
        return None
    if mixed is None:
        stored = _stored(splits, settings)
        images = stored_pixels(splits.train, Preprocess(size=stored, stored=stored, fit=settings.fit))
        mixed = with_mixtures(images, settings.teacher_mixtures, settings.seed)
    return mixtures_alone(splits.train, mixed)


def _read(splits: Splits, settings: Settings) -> tuple[Preprocess, ArrayBatches, ArrayBatches, ArrayBatches]:
    """What stands in front of the network, and the batches of training and of validation: by one view, and as it will be served.

    Epochs are told apart by the image's own view: six views of 5,000 images would cost as much as a third of an epoch each time.
    """
    if splits.train.size and settings.image_size and splits.train.size != (settings.image_size,) * 2:
        height, width = splits.train.size
        say(f"image_size={settings.image_size} is for photos: these images of {height}×{width} are taken as they are.", "yellow")
    stored = _stored(splits, settings)
    plain = Preprocess(size=stored, stored=stored, fit=settings.fit)
    train, validation = (stored_pixels(images, plain) for images in (splits.train, splits.validation))
    mean, std = _statistics(train)
    common: dict[str, Any] = {"mean": mean, "std": std, "device": pick_device(settings.device)}
    batches = ArrayBatches(
        with_mixtures(train, settings.teacher_mixtures, settings.seed),
        splits.train.labels,
        batch_size(len(train), stored, settings),
        seed=settings.seed,
        shuffle=True,
        balanced=settings.balance == "sampling",
        augmentations=make_augmentations(settings, mean),
        alternate=settings.alternate,
        sizes=growing(stored, settings.grow_from, settings.growth) if settings.grow_from else (),
        versions=1 + settings.teacher_mixtures,
        **common,
    ).leave_out(settings.left_out(len(train)))
    judging, served = (
        ArrayBatches(validation, splits.validation.labels, JUDGED // views, views=views, **common) for views in (1, settings.views)
    )
    return Preprocess(size=stored, stored=stored, fit=settings.fit, mean=mean, std=std), batches, judging, served


def batch_size(images: int, size: tuple[int, int], settings: Settings) -> int:
    """Images of ``size`` (H, W) in a batch of training: the settings', or fewer where ``least_steps`` is set.

    Fewer, where so few ``images`` would give less than ``least_steps`` steps or where a batch would have more than ``MOST_PIXELS``.
    Batches do not shrink below ``FEWEST``: a step of Muon is as long however few images it comes from, and goes astray.
    """
    if not settings.least_steps:
        return settings.batch_size
    return min(settings.batch_size, max(FEWEST, min(images // settings.least_steps, MOST_PIXELS // (size[0] * size[1]))))


def parts(batch: int, settings: Settings) -> int:
    """Parts of a batch of so many images: the settings', or fewer where small batches would give parts under ``FEWEST``."""
    return max(1, min(settings.accumulate, batch // FEWEST)) if settings.least_steps else settings.accumulate


def _check_sizes(network: nn.Module, sizes: Sequence[tuple[int, int]], settings: Settings) -> None:
    """Whether the network takes images of every size that training will show it."""
    network.eval()
    for size in sizes:
        try:
            with torch.inference_mode():
                network(torch.zeros(1, 3, *size))
        except RuntimeError as error:
            raise UserError(
                f"The network {settings.network} takes images of one size only.",
                expected="grow_from=0",
                received=f"images of {size[0]}×{size[1]} too, by grow_from={settings.grow_from}",
                hint="--set network=fast-small",
            ) from error


def _statistics(pixels: NDArray[np.uint8]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation per channel of pixel values in [0, 1], from histograms: exact and in little memory."""
    mean, std = [], []
    rows = max(1, COUNTED // max(1, pixels[0].size))
    for channel in range(3):
        counts = np.zeros(256, np.int64)
        for start in range(0, len(pixels), rows):  # NumPy counts 64-bit copies of what it is given
            counts += np.bincount(pixels[start : start + rows, ..., channel].ravel(), minlength=256)
        values = np.arange(256) / 255
        centre = float((counts * values).sum() / counts.sum())
        mean.append(round(centre, 4))
        std.append(round(max(float(np.sqrt((counts * (values - centre) ** 2).sum() / counts.sum())), 1e-3), 4))
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _architecture(network: nn.Module, settings: Settings) -> dict[str, Any]:
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    return {
        "kind": "scratch",
        "network": settings.network,
        "weights": "trained here from random weights",
        "features": _width(network),
        "parameters": sum(count for count, _ in counts),
        "trainable_parameters": sum(count for count, trains in counts if trains),
    }


def _width(network: Any) -> int:
    return int(network.head.in_features)
