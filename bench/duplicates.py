"""How many planted near duplicates `frostline inspect` finds, and how long it takes.

    python bench/duplicates.py --data cifar10:FOLDER [--seed 0]

500 copies of training images (cropped by a pixel, JPEG at quality 50, 10 % darker or brighter, mirrored, a quarter each) stand
beside all images of the source. Appends a row to results/duplicates.csv: found of each kind, pairs that were not planted (near
duplicates of the data's own, and mistakes: look at the pictures), seconds.
"""

from __future__ import annotations

import argparse
import io
import time

import numpy as np
from common import append_rows
from inputs import versions
from PIL import Image

from frostline.auditing.duplicates import near_duplicates
from frostline.data.sources import load_source

COPIES = 500
BOXES = ((1, 0, 32, 32), (0, 1, 32, 32), (0, 0, 31, 32), (0, 0, 32, 31), (1, 1, 32, 32), (0, 0, 31, 31), (1, 1, 31, 31))


def cropped(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    box = BOXES[rng.integers(len(BOXES))]
    return np.asarray(Image.fromarray(image).crop(box).resize((32, 32), Image.Resampling.BICUBIC))


def compressed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    kept = io.BytesIO()
    Image.fromarray(image).save(kept, "JPEG", quality=50)
    return np.asarray(Image.open(kept).convert("RGB"))


def lit(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(np.rint(image * rng.choice([0.9, 1.1])), 0, 255).astype(np.uint8)


def mirrored(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return image[:, ::-1]


KINDS = (cropped, compressed, lit, mirrored)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    sets = load_source(asked.data).sets
    train = np.asarray(sets["train"].pixels)
    rng = np.random.default_rng(asked.seed)
    chosen = rng.choice(len(train), COPIES, replace=False)
    copies = np.stack([KINDS[number % 4](train[row], rng) for number, row in enumerate(chosen)])
    images = np.concatenate([np.asarray(images.pixels) for images in sets.values()] + [copies])
    first = len(images) - COPIES
    started = time.monotonic()
    pairs = {(pair.first, pair.second) for pair in near_duplicates(images)}
    seconds = time.monotonic() - started
    found = [(int(row), first + number) in pairs for number, row in enumerate(chosen)]
    planted = {(int(row), first + number) for number, row in enumerate(chosen)}
    row = {
        "images": len(images),
        "seed": asked.seed,
        "n": COPIES,
        "found": sum(found),
        **{kind.__name__: sum(found[number::4]) for number, kind in enumerate(KINDS)},
        "other_pairs": len(pairs - planted),
        "seconds": round(seconds, 1),
        "versions": versions(),
    }
    append_rows("duplicates", [row])
    print(row)


if __name__ == "__main__":
    main()
