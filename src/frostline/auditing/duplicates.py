"""Images that are nearly the same: moved or cropped by a pixel, compressed, darker or brighter, mirrored.

Two looks. First every image against every other as a thumbnail (``auditing.thumbnails``). Then the pairs that are left, at
32×32: an image's edges must lie where the other's do, but for a shift by a pixel.
Thresholds were set on pairs of CIFAR-10's images looked at side by side (docs/log.md). Legend: N images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.auditing.thumbnails import FLAT, SIDE, Candidates, Rows, candidates, deviation
from frostline.data.imageset import ImageSet
from frostline.files import digest_bytes

Floats = NDArray[np.float32]

#: Correlation of edges from which a pair is one.
SAME_EDGES = 0.70
#: Pairs that are looked at again at once: so few that they stay in the processor's cache, which takes a third of the time.
_PAIRS = 128
#: Of an image's pairs that are nearly the same so many are listed, the most alike.
MOST_EACH = 20


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images, rows ``first`` < ``second``, ``mirrored`` or not, and how alike their edges are, in [0, 1]."""

    first: int
    second: int
    mirrored: bool
    likeness: float

    @property
    def rows(self) -> tuple[int, int]:
        """Both rows."""
        return self.first, self.second


@dataclass(frozen=True)
class Known:
    """What is known of images beside their pixels.

    Attributes:
        splits: (N,) the number of each image's split.
        labels: (N,) its class.
        digests: (N,) of its content.
    """

    splits: Rows
    labels: Rows
    digests: NDArray[np.bytes_]

    @classmethod
    def of(cls, sets: Sequence[ImageSet]) -> Known:
        """Of all sets, one after the other."""
        splits = np.repeat(np.arange(len(sets)), [len(images) for images in sets])
        labels, digests = (np.concatenate([getattr(images, name) for images in sets]) for name in ("labels", "digests"))
        return cls(splits, labels, digests)

    def same(self, pair: Pair) -> bool:
        """Whether the content is the very same."""
        return bool(self.digests[pair.first] == self.digests[pair.second])

    def across(self, pair: Pair) -> bool:
        """Whether the images stand in two splits."""
        return bool(self.splits[pair.first] != self.splits[pair.second])

    def contradicting(self, pair: Pair) -> bool:
        """Whether the images have two classes."""
        return bool(self.labels[pair.first] != self.labels[pair.second])


@dataclass(frozen=True)
class FirstLook:
    """What a first look finds: ``copies`` are pairs, ``candidates`` are looked at again."""

    copies: list[Pair]
    candidates: Candidates


def near_duplicates(images: NDArray[np.uint8], done: Callable[[int], Any] = lambda rows: None) -> list[Pair]:
    """The pairs of nearly the same images, most alike first: both looks at images of one split, whose content is their pixels."""
    digests = _digests(images)
    nothing = np.zeros(len(images), np.int64)
    found = first_look(images, Known(nothing, nothing, digests), done)
    return merged(found.copies, second_look(images, found.candidates))


def first_look(images: NDArray[np.uint8], known: Known, done: Callable[[int], Any] = lambda rows: None) -> FirstLook:
    """Copies, and pairs to look at again.

    Args:
        images: (N, 32, 32, 3) uint8 RGB, photos reduced to that.
        known: of the same images.
        done: told of rows as they have been compared with all others.

    Of images of one content each is paired with the first of them, however little it shows, and so are those whose pixels are the
    same: a picture that is there a thousand times makes 999 pairs and not half a million. The first alone is compared with others.
    Images of one colour or nearly so are not: they show too little to be nearly the same. The work grows with N²:
    bench/duplicates.py times 55,500 images.
    """
    if images.shape[1:] != (SIDE, SIDE, 3):
        raise ValueError(f"expected (N, {SIDE}, {SIDE}, 3) images, not {images.shape}")
    number, told = np.arange(len(images)), deviation(images) >= FLAT
    content, pixels = _first_of_each(known.digests), _first_of_each(_digests(images))
    copies = [Pair(int(content[row]), int(row), False, 1.0) for row in np.flatnonzero(content < number)]
    again = np.flatnonzero((content == number) & (pixels < number) & told)
    copies += [Pair(int(pixels[row]), int(row), False, 1.0) for row in again]
    rows = np.flatnonzero((pixels == number) & told)
    done(len(images) - len(rows))
    return FirstLook(copies, candidates(images, rows, known.splits, done))


def second_look(images: NDArray[np.uint8], found: Candidates, done: Callable[[int], Any] = lambda pairs: None) -> list[Pair]:
    """Those of the candidates whose edges agree; ``done`` is told of pairs as they have been looked at."""
    pairs = []
    for mirrored in (False, True):
        chosen = np.flatnonzero(found.mirrored == mirrored)
        for start in range(0, len(chosen), _PAIRS):
            some = chosen[start : start + _PAIRS]
            a, b = found.first[some], found.second[some]
            likeness = same_edges(images[a][:, :, ::-1] if mirrored else images[a], images[b])
            for i in np.flatnonzero(likeness >= SAME_EDGES):
                pairs.append(Pair(int(a[i]), int(b[i]), mirrored, round(float(likeness[i]), 4)))
            done(len(some))
    return pairs


def _digests(images: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    return np.array([digest_bytes(image.tobytes()) for image in images], "S32")


def _first_of_each(digests: NDArray[np.bytes_]) -> Rows:
    """(N,) the first row with the same digest."""
    _, first, content = np.unique(digests, return_index=True, return_inverse=True)
    return np.asarray(first[content], np.int64)


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


def limited(pairs: Sequence[Pair], known: Known, always: Collection[tuple[int, int]] = ()) -> list[Pair]:
    """The pairs that are listed: those of images with fewer than ``MOST_EACH`` yet, for a scene that is there a hundred times makes
    4,950.

    Args:
        pairs: the most alike first.
        known: of the images.
        always: rows of pairs that are listed and do not count, as copies do.

    What matters most does not fall victim to that: of each image the most alike in another split, and the most alike of another
    class, are listed in any case.
    """
    count: Counter[int] = Counter()
    met: set[tuple[int, str]] = set()
    kept = []
    for pair in pairs:
        matters = [what for what, is_so in (("across", known.across), ("contradicting", known.contradicting)) if is_so(pair)]
        news = {(row, what) for row in pair.rows for what in matters} - met
        copy = pair.rows in always
        if copy or news or max(count[row] for row in pair.rows) < MOST_EACH:
            kept.append(pair)
            met |= news
            count.update(() if copy else pair.rows)
    return kept


def limits(record: Mapping[str, Any]) -> list[str]:
    """What an inspection's record of duplicates does not hold, in sentences."""
    said = []
    if left_out := record.get("left_out"):
        said.append(
            f"{left_out:,} of these pairs are counted but not listed. Listed are all copies, pairs of images of which "
            f"neither is in {MOST_EACH} already, and of each image its most alike in another split and under another class."
        )
    if each := record.get("most_compared"):
        said.append(
            f"So many images are alike at a glance that each was compared closely with the {each:,} most alike of its split and as "
            "many of other splits alone: there may be more pairs."
        )
    return said
