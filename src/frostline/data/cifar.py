"""CIFAR-10 and CIFAR-100 from the official binary archives (Krizhevsky 2009): fixed-length records, nothing is unpickled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.data.archives import unpack
from frostline.data.download import download
from frostline.data.imageset import ImageSet, Source
from frostline.data.rows import natural_order, pixel_digests
from frostline.errors import UserError
from frostline.files import digest_file, home

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


@dataclass(frozen=True)
class Published:
    """One of the two data sets, as its authors publish it.

    Attributes:
        url, md5, size: of the archive; size in bytes.
        folder: the archive's only folder.
        train, test: patterns of the files of each split.
        official: images in each split.
        label_bytes: bytes before a record's pixels; the last of them is the label.
        names_file: a text file of class names, one a line.
        classes: those names, for folders without that file.
    """

    url: str
    md5: str
    size: int
    folder: str
    train: str
    test: str
    official: tuple[int, int]
    label_bytes: int
    names_file: str
    classes: tuple[str, ...]


_HUNDRED = """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox
girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket
rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"""

PUBLISHED = {
    "cifar10": Published(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        size=170_052_171,
        folder="cifar-10-batches-bin",
        train="data_batch_*.bin",
        test="test_batch.bin",
        official=(50_000, 10_000),
        label_bytes=1,
        names_file="batches.meta.txt",
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
    "cifar100": Published(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        size=168_513_733,
        folder="cifar-100-binary",
        train="train.bin",
        test="test.bin",
        official=(50_000, 10_000),
        label_bytes=2,
        names_file="fine_label_names.txt",
        classes=tuple(_HUNDRED.split()),
    ),
}


def load_cifar(which: str, place: str = "", training: bool = True) -> Source:
    """CIFAR-10 or CIFAR-100 as a Source with the official splits and the declared class order (CIFAR-100: the 100 fine classes).

    Args:
        which: "cifar10" or "cifar100".
        place: a folder of .bin files, the folder above it, or the .tar.gz archive; empty: downloaded once to the cache folder.
            A folder may hold any whole number of records and no test file; counts that are not the official ones go to the notes.
        training: False: a folder without training files will do.

    Raises:
        UserError: no such files, a broken record (named by file and offset), or no download.
    """
    published = PUBLISHED[which]
    folder = _find_folder(which, published, place)
    classes = _class_names(folder, published)
    sets: dict[str, ImageSet] = {}
    notes: list[str] = []
    for split, pattern, official in (
        ("train", published.train, published.official[0]),
        ("test", published.test, published.official[1]),
    ):
        files = [folder / name for name in natural_order(path.name for path in folder.glob(pattern))]
        if split == ("train" if training else "test") and not files and not sets:
            raise _not_found(which, published, folder)
        if files:
            sets[split] = _read_split(split, files, published, classes)
        count = len(sets[split]) if files else 0
        if count != official:
            notes.append(f"{split}: {count:,} images, where the official {which} has {official:,}.")
    name = f"{which}:{place}" if place else which
    return Source(name, sets, official=True, notes=tuple(notes), found=sum(map(len, sets.values())))


def _find_folder(which: str, published: Published, place: str) -> Path:
    if not place:
        archive = home() / "downloads" / published.url.rpartition("/")[2]
        hint = f"with a copy from elsewhere: {which}:PATH, PATH being the archive {archive.name} or its unpacked folder"
        unpacked = home() / "datasets" / published.md5
        if not unpacked.is_dir():
            download(published.url, archive, md5=published.md5, size=published.size, hint=hint)
        return unpack(archive, unpacked) / published.folder
    path = Path(place).expanduser()
    if path.is_file():
        path = unpack(path, home() / "datasets" / digest_file(path))
    inner = path / published.folder
    return inner if inner.is_dir() else path


def _not_found(which: str, published: Published, folder: Path) -> UserError:
    pickled = any((folder / name).exists() for name in ("data_batch_1", "train", "cifar-10-batches-py", "cifar-100-python"))
    return UserError(
        f"No images of {which} in {folder} to start from.",
        expected=f"files {published.train} (to judge a model: or {published.test}) of the binary version",
        received="the Python version, which is pickled and not read" if pickled else "" if folder.is_dir() else "no such folder",
        hint=f"the binary version is at {published.url}",
    )


def _class_names(folder: Path, published: Published) -> tuple[str, ...]:
    path = folder / published.names_file
    try:
        names = tuple(path.read_text("utf-8").split()) if path.is_file() else published.classes
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read the class names in {path}.", received=str(error)) from error
    if len(names) != len(published.classes) or len(set(names)) != len(names):
        raise UserError(f"{path} must name each class once.", expected=f"{len(published.classes)} names", received=str(len(names)))
    return names


def _read_split(split: str, files: Sequence[Path], published: Published, classes: tuple[str, ...]) -> ImageSet:
    record = published.label_bytes + _PIXELS
    counts = [_count_records(file, record) for file in files]
    labels = np.empty(sum(counts), dtype=np.int64)
    pixels = np.empty((sum(counts), _SIDE, _SIDE, 3), dtype=np.uint8)
    start = 0
    for file, count in zip(files, counts, strict=True):
        rows = slice(start, start + count)
        labels[rows], pixels[rows] = _read_records(file, count, published, len(classes))
        start += count
    ids = np.array([f"{split}/{number:05d}" for number in range(len(labels))])
    return ImageSet(split, classes, labels, ids, pixel_digests(pixels), pixels=pixels)


def _count_records(file: Path, record: int) -> int:
    size = file.stat().st_size
    if not size or size % record:
        raise UserError(
            f"{file} is damaged.",
            expected=f"whole records of {record:,} bytes",
            received=f"{size:,} bytes: {size % record:,} left over at offset {size - size % record:,}" if size else "an empty file",
        )
    return size // record


def _read_records(file: Path, count: int, published: Published, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels (N,) and pixels (N, 32, 32, 3) of one file; in it each record's pixels are three planes, red first."""
    head = published.label_bytes
    records = np.fromfile(file, dtype=np.uint8).reshape(count, head + _PIXELS)
    labels = records[:, head - 1]
    if (wrong := np.flatnonzero(labels >= classes)).size:
        offset = int(wrong[0]) * (head + _PIXELS) + head - 1
        received = f"label {labels[wrong[0]]} at offset {offset:,} (record {wrong[0]:,})"
        raise UserError(f"{file} is damaged.", expected=f"labels below {classes}", received=received)
    return labels, records[:, head:].reshape(count, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
