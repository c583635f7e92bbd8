"""Images that are nearly the same: moved or cropped by a pixel, compressed, darker or brighter, mirrored.

Two looks. First every image against every other as a thumbnail of 8×8 pixels, brightness and contrast taken out: one large
matrix product. Then the pairs that are left, at 32×32: an image's edges must lie where the other's do, but for a shift by a pixel.
Thresholds were set on pairs of CIFAR-10's images looked at side by side (docs/log.md). Legend: N images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.files import digest_bytes

Floats = NDArray[np.float32]

#: Side in pixels of the images that are compared, and of their thumbnails.
SIDE, THUMBNAIL = 32, 8
#: Correlation of thumbnails from which a pair is looked at again, and of edges from which it is one.
ALIKE, SAME_EDGES = 0.95, 0.70
#: Deviation of a thumbnail's values, of 255, below which an image shows too little to be told from others.
FLAT = 4.0
#: Images that are compared with all others at once; pairs that are looked at again at once.
_BLOCK, _PAIRS = 2000, 4096
#: A picture repeated more often than this is reported with its nearest so many alone.
MOST_EACH = 20


@dataclass(frozen=True)
class Pair:
    """Two images, rows ``first`` < ``second``, ``mirrored`` or not, and how alike their edges are, in [0, 1]."""

    first: int
    second: int
    mirrored: bool
    likeness: float


def near_duplicates(images: NDArray[np.uint8], done: Callable[[int], Any] = lambda rows: None) -> list[Pair]:
    """The pairs of nearly the same images, most alike first.

    Args:
        images: (N, 32, 32, 3) uint8 RGB, photos reduced to that.
        done: told of rows as they have been compared with all others.

    Of identical images each is paired with the first of them, which alone is compared with the others: a picture that is there
    a thousand times makes 999 pairs and not half a million. Images of one colour or nearly so are left out. The work grows with
    N²: bench/duplicates.py times 55,500 images.
    """
    if images.shape[1:] != (SIDE, SIDE, 3):
        raise ValueError(f"expected (N, {SIDE}, {SIDE}, 3) images, not {images.shape}")
    first_of = _first_of_each(images)
    told = _deviation(images) >= FLAT
    again = np.flatnonzero((first_of < np.arange(len(images))) & told)
    found = {(int(first_of[row]), int(row)): Pair(int(first_of[row]), int(row), False, 1.0) for row in again}
    rows = np.flatnonzero((first_of == np.arange(len(images))) & told)
    done(len(images) - len(rows))
    for first, second, mirrored in _alike(images, rows, done):
        for pair in _checked(images, first, second, mirrored):
            key = (pair.first, pair.second)
            if key not in found or found[key].likeness < pair.likeness:
                found[key] = pair
    return sorted(found.values(), key=lambda pair: (-pair.likeness, pair.first, pair.second))


def _first_of_each(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(N,) the row of the first image with the same pixels."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(digest_bytes(image.tobytes()), row) for row, image in enumerate(images)], np.int64)


def _thumbnails(images: NDArray[np.uint8]) -> Floats:
    """(n, 192): each image as 8×8 pixels, as it was."""
    step = SIDE // THUMBNAIL
    blocks = images.reshape(len(images), THUMBNAIL, step, THUMBNAIL, step, 3)
    return blocks.mean(axis=(2, 4), dtype=np.float32).reshape(len(images), -1)


def _deviation(images: NDArray[np.uint8]) -> Floats:
    parts = [_thumbnails(np.asarray(images[i : i + _BLOCK])).std(axis=1) for i in range(0, len(images), _BLOCK)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _directions(values: Floats) -> Floats:
    """Rows with mean 0 and length 1: their products are correlations."""
    centred = values - values.mean(axis=1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)


def _alike(images: NDArray[np.uint8], rows: NDArray[np.integer], done: Callable[[int], Any]) -> Any:
    """(first, second, mirrored) blocks of pairs whose thumbnails are alike."""
    chunks = [np.asarray(images[rows[i : i + _BLOCK]]) for i in range(0, len(rows), _BLOCK)]
    plain = [_directions(_thumbnails(chunk)) for chunk in chunks]
    for number, chunk in enumerate(chunks):
        mirrored = _directions(_thumbnails(np.ascontiguousarray(chunk[:, :, ::-1])))
        for flipped, own in ((False, plain[number]), (True, mirrored)):
            for other in range(number, len(chunks)):
                here, there = np.nonzero(own @ plain[other].T >= ALIKE)
                first, second = here + number * _BLOCK, there + other * _BLOCK
                kept = first < second
                if kept.any():
                    yield rows[first[kept]], rows[second[kept]], flipped
        done(len(chunk))


def _checked(images: NDArray[np.uint8], first: NDArray[np.integer], second: NDArray[np.integer], mirrored: bool) -> list[Pair]:
    pairs = []
    for start in range(0, len(first), _PAIRS):
        a, b = first[start : start + _PAIRS], second[start : start + _PAIRS]
        shown = images[a][:, :, ::-1] if mirrored else images[a]
        for i, j, likeness in zip(a, b, same_edges(shown, images[b]), strict=True):
            if likeness >= SAME_EDGES:
                pairs.append(Pair(int(i), int(j), mirrored, round(float(likeness), 4)))
    return pairs


def same_edges(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Floats:
    """(n,) correlation of the differences between neighbouring pixels, the best of nine shifts by a pixel; near 1 for the same."""
    inner = slice(2, SIDE - 2)
    edges = _edges(a[:, inner, inner].astype(np.float32))
    best = np.full(len(a), -1.0, np.float32)
    for down in (1, 2, 3):
        for right in (1, 2, 3):
            moved = b[:, down : down + SIDE - 4, right : right + SIDE - 4].astype(np.float32)
            best = np.maximum(best, (edges * _edges(moved)).sum(axis=1))
    return best


def _edges(x: Floats) -> Floats:
    flat = [np.diff(x, axis=axis).reshape(len(x), -1) for axis in (1, 2)]
    edges = np.concatenate(flat, axis=1)
    return edges / np.maximum(np.linalg.norm(edges, axis=1, keepdims=True), 1e-6)


def merged(pairs: Sequence[Pair], further: Sequence[Pair]) -> list[Pair]:
    """Pairs of two searches, most alike first; a pair that both found as the more alike of the two."""
    best: dict[tuple[int, int], Pair] = {}
    for pair in (*pairs, *further):
        known = best.get((pair.first, pair.second))
        if known is None or known.likeness < pair.likeness:
            best[pair.first, pair.second] = pair
    return sorted(best.values(), key=lambda pair: (-pair.likeness, pair.first, pair.second))


def limited(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs, of each image at most ``MOST_EACH``, the most alike: a picture that is there a hundred times makes 4,950."""
    count: dict[int, int] = {}
    kept = []
    for pair in pairs:
        if max(count.get(pair.first, 0), count.get(pair.second, 0)) < MOST_EACH:
            kept.append(pair)
            for row in (pair.first, pair.second):
                count[row] = count.get(row, 0) + 1
    return kept
