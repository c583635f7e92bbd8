"""The frozen path: features through the cache until all are seen or it is enough, a head on them, and one graph of both."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from frostline import engine
from frostline.anytime import Extracted, FeatureTable, extract_splits, more_images
from frostline.calibrate import apply_temperature
from frostline.config import Settings
from frostline.convert import convert_head
from frostline.data.imageset import ImageSet, Splits
from frostline.errors import UserError
from frostline.feature_cache import FeatureCache, FeatureOverflowError, from_stored, in_storage_type, raw
from frostline.frozen import Frozen, converted, freeze
from frostline.heads import FittedHead, fit_head
from frostline.inside import check_splits_unseen, seen_by
from frostline.models.heads import make_head
from frostline.progress import say, stage
from frostline.runs import Run
from frostline.stopping import StopRule
from frostline.teacher import find_teacher
from frostline.trained import Trained


def _say_counts(frozen: Frozen, settings: Settings, classes: int) -> None:
    """What is frozen and what is fitted."""
    if settings.head.startswith("dense"):
        head = sum(parameter.numel() for parameter in make_head(settings.head, frozen.width, classes).parameters())
    else:
        head = (frozen.width + 1) * classes
    name, frozen_ones = frozen.loaded.name, frozen.loaded.parameters
    say(f"{name}: {frozen_ones:,} parameters, all frozen; {head:,} of the {settings.head} head are fitted.")


def train_frozen(splits: Splits, settings: Settings, run: Run, stop: StopRule) -> Trained:
    """Train a head on a frozen backbone's features.

    Args:
        splits: test is not touched.
        settings: backbone, weights, views, head, …
        run: takes up timings and history.
        stop: ends extraction (and a dense head's training) early.
    """
    if settings.changes_pixels:
        raise UserError(
            "With everything frozen, features are made once, from images as they are: pixels cannot change every epoch.",
            received="mirror, shift, cutout or augment",
            hint="--train-from and a block; or --views 2 for mirror images",
        )
    find_teacher(settings, splits)  # a head on features has none: the error says so
    check_splits_unseen(splits, settings.backbone)
    with run.timing("compile"):
        frozen = freeze(settings, splits.train.size)
    for note in frozen.notes:
        say(note)
    _say_counts(frozen, settings, len(splits.classes))
    with run.timing("features"):
        dtype, caches, found = extracted(frozen, splits, settings, run, stop)
    if found.reason:
        say(f"Extraction ended early: {found.reason}; {found.train.count:,} of {len(splits.train):,} training images were seen.")
    say(more_images(found.curve))
    labels, judged = splits.train.labels[found.train.seen], splits.validation.labels[found.validation.seen]
    with run.timing("fit"):
        # a rule that has ended extraction has done its work: it does not end a dense head's training as well
        rule = StopRule(started=stop.started) if stop.reason else stop
        head = fit_head(found, labels, judged, settings, rule, run.add_history, splits.train.labels)
    with run.timing("join"):
        graph, precision = _joined(frozen, head, settings)
    seen = [splits.train.digests[found.train.seen], splits.validation.digests[found.validation.seen]]
    record = {
        **head.record,
        "train_images": found.train.count,
        "validation_images": found.validation.count,
        "feature_dtype": dtype,
        "ended": found.reason or "all images were seen",
        "learning_curve": found.curve,
        "more_images": more_images(found.curve),
        "notes": frozen.notes,
    }
    probabilities, notes = apply_temperature(head.validation, head.temperature), list[str]()
    return Trained(
        graph=graph,
        weights=_weights(frozen.loaded.network, head.module),
        preprocess=frozen.preprocess,
        views=settings.views,
        temperature=head.temperature,
        precision=precision,
        architecture=_architecture(frozen, head, settings),
        validation=(found.validation.seen.copy(), probabilities),
        seen={raw(digest) for digests in seen for digest in digests} | seen_by(settings.backbone),
        record=record,
        judge=lambda saved, images: _judged(saved, images, frozen, caches, notes),
        notes=notes,
    )


def extracted(
    frozen: Frozen, splits: Splits, settings: Settings, run: Run, stop: StopRule
) -> tuple[str, list[FeatureCache], Extracted]:
    """Features through the cache, in float16, or in bfloat16 where a value is too large for it.

    Returns:
        the storage type, the cache of each view, and what was extracted.
    """
    return in_storage_type(settings.feature_dtype, lambda dtype: _extracted_as(dtype, frozen, splits, settings, run, stop))


def _extracted_as(
    dtype: str, frozen: Frozen, splits: Splits, settings: Settings, run: Run, stop: StopRule
) -> tuple[str, list[FeatureCache], Extracted]:
    caches = frozen.caches(range(settings.views), dtype)

    def table(rows: int) -> FeatureTable:
        return FeatureTable(rows, settings.views, frozen.width, dtype)

    def extract(images: ImageSet, rows: NDArray[np.int64]) -> Any:
        return frozen.extract(images, rows, caches)

    def on_point(point: dict[str, Any]) -> None:
        run.add_history({"stage": "features", **point})

    return dtype, caches, extract_splits(splits, extract, table, frozen.width, settings.seed, stop, on_point, settings.power)


def _joined(frozen: Frozen, head: FittedHead, settings: Settings) -> tuple[Any, str]:
    """Body, views and head as one graph, and the precision it is to be run in."""
    network, precision = frozen.graph, frozen.precision
    if network is None:  # torch gave the features; the saved model is compiled for a processor all the same
        precision = engine.resolve_precision("auto")
        try:
            network = converted(frozen.loaded.network, frozen.preprocess, precision)[0]
        except RuntimeError as error:
            say(
                f"The saved model has no compiled graph and will need torch to predict: {str(error).splitlines()[0][:160]}",
                "yellow",
            )
            return None, "f32"
    return engine.join(
        engine.with_views(network, settings.views), convert_head(head.module, frozen.width, head.temperature)
    ), precision


def _weights(network: nn.Module, head: nn.Module) -> dict[str, NDArray[Any]]:
    named = {f"backbone.{name}": value for name, value in network.state_dict().items()}
    named |= {f"head.{name}": value for name, value in head.state_dict().items()}
    return {name: value.detach().cpu().numpy() for name, value in named.items()}


def _architecture(frozen: Frozen, head: FittedHead, settings: Settings) -> dict[str, Any]:
    trained = sum(parameter.numel() for parameter in head.module.parameters())
    return {
        "kind": "frozen",
        "backbone": frozen.loaded.name,
        "weights": frozen.loaded.origin,
        "weights_digest": frozen.loaded.digest,
        "model_args": frozen.loaded.model_args,
        "head": settings.head,
        "power": head.record.get("power", 1.0),
        "features": frozen.width,
        "parameters": frozen.loaded.parameters + trained,
        "trainable_parameters": trained,
        "exact_layers": frozen.exact_layers,
    }


def _judged(saved: Any, images: ImageSet, frozen: Frozen, caches: list[FeatureCache], notes: list[str]) -> NDArray[np.float32]:
    """Probabilities (N, K) by way of the cache; where an image's feature is too large for it, by way of one in float32.

    The head is trained by now, and whether it can be judged must not depend on how features are stored.
    """
    try:
        return _judged_by(saved, images, frozen, caches)
    except FeatureOverflowError:
        notes.append(
            f"A feature of {images.name} is too large for float16: all of {images.name} was judged by features in float32."
        )
        say(notes[-1], "yellow")
        return _judged_by(saved, images, frozen, frozen.caches(range(len(caches)), "float32"))


def _judged_by(saved: Any, images: ImageSet, frozen: Frozen, caches: list[FeatureCache]) -> NDArray[np.float32]:
    parts = []
    with stage(f"predict {images.name}", len(images)) as bar:
        for block in frozen.extract(images, np.arange(len(images)), caches):
            features = from_stored(block.features, caches[0].dtype)
            parts.append(saved.head.features(features))
            bar.advance(len(block.rows))
    return np.concatenate(parts)
