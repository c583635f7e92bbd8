"""Extraction: images through the frozen network to features, by way of the cache, in constant memory.

What comes out has always been through the storage type, so that a cached run and a cold one give the same scores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import ImageSet
from frostline.data.reading import stored_blocks
from frostline.data.views import seen_as
from frostline.errors import UserError
from frostline.feature_cache import STORED, FeatureCache, from_stored, to_stored
from frostline.preprocess import Preprocess

#: Rows handed on together, and rows of a cache shard: small enough to stop promptly, large enough to write seldom. Of wide rows,
#: such as the maps at a frost line, there are fewer: as many bytes, of which several copies are held for a moment.
BLOCK, BLOCK_BYTES = 512, 2**26
Array = NDArray[Any]
Rows = NDArray[np.integer]


class Runs(Protocol):
    """What extraction asks of an engine: the outputs of each block of at most ``batch`` rows, in order."""

    batch: int

    def run(self, blocks: Iterable[Array]) -> Iterator[tuple[Array, ...]]: ...


@dataclass(frozen=True)
class FeatureBlock:
    """Features of some rows of a set: ``rows`` (n,) numbers and ``features`` (n, V, D) in the storage type."""

    rows: Rows
    features: Array


@dataclass
class _Pending:
    rows: Rows
    known: list[NDArray[np.bool_]]  # per view, (n,)
    chunks: deque[tuple[int, Rows]] = field(default_factory=deque)  # (view, positions) in the order they are computed
    computed: list[list[tuple[Rows, Array]]] = field(default_factory=list)  # per view


def extract(
    images: ImageSet, rows: Rows, preprocess: Preprocess, engine: Runs, caches: Sequence[FeatureCache], views: Sequence[int] = ()
) -> Iterator[FeatureBlock]:
    """Features of these rows in blocks of at most ``BLOCK``, in order; computed where the cache lacks them, and then kept there.

    Args:
        images: any set.
        rows: (n,) row numbers, in the order wanted.
        preprocess: the network's.
        engine: gives (b, D) float32 for (b, h, w, 3) uint8.
        caches: one per view.
        views: their numbers, see ``data.views``; where there are none, from 0 on.

    Raises:
        FeatureOverflowError: a value does not fit the caches' storage type.
        UserError: a feature is not finite.
    """
    queue: deque[_Pending] = deque()
    outputs = engine.run(_batches(images, rows, preprocess, engine.batch, caches, queue, views or range(len(caches))))
    for features, *_ in outputs:
        while not queue[0].chunks:
            yield _finish(images, queue.popleft(), caches)
        view, positions = queue[0].chunks.popleft()
        _check_finite(images, queue[0].rows[positions], features)
        queue[0].computed[view].append((positions, to_stored(features, caches[view].dtype)))
        if not queue[0].chunks:
            yield _finish(images, queue.popleft(), caches)
    while queue:
        yield _finish(images, queue.popleft(), caches)


def _batches(
    images: ImageSet,
    rows: Rows,
    preprocess: Preprocess,
    batch: int,
    caches: Sequence[FeatureCache],
    queue: deque[_Pending],
    views: Sequence[int],
) -> Iterator[Array]:
    """The images to compute, view by view; ``queue`` learns what each batch is for before it is handed out."""
    plan: deque[tuple[_Pending, Rows]] = deque()

    def wanted() -> Iterator[Rows]:
        size = _block(caches, batch)
        for start in range(0, len(rows), size):
            pending = _look_up(images, rows[start : start + size], caches)
            lacking = np.flatnonzero(~np.logical_and.reduce(pending.known))
            parts = [lacking[i : i + batch] for i in range(0, len(lacking), batch)]
            for positions in parts:  # all of a block's at once: an engine may answer each before it takes the next
                views = [view for view, known in enumerate(pending.known) if not known[positions].all()]
                pending.chunks.extend((view, positions) for view in views)
                plan.append((pending, positions))
            queue.append(pending)
            yield from (pending.rows[positions] for positions in parts)

    for block in stored_blocks(images, wanted(), preprocess):
        pending, positions = plan.popleft()
        for view, known in zip(views, pending.known, strict=True):
            if not known[positions].all():
                yield seen_as(block, images.digests[pending.rows[positions]], view)


def _block(caches: Sequence[FeatureCache], batch: int) -> int:
    """Rows of a block: whole batches of them where they are so wide that there are fewer than ``BLOCK``."""
    row = len(caches) * caches[0].width * STORED[caches[0].dtype].itemsize
    fitting = BLOCK_BYTES // max(1, row)
    return BLOCK if fitting >= BLOCK else max(batch, fitting // batch * batch)


def _look_up(images: ImageSet, rows: Rows, caches: Sequence[FeatureCache]) -> _Pending:
    known = [cache.has(images.digests[rows]) for cache in caches]
    return _Pending(rows, known, computed=[[] for _ in caches])


def _finish(images: ImageSet, pending: _Pending, caches: Sequence[FeatureCache]) -> FeatureBlock:
    n, first = len(pending.rows), caches[0]
    digests = images.digests[pending.rows]
    features = np.empty((n, len(caches), first.width), STORED[first.dtype])
    for view, (cache, known) in enumerate(zip(caches, pending.known, strict=True)):
        for positions, values in pending.computed[view]:
            features[positions, view] = values
        if not known.all():
            cache.write(digests[~known], features[~known, view])
        # rows that were known are read last, so that a row computed again beside a missing view stays as it was
        if known.any():
            features[known, view] = cache.read(digests[known])
    return FeatureBlock(pending.rows, features)


def _check_finite(images: ImageSet, rows: Rows, features: Array) -> None:
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        name = images.ids[rows[np.flatnonzero(bad)[0]]]
        raise UserError(
            f"The network gives features that are not finite for '{name}'.",
            expected="finite numbers",
            hint="--precision f32, or other weights",
        )


def compressed(features: Array, dtype: str, power: float) -> NDArray[np.float32]:
    """(n, V, D) stored to float32, each x as sign(x) |x|^power (Perronnin et al. 2010, section 3.2).

    Pooled activations have long tails: a few large values would speak for a whole image. At 1 nothing changes.
    """
    x: NDArray[np.float32] = from_stored(features, dtype).astype(np.float32, copy=False)
    if power == 1:
        return x
    size = np.abs(x)
    root = np.sqrt(size)
    raised = root * np.sqrt(root) if power == 0.75 else size**power  # two roots take a tenth of the time
    return np.copysign(raised, x, out=raised)
