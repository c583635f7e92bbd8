"""Activations at the frost line, for what trains above it: a few views, cached, or anew every epoch from changed pixels."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frostline.above_line import as_pretrained, pooled
from frostline.anytime import Extracted, FeatureTable, Unseen, stratified_order
from frostline.config import Settings
from frostline.data.augment import augment, cropped, make_augmentations
from frostline.data.batches import Batches, FeatureBatches, crops, stored_tensor
from frostline.data.imageset import ImageSet, Splits
from frostline.data.order import OrderedRows, generator
from frostline.data.reading import stored_blocks
from frostline.data.views import cached_numbers, seen_as
from frostline.errors import UserError
from frostline.feature_cache import STORED, in_storage_type
from frostline.files import home
from frostline.frozen import Below, freeze
from frostline.linear import Moments
from frostline.models.device import pick_device
from frostline.models.heads import HEADS
from frostline.progress import say, stage
from frostline.runs import Run
from frostline.stopping import StopRule
from frostline.train_frozen import extracted

#: A teacher's, (N, K) for all training images; None: there is no teacher.
Answers = NDArray[np.float32] | None
#: Rows of a pass that only looks, fewer where they have more bytes than these in float32.
LOOKED_AT, LOOKED_AT_BYTES = 128, 2**27
#: Share of the free disk that activations may take.
OF_THE_DISK = 0.8


class Activations(Protocol):
    """What both paths give: rows and labels of what is trained on and judged by, and batches of activations.

    Attributes:
        seen: (n,) rows of the training images.
        judged: (m,) rows of the validation images.
        reason: why not all training images are there; empty where they are.
        views: of each training image, that are or will be cached; 0: none is.
        record: for the run's record: the path and what it does to images.
    """

    views: int
    seen: NDArray[np.int64]
    judged: NDArray[np.int64]
    reason: str
    record: dict[str, Any]

    def training(self, answers: Answers = None) -> Batches:
        """Shuffled batches (B, *shape), with labels or a teacher's answers, (N, K) for all training images."""

    def validation(self) -> Batches:
        """Batches (B, V, *shape) of the views that the finished model sees, in the order of ``judged``."""

    def head_features(self, run: Run, stop: StopRule) -> Extracted:
        """Features of the network as it is, for the head that training above the line begins from."""


class Cached:
    """The cached path: activations of a few views, held in tables (memory-mapped when large).

    The head and the first epoch above the line have the training images' own view alone, so that they are done sooner; the
    other views are computed between the first epoch and the second. Where there is one epoch it has them all.
    """

    def __init__(self, below: Below, splits: Splits, settings: Settings, stop: StopRule, views: int) -> None:
        self.below, self.splits, self.settings, self.views = below, splits, settings, views
        self.stop, self.reason = stop, ""
        self.numbers = numbers_of(views, settings)
        self.at_first = 1 if settings.epochs > 1 else views
        self.train_table, self.validation_table = in_storage_type(settings.feature_dtype, self._tables)
        self.seen, self.judged = self.train_table.seen.copy(), self.validation_table.seen.copy()
        self.record = {"path": "cached", "cached_views": self.at_first, "feature_dtype": self.train_table.dtype}

    def _tables(self, dtype: str) -> tuple[FeatureTable, FeatureTable]:
        frozen, splits, stop = self.below.frozen, self.splits, self.stop
        tables = []
        with stage("activations", len(splits.train) + len(splits.validation)) as bar:
            for images in (splits.validation, splits.train):  # a run that is cut short has all of what it is judged by
                views, now = (self.views, self.at_first) if images is splits.train else (self.settings.views,) * 2
                numbers = self.numbers[:now] if images is splits.train else range(now)
                table, caches = FeatureTable(len(images), views, frozen.width, dtype), frozen.caches(numbers, dtype)
                tables.append(table)
                unseen = Unseen(images.labels)
                for block in frozen.extract(images, stratified_order(images.labels, self.settings.seed), caches, numbers):
                    table.add(block)
                    bar.advance(len(block.rows))
                    few = unseen.see(block.rows)
                    if images is splits.train and table.count < len(images) and not few and stop.check():
                        self.reason = stop.reason
                        break
        return tables[1], tables[0]

    def training(self, answers: Answers = None) -> FeatureBatches:
        """See ``Activations``; a random one of the cached views of every row, in the first epoch the image's own."""
        settings = self.settings
        order = {"shuffle": True, "balanced": settings.balance == "sampling", "sizes": crops(self.below.line.shape, settings)}
        later = self._with_all_views if self.at_first < self.views else None
        batches = self._batches(self.train_table, self.splits.train, settings.batch_size, complete=later, **order)
        return batches.learn_from(answers, self.seen).leave_out(settings.left_out(len(self.splits.train)))

    def _with_all_views(self) -> Tensor | None:
        """The training rows' activations (n, V, D) once all views are there; None: work is to end before."""
        now = self.train_table.dtype
        table = in_storage_type("auto" if self.settings.feature_dtype == "auto" and now == "float16" else now, self._filled)
        if table is None:
            return None
        self.train_table = table
        self.record |= {"cached_views": self.views, "feature_dtype": table.dtype}
        return stored_tensor(table.features, table.dtype)

    def _filled(self, dtype: str) -> FeatureTable | None:
        """The training rows' table with all views; another one where they are not stored as the first view is."""
        frozen, images, rows, table, first = self.below.frozen, self.splits.train, self.seen, self.train_table, self.at_first
        if dtype != table.dtype:
            table, first = FeatureTable(len(rows), self.views, frozen.width, dtype), 0
        done, numbers = 0, self.numbers[first:]
        with stage("activations of further views", len(rows)) as bar:
            for block in frozen.extract(images, rows, frozen.caches(numbers, dtype), numbers):
                if first:
                    table.fill(done, first, block)
                else:
                    table.add(block)
                done += len(block.rows)
                bar.advance(len(block.rows))
                if done < len(rows) and self.stop.check():
                    return None
        return table

    def validation(self) -> FeatureBatches:
        """See ``Activations``."""
        return self._batches(self.validation_table, self.splits.validation, self._looked_at(self.settings.views))

    def _looked_at(self, views: int) -> int:
        return max(1, min(LOOKED_AT, LOOKED_AT_BYTES // (4 * views * self.below.frozen.width)))

    def _batches(self, table: FeatureTable, images: ImageSet, size: int, **order: Any) -> FeatureBatches:
        features, labels = stored_tensor(table.features, table.dtype), images.labels[table.seen]
        device, shape = pick_device(self.settings.device), self.below.line.shape
        return FeatureBatches(features, labels, size, seed=self.settings.seed, shape=shape, device=device, **order)

    def head_features(self, run: Run, stop: StopRule) -> Extracted:
        """What the upper part makes of the activations: features (n, 1, D).

        Of training images of their own view, which costs a pass and not several; of validation averaged over the views served, or
        for a dense head, which is not linear, of each of them, (m, V, D).
        """
        labels = self.splits.train.labels[self.seen]
        with as_pretrained(self.below, self.settings, self._looked_at(1), self.train_table) as above:
            train = pooled(above, self.train_table, self.seen, views=1)
            apart = self.settings.head in HEADS
            validation = pooled(above, self.validation_table, self.judged, self.settings.views, apart)
        moments = Moments(train.features.shape[2], len(self.splits.classes))
        for start in range(0, train.count, 4096):
            moments.add(train.features[start : start + 4096, 0], labels[start : start + 4096])
        return Extracted(train, validation, moments)


def numbers_of(views: int, settings: Settings) -> list[int]:
    """The numbers of as many views of each training image: mirrored ones are among them where mirrored ones are served."""
    return cached_numbers(views, mirrored=settings.views > 1)


def views_that_fit(below: Below, splits: Splits, settings: Settings, began_with: int = 0) -> int:
    """As many views as wanted, or as the disk has room for: they lie there twice, in the cache and in the run's own table.

    Args:
        began_with: how many a run has that goes on, which is then to have neither more nor fewer.

    Raises:
        UserError: there is no room for those that are judged by, or for those that the run began with.
    """
    wanted = began_with or max(settings.views, settings.cached_views)
    least = began_with or settings.views
    dtype = "float16" if settings.feature_dtype == "auto" else settings.feature_dtype
    row = below.frozen.width * STORED[dtype].itemsize
    home().mkdir(parents=True, exist_ok=True)
    free = OF_THE_DISK * shutil.disk_usage(home()).free
    needed = 2 * row * (len(splits.train) * wanted + len(splits.validation) * settings.views)
    if needed > free:  # what is cached needs room once alone; only now is it worth reading the cache's index
        cached = [int(cache.has(splits.train.digests).sum()) for cache in below.frozen.caches(numbers_of(wanted, settings), dtype)]
        free += row * sum(cached)
    fitting = int((free / (2 * row) - len(splits.validation) * settings.views) // max(len(splits.train), 1))
    if fitting < least:
        other = "make room" if began_with else "--augment mirror, which stores nothing; a line further up"
        raise UserError(
            f"The disk of {home()} has no room for the activations.",
            expected=f"{2 * row * (len(splits.train) * least + len(splits.validation) * settings.views) / 2**30:,.1f} GiB",
            received=f"{free / 2**30:,.1f} GiB ({OF_THE_DISK:.0%} of what is free)",
            hint=f"{other}; or FROSTLINE_HOME on another disk",
        )
    if fitting < wanted:
        say(f"The disk of {home()} has room for {fitting} views of each image, not {wanted}.", "yellow")
    return min(wanted, fitting)


class LiveBatches(OrderedRows):
    """Activations of pixels: in training of pixels that are changed anew every epoch, else of the views that are served.

    The frozen part runs on its own engine, a few blocks ahead of the part that trains.
    """

    def __init__(self, images: ImageSet, below: Below, settings: Settings, train: bool) -> None:
        size = settings.batch_size if train else LOOKED_AT
        balanced = train and settings.balance == "sampling"
        super().__init__(images.labels, size, settings.seed, train, pick_device(settings.device), balanced)
        self.images, self.below, self.train = images, below, train
        self.views = 1 if train else settings.views
        self.sizes = crops(below.line.shape, settings) if train else ()
        mirrored = settings.with_values(mirror=settings.mirror or settings.views == 2)  # what is served mirrored is trained so
        self.augmentations = make_augmentations(mirrored, below.frozen.preprocess.mean) if train else ()

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(B, *shape) in training, else (B, V, *shape)."""
        drawn = generator(self.seed, number)
        order = [rows.cpu().numpy() for rows in self.order(drawn)]
        engine = self.below.frozen.engine
        chunks = [batch[start : start + engine.batch] for batch in order for start in range(0, len(batch), engine.batch)]
        outputs = engine.run(self._pixels(chunks, drawn))
        for rows in order:
            parts = [self._views(outputs) for _ in range(0, len(rows), engine.batch)]
            x = torch.from_numpy(np.concatenate(parts)).unflatten(-1, self.below.line.shape).to(self.device)
            yield self._shown(x[:, 0], number, drawn) if self.train else x, self.targets(torch.from_numpy(rows))

    def _shown(self, maps: Tensor, number: int, drawn: torch.Generator) -> Tensor:
        return cropped(maps, self.size(number), drawn) if self.sizes else maps

    def _views(self, outputs: Iterator[tuple[NDArray[Any], ...]]) -> NDArray[Any]:
        return np.stack([next(outputs)[0] for _ in range(self.views)], axis=1)

    def _pixels(self, chunks: list[NDArray[np.int64]], drawn: torch.Generator) -> Iterator[NDArray[np.uint8]]:
        """(b, h, w, 3) for each chunk of rows and each view of them."""
        for rows, block in zip(chunks, stored_blocks(self.images, chunks, self.below.frozen.preprocess), strict=True):
            for view in range(self.views):
                seen = seen_as(block, self.images.digests[rows], view)
                if self.augmentations:
                    batch = torch.from_numpy(np.ascontiguousarray(seen)).permute(0, 3, 1, 2)
                    seen = augment(batch, self.augmentations, drawn).permute(0, 2, 3, 1).numpy()
                yield np.ascontiguousarray(seen)


class Live:
    """The live path: nothing is stored; every step runs the frozen part too."""

    reason, views = "", 0

    def __init__(self, below: Below, splits: Splits, settings: Settings) -> None:
        self.below, self.splits, self.settings = below, splits, settings
        self.seen, self.judged = np.arange(len(splits.train)), np.arange(len(splits.validation))
        self.record = {"path": "live"}

    def training(self, answers: Answers = None) -> LiveBatches:
        """See ``Activations``."""
        batches = LiveBatches(self.splits.train, self.below, self.settings, train=True)
        return batches.learn_from(answers).leave_out(self.settings.left_out(len(self.splits.train)))

    def validation(self) -> LiveBatches:
        """See ``Activations``."""
        return LiveBatches(self.splits.validation, self.below, self.settings, train=False)

    def head_features(self, run: Run, stop: StopRule) -> Extracted:
        """See ``Activations``: those of the whole network, through the cache, as a frozen recipe has them."""
        settings = self.settings.with_values(power=1.0)  # the network that trains has no compression before its head
        return extracted(freeze(settings, self.splits.train.size), self.splits, settings, run, stop)[2]
