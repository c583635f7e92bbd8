"""The value that every stage starts from: N labelled images, their classes and their content digests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.files import digest_bytes

#: Label of an image whose class training does not know (only with ``unknown_as_wrong``): never equal to a prediction.
UNKNOWN = -1


@dataclass(frozen=True)
class Reject:
    """A file or table row that is left out everywhere: where it is, why, and of which split; empty where nobody knows."""

    path: str
    reason: str
    split: str = ""


@dataclass(frozen=True)
class ImageSet:
    """N images of one split, either *arrays* of one fixed size or *photos* in files; never both.

    Attributes:
        name: the split's name ("train", "validation", "test").
        classes: the K class names, in the order of the labels; the same tuple in every split.
        labels: (N,) int64 in [0, K), or ``UNKNOWN``.
        ids: N names of rows, unique in the set: a relative path, or "train/00017".
        digests: (N,) bytes of 16, BLAKE2b-128 of the content (arrays: size and pixels; photos: the file's bytes). Test images that
            stay files beside arrays are digested as arrays where they have the arrays' size: they could be the same images.
        pixels: arrays: (N, H, W, 3) uint8 RGB, possibly memory-mapped; else None.
        files: photos: N paths; else None.
        groups: N group names (patient, camera burst) that no split may divide, or None.
        otherwise: (N,) digests of the same images taken the other way: by the file's bytes where ``digests`` is by pixels, by size
            and pixels where it is by bytes and the image is small enough for an array (else the same again). None: no other way.
        sides: photos: (N, 2) H and W of each, upright, as the check of the files found them; else None.
        lengths: (N,) of the files in bytes, where the images come from files of their own; else None.
    """

    name: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    ids: NDArray[np.str_]
    digests: NDArray[np.bytes_]
    pixels: NDArray[np.uint8] | None = None
    files: tuple[Path, ...] | None = None
    groups: NDArray[np.str_] | None = None
    otherwise: NDArray[np.bytes_] | None = None
    sides: NDArray[np.int64] | None = None
    lengths: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if (self.pixels is None) == (self.files is None):
            raise ValueError("an ImageSet holds either pixels or files")
        columns = (self.ids, self.digests, self.pixels, self.files, self.groups, self.otherwise, self.sides, self.lengths)
        if any(len(column) != len(self.labels) for column in columns if column is not None):
            raise ValueError("the columns of an ImageSet must have one length")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W) of arrays, None for photos."""
        return None if self.pixels is None else (int(self.pixels.shape[1]), int(self.pixels.shape[2]))

    @property
    def fingerprint(self) -> str:
        """Digest of the classes and of every row's content and label, in order."""
        return fingerprint(self.classes, self.digests, self.labels)

    def among(self, seen: Iterable[bytes]) -> NDArray[np.bool_]:
        """(N,) which images' digests are among these, in either way: a model that took them for photos knows them as arrays."""
        table = np.array(list(seen), dtype="S16")
        found = np.isin(self.digests, table)
        return found if self.otherwise is None else found | np.isin(self.otherwise, table)

    def take(self, rows: Sequence[int] | NDArray[np.integer] | NDArray[np.bool_], name: str | None = None) -> ImageSet:
        """The rows at these indices (or where this mask is true), in that order, as a set of its own."""
        index = np.asarray(rows)
        index = np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64)
        return replace(
            self,
            name=name or self.name,
            labels=self.labels[index],
            ids=self.ids[index],
            digests=self.digests[index],
            pixels=None if self.pixels is None else self.pixels[index],
            files=None if self.files is None else tuple(self.files[i] for i in index),
            groups=None if self.groups is None else self.groups[index],
            otherwise=None if self.otherwise is None else self.otherwise[index],
            sides=None if self.sides is None else self.sides[index],
            lengths=None if self.lengths is None else self.lengths[index],
        )


def fingerprint(classes: Sequence[str], digests: NDArray[np.bytes_], labels: NDArray[np.int64]) -> str:
    """Digest of the classes and of every row's content and label, in order; of an ``ImageSet`` or of what was predicted for one."""
    names = "\0".join(classes).encode()
    return digest_bytes(names, np.ascontiguousarray(digests).tobytes(), labels.astype("<i8").tobytes())


@dataclass(frozen=True)
class Source:
    """What was found at a place: one ImageSet per declared split, and what was left out.

    Attributes:
        name: what the user named ("cifar10:/data", "photos/").
        sets: "train" always; "validation" and "test" where the source declares them.
        official: the source is a published data set with splits of its own: no test split is cut from training.
        rejects: everything left out, with its reason.
        notes: sentences for the record and the screen (counts that differ from the official ones, an empty class, …).
        found: number of files or rows looked at; equals the images kept plus the rejects.
        group: name of the column that its groups come from; empty where it has none.
    """

    name: str
    sets: Mapping[str, ImageSet]
    official: bool = False
    rejects: tuple[Reject, ...] = ()
    notes: tuple[str, ...] = ()
    found: int = 0
    group: str = ""

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of each declared split, before anything is cut; the same whether it was loaded to train or to look at it.

        Classes that train does not show are none: their test images are ``UNKNOWN``, and their validation images do not count.
        """
        train = self.sets.get("train")
        if train is None:
            return {name: images.fingerprint for name, images in self.sets.items()}
        shown = np.unique(train.labels[train.labels != UNKNOWN])
        number = np.full(len(train.classes) + 1, UNKNOWN)  # the last for ``UNKNOWN``
        number[shown] = np.arange(len(shown))
        classes = [train.classes[label] for label in shown]
        found = {}
        for name, images in self.sets.items():
            labels = number[images.labels]
            kept = labels != UNKNOWN if name == "validation" else np.ones(len(labels), dtype=bool)
            found[name] = fingerprint(classes, images.digests[kept], labels[kept])
        return found


@dataclass(frozen=True)
class Splits:
    """Train, validation and test: disjoint in content; ``test`` is None where there is none to judge on.

    Attributes:
        record: how they came about, for the run's record: counts, seed, what was cut, what was dropped and why.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet | None
    record: Mapping[str, object] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes
