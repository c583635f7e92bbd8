"""The door for data: whatever a person names becomes a Source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from frostline.data.cifar import PUBLISHED, load_cifar
from frostline.data.folders import scan_folder
from frostline.data.imageset import ImageSet, Source
from frostline.data.rows import build_source, pixel_digests
from frostline.data.tables import TABLE_ENDINGS, read_table
from frostline.decode import SMALL
from frostline.errors import UserError, nearest

_KNOWN = "cifar10, cifar100, cifar10:PATH, cifar100:PATH, digits, a folder of class folders, or a .csv, .tsv or .parquet table"


def load_source(
    data: str | Path,
    *,
    strict: bool = False,
    unknown_as_wrong: bool = False,
    group: str = "",
    small: int = SMALL,
    training: bool = True,
) -> Source:
    """Find, check and label the images of a data set.

    Args:
        data: what to load: ``cifar10``, ``cifar100`` (downloaded once), ``cifar10:PATH``, ``cifar100:PATH`` (folder or .tar.gz),
            ``digits`` (scikit-learn's 1,797 images of 8x8), a folder of class folders, with or without train/, val/ and test/ above
            them, or a table of path and label.
        strict: any image that would be left out is an error, which lists all of them.
        unknown_as_wrong: test images of classes that training lacks are kept, and count as wrong.
        group: the table's column whose equal values no split may divide.
        small: a folder or table whose images (those of train and validation) all have one size, with no side longer than this,
            becomes arrays instead of photos. Test images of other sizes stay files, to be brought to the arrays' size.
        training: False, to judge a model: data without training images, or of one class, will do; the classes are those of all
            splits.

    Returns:
        The Source: class names in one order for all splits; every file or row that was found is either in a set or in ``rejects``.

    Raises:
        UserError: nothing usable there, or not single-label classification.
    """
    source = _load(str(data), unknown_as_wrong, group, small, training)
    if strict and source.rejects:
        # all of them, however many: nothing is written that has the rest
        listed = "\n".join(f"    {reject.path}: {reject.reason}" for reject in source.rejects)
        message = f"{len(source.rejects):,} of {source.found:,} images of {source.name} are unusable, and --strict was given:"
        raise UserError(
            f"{message}\n{listed}", hint="repair or remove them, or leave --strict out: they are then left out and listed"
        )
    return source


def _load(data: str, unknown_as_wrong: bool, group: str, small: int, training: bool) -> Source:
    options: dict[str, Any] = {"unknown_as_wrong": unknown_as_wrong, "small": small, "training": training}
    name, _, place = data.partition(":")
    path = Path(data).expanduser().absolute()
    is_table = path.suffix.lower() in TABLE_ENDINGS and not path.is_dir()
    if group and not is_table:
        raise UserError("Groups need a table.", expected="a .csv, .tsv or .parquet table with a column to group by", received=data)
    if name in PUBLISHED and (place or data == name):
        return _noting_folder(load_cifar(name, place, training), path)
    if data == "digits":
        return _noting_folder(_load_digits(), path)
    if is_table and path.exists():
        return replace(build_source(data, path, read_table(path, group=group), **options), group=group)
    if path.is_dir():
        return build_source(data, path, scan_folder(path), **options)
    if path.exists():
        raise UserError(f"{data} is no data set.", expected=_KNOWN, received=f"a file ending in {path.suffix!r}")
    hint = "" if "/" in data or "." in data else nearest(data, [*PUBLISHED, "digits"])
    raise UserError(f"There is no data set {data!r}.", expected=_KNOWN, received="no such folder or file", hint=hint)


def _noting_folder(source: Source, path: Path) -> Source:
    """The source; where a folder has its name, with a note that it is not that folder."""
    if not path.is_dir():
        return source
    note = f"This is the data set called {path.name}, and not the folder of that name here: ./{path.name} is for the folder."
    return replace(source, notes=(*source.notes, note))


def _load_digits() -> Source:
    """Handwritten digits (UCI, 1998) embedded in scikit-learn: grey 0..16, here as RGB 0..255. One set: test is cut later."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError("The digits come with scikit-learn.", hint="pip install 'frostline[train]'") from error
    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    pixels = np.repeat(grey[..., None], 3, axis=3)
    ids = np.array([f"train/{number:05d}" for number in range(len(pixels))])
    classes = tuple(map(str, range(10)))
    images = ImageSet("train", classes, bunch.target.astype(np.int64), ids, pixel_digests(pixels), pixels=pixels)
    return Source("digits", {"train": images}, found=len(images))
