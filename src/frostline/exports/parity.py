"""Whether an export says what the model says: both on the same images, and the worst difference of a probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.data.reading import stored_blocks
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.judge import rows_of
from frostline.selftest import TOLERANCE
from frostline.serve.predictor import Predictor

#: Images that are compared: of the data, or drawn where there are none.
OF_DATA, DRAWN = 256, 64
#: Of the drawn ones; the self-test's are others.
SEED = 20
#: From images of the stored size (N, h, w, 3) uint8 to probabilities (N, K).
Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class HeldBack:
    """Images to compare on, of the stored size, (N, h, w, 3) uint8; ``said`` says what they are."""

    images: NDArray[np.uint8]
    said: str


def held_back(predictor: Predictor, data: str | Path | None, split: str) -> HeldBack:
    """Images that training has not learned from: evenly chosen from a split of ``data``, or drawn ones."""
    preprocess = predictor.card.preprocess
    if data is None:
        return HeldBack(drawn_images(DRAWN, *preprocess.stored, seed=SEED), f"{DRAWN} drawn images")
    if split == "train":
        raise UserError("Training images are not held back.", expected="validation or test", received="train")
    images, _ = rows_of(predictor, data, split, unknown_as_wrong=True)
    rows = np.unique(np.linspace(0, len(images) - 1, min(OF_DATA, len(images))).astype(np.int64))
    blocks = [rows[i : i + predictor.batch] for i in range(0, len(rows), predictor.batch)]
    pixels = np.concatenate(list(stored_blocks(images, blocks, preprocess)))
    return HeldBack(pixels, f"{len(rows)} {images.name} images of {data}")


def answers(predictor: Predictor, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a model says of images of its stored size, (N, K)."""
    return np.concatenate(list(predictor.stored(images[i : i + predictor.batch] for i in range(0, len(images), predictor.batch))))


def compared(wanted: NDArray[np.float32], answer: Answer, held: HeldBack) -> dict[str, Any]:
    """How far an export is from the model.

    Returns:
        worst, mean: absolute difference of a probability; same_winner: share of the images; n; images: which they are.
    """
    found = answer(held.images)
    if found.shape != wanted.shape:
        raise UserError("The export gives answers of another shape.", expected=str(wanted.shape), received=str(found.shape))
    off = np.abs(found.astype(np.float64) - wanted)
    same = float((found.argmax(1) == wanted.argmax(1)).mean())
    return {"worst": float(off.max()), "mean": float(off.mean()), "same_winner": same, "n": len(wanted), "images": held.said}


def check(record: dict[str, Any], precision: str) -> dict[str, Any]:
    """The record with the tolerance of this precision, once the worst difference is within it; else a ``UserError``."""
    tolerance = TOLERANCE[precision]
    if not record["worst"] <= tolerance:
        raise UserError(
            "The export says something else than the model; nothing was written.",
            expected=f"probabilities within {tolerance:g} of the model's on {record['images']}",
            received=f"a difference of {record['worst']:.3g}",
        )
    return {**record, "tolerance": tolerance}
