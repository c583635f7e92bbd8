"""Predictions for files and folders: each file a row, bad files with their reason, in constant memory."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from frostline.decode import FORMAT_OF_ENDING, UNREAD_ENDINGS, BadImage
from frostline.environment import cores
from frostline.errors import UserError
from frostline.serve.predictor import Predictor
from frostline.stored import read_stored

#: What a folder is searched for; images of a kind that is not read are rows with that reason.
_ENDINGS = frozenset(FORMAT_OF_ENDING) | UNREAD_ENDINGS


@dataclass(frozen=True)
class Row:
    """One file: its ``top`` classes with probabilities, best first, and whether the best is sure; or why it could not be read.

    ``sure`` is None where no threshold is known.
    """

    path: str
    top: tuple[tuple[str, float], ...] = ()
    error: str = ""
    sure: bool | None = None


def image_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files named, and those with an image's ending in the folders named, in order of their names."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        yield from (entry for entry in sorted(path.rglob("*")) if entry.suffix.lower() in _ENDINGS and entry.is_file())


def predict_files(predictor: Predictor, paths: Iterable[Path], top: int, sure_from: float | None = None) -> Iterator[Row]:
    """A row for each file, in order; files are read by as many threads as there are cores, ahead of the network.

    Answers of a probability below ``sure_from`` are not sure.

    Raises:
        UserError: no file is named, and the folders named hold no image.
    """
    files = image_files(paths)
    first = next(files, None)
    if first is None:
        raise UserError("There are no images there.", expected="image files, or folders that hold some")
    return _rows(predictor, chain([first], files), top, sure_from)


def _rows(predictor: Predictor, files: Iterator[Path], top: int, sure_from: float | None) -> Iterator[Row]:
    waiting: deque[_Block] = deque()
    for probabilities in predictor.stored(_images(predictor, files, waiting)):
        while waiting[0].all_bad:
            yield from waiting.popleft().rows()
        yield from waiting.popleft().rows(probabilities, predictor.classes, top, sure_from)
    for block in waiting:
        yield from block.rows()


@dataclass(frozen=True)
class _Block:
    """Some files; ``errors`` has the reason of each that could not be read, and nothing of the others."""

    files: list[Path]
    errors: dict[Path, str]

    @property
    def all_bad(self) -> bool:
        return all(path in self.errors for path in self.files)

    def rows(
        self,
        probabilities: Iterable[NDArray[np.float32]] = (),
        classes: Sequence[str] = (),
        top: int = 0,
        sure_from: float | None = None,
    ) -> Iterator[Row]:
        found = iter(probabilities)
        for path in self.files:
            name = str(path).encode("utf-8", "backslashreplace").decode()
            if path in self.errors:
                yield Row(name, error=self.errors[path])
                continue
            p = next(found)
            best = tuple((classes[k], float(p[k])) for k in np.argsort(-p, kind="stable")[:top])
            yield Row(name, best, sure=None if sure_from is None else bool(p.max() >= sure_from))


def _images(predictor: Predictor, files: Iterator[Path], waiting: deque[_Block]) -> Iterator[NDArray[np.uint8]]:
    """Blocks of images that could be read; ``waiting`` learns what each is before it is handed out."""
    preprocess = predictor.card.preprocess

    def read(path: Path) -> NDArray[np.uint8] | str:
        try:
            return read_stored(path, preprocess)
        except (BadImage, OSError) as error:
            return str(error)

    with ThreadPoolExecutor(cores(), thread_name_prefix="decode") as pool:
        while block := list(islice(files, predictor.batch)):
            found = list(pool.map(read, block))
            errors = {path: result for path, result in zip(block, found, strict=True) if isinstance(result, str)}
            waiting.append(_Block(block, errors))
            if images := [result for result in found if not isinstance(result, str)]:
                yield np.stack(images)


def write_rows(rows: Iterable[Row], form: str, out: TextIO) -> int:
    """Write rows as "table", "json" or "csv" as they come; returns how many files failed."""
    writer = {"table": _table, "json": _json, "csv": _csv}.get(form)
    if writer is None:
        raise UserError("There is no such format.", expected="table, json or csv", received=form)
    failed = 0

    def counted() -> Iterator[Row]:
        nonlocal failed
        for row in rows:
            failed += bool(row.error)
            yield row

    writer(counted(), out)
    return failed


def _table(rows: Iterator[Row], out: TextIO) -> None:
    for row in rows:
        said = "  ".join(f"{name} {probability:.1%}" for name, probability in row.top)
        doubt = "not sure: " if row.sure is False else ""
        out.write(f"{row.path}: {doubt}{said or 'not read: ' + row.error}\n")


def _json(rows: Iterator[Row], out: TextIO) -> None:
    out.write("[")
    for number, row in enumerate(rows):
        out.write(("," if number else "") + "\n  " + json.dumps(_as_dict(row), ensure_ascii=False))
    out.write("\n]\n")


def _as_dict(row: Row) -> dict[str, Any]:
    if row.error:
        return {"path": row.path, "error": row.error}
    told = {"path": row.path, "top": [{"class": name, "probability": round(p, 6)} for name, p in row.top]}
    return told if row.sure is None else {**told, "sure": row.sure}


def _csv(rows: Iterator[Row], out: TextIO) -> None:
    """One line per file and class, so that the columns are the same whatever could be read."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["path", "rank", "class", "probability", "sure", "error"])
    for row in rows:
        if row.error:
            writer.writerow([row.path, "", "", "", "", row.error])
        sure = "" if row.sure is None else str(row.sure).lower()
        writer.writerows([row.path, rank, name, round(p, 6), sure, ""] for rank, (name, p) in enumerate(row.top, 1))
