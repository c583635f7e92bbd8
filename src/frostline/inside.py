"""The classifier that ships in the package: CIFAR-10's ten classes, small enough for a mail, there without a download.

Its model directory holds every weight once: ``graph.bin`` in float16, or with filters in 8 bits and a float16 scale for each;
and in the card where in it each of the network's tensors lies, so that the same bytes predict without torch and serve as the
frozen backbone ``cifar-fast``. It computes in floats: 8 bits are how filters are kept, not how they are multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from frostline.data.imageset import ImageSet, Splits
from frostline.errors import UserError
from frostline.model_card import CARD, WEIGHTS, ModelCard, read_card, seen_digests
from frostline.model_files import check_files

#: What names the model in place of a folder, and the backbone made of it.
MODEL, BACKBONE = "inside", "cifar-fast"
#: Tensors of at least so many bytes in float16 are looked up in the graph; smaller ones could be found there by chance.
LEAST_SHARED = 256
#: Filters of at least so many numbers are kept in 8 bits.
LEAST_IN_8_BITS = 8192


def place() -> Path:
    """Where in the package the model directory lies."""
    return Path(__file__).parent / "inside_model"


def folder() -> Path:
    """The model directory in the package; a ``UserError`` where this copy has none."""
    if not (place() / CARD).is_file():
        raise UserError("This copy of Frostline has no classifier inside.", expected=str(place()), hint="--model RUN")
    return place()


def checked() -> Path:
    """As ``folder``, after every file in it was found to be what its card says; a ``UserError`` where one is not."""
    check_files(folder(), read_card(folder()).values["files"])
    return folder()


def is_it(card: ModelCard) -> bool:
    """Whether the model of this card is the one in the package, wherever its folder lies, or was made from it."""
    return (place() / CARD).is_file() and read_card(place()).digest in (card.digest, card.values.get("made_from"))


def refuse_seen(card: ModelCard, images: ImageSet, known: int, what: str, hint: str) -> None:
    """Refuse to use the classifier inside, ``what`` says how, on images of which it has seen ``known``."""
    if known and is_it(card):
        raise UserError(
            f"The classifier inside cannot be {what} images that it was trained on: {known:,} of these {len(images):,}.",
            expected="images that it has not seen",
            hint=hint,
        )


def in_8_bits(value: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float16]] | None:
    """Filters (O, C, h, w) as whole numbers of −127 to 127 and scales (O, 1, 1, 1), whose product they nearly are.

    Each filter has a scale of its own, by which its largest number becomes 127, if it is 0.0078 or more: scales are no smaller than
    float16 holds them exactly. What has been rounded so before stays as it is.
    None for what is no bank of filters, or a small one.
    """
    if value.ndim != 4 or value.size < LEAST_IN_8_BITS:
        return None
    largest = np.abs(value).max(axis=(1, 2, 3), keepdims=True)
    scales = np.maximum(largest / 127, np.finfo(np.float16).tiny).astype(np.float16)
    return np.clip(np.rint(value / scales.astype(np.float32)), -127, 127).astype(np.int8), scales


def shared(weights: Mapping[str, NDArray[Any]], graph: bytes) -> dict[str, list[Any]]:
    """Where in a graph's weights the network's own lie; only those that are found.

    Returns:
        name → [offset in bytes, shape], in float16; or [offset, shape, offset of the scales], in 8 bits.
    """
    places: dict[str, list[Any]] = {}
    for name, value in weights.items():
        parts = in_8_bits(value) or (np.ascontiguousarray(value, np.float16),)
        offsets = [graph.find(part.tobytes()) for part in parts]
        if min(offsets) >= 0 and parts[0].nbytes >= LEAST_SHARED:
            places[name] = [offsets[0], list(value.shape), *offsets[1:]]
    return places


def weights(model: Path) -> dict[str, NDArray[np.float32]]:
    """All weights of a model directory whose card says that some lie in its graph, as float32 by name."""
    card = read_card(model)
    found = {name: value.astype(np.float32) for name, value in load_file(model / WEIGHTS).items()}
    blob = (model / "graph.bin").read_bytes()
    for name, (offset, shape, *scaled) in card.values["shared_weights"].items():
        values = np.frombuffer(blob, np.int8 if scaled else np.float16, count=int(np.prod(shape)), offset=offset)
        found[name] = values.reshape(shape).astype(np.float32)
        if scaled:
            found[name] *= np.frombuffer(blob, np.float16, count=shape[0], offset=scaled[0]).astype(np.float32)[:, None, None, None]
    return found


def seen_by(backbone: str) -> set[bytes]:
    """Digests of the images that a backbone is known to have been trained on."""
    return seen_digests(checked()) if backbone == BACKBONE else set()


def check_splits_unseen(splits: Splits, backbone: str) -> None:
    """As ``check_unseen``, of validation and test."""
    for images in (splits.validation, splits.test):
        if images is not None:
            check_unseen(images, backbone)


def check_unseen(images: ImageSet, backbone: str) -> None:
    """Refuse to choose or judge by images that the network below the line was trained on: its features flatter them."""
    seen = seen_by(backbone)
    known = int(images.among(seen).sum())
    if known:
        raise UserError(
            f"{known:,} of the {len(images):,} {images.name} images were seen when {BACKBONE} was trained.",
            expected="images that it has not seen, to choose or judge by",
            received="CIFAR-10's training images",
            hint="--recipe fast-94 trains on them from scratch; --set backbone=mobilenetv2 has not seen them",
        )
