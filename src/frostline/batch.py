"""Predictions for files and folders: each file a row, bad files with their reason, in constant memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from frostline.decode import ENDINGS, BadImage, decode_rgb
from frostline.errors import UserError
from frostline.preprocess import stored_image
from frostline.serve.predictor import Predictor


@dataclass(frozen=True)
class Row:
    """One file: its ``top`` classes with probabilities, best first; or why it could not be read."""

    path: str
    top: tuple[tuple[str, float], ...] = ()
    error: str = ""


def image_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files named, and those with an image's ending in the folders named, in order of their names."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        yield from (entry for entry in sorted(path.rglob("*")) if entry.suffix.lower() in ENDINGS and entry.is_file())


def predict_files(predictor: Predictor, paths: Iterable[Path], top: int) -> Iterator[Row]:
    """A row for each file, in order."""
    files = image_files(paths)
    while block := list(islice(files, predictor.batch)):
        yield from _block(predictor, block, min(top, len(predictor.classes)))


def _block(predictor: Predictor, files: list[Path], top: int) -> Iterator[Row]:
    preprocess = predictor.card.preprocess
    images: list[NDArray[np.uint8]] = []
    errors: dict[Path, str] = {}
    for path in files:
        try:
            images.append(stored_image(decode_rgb(path, at_least=preprocess.stored), preprocess))
        except (BadImage, OSError) as error:
            errors[path] = str(error)
    found: Iterator[NDArray[np.float32]] = iter(next(predictor.stored([np.stack(images)])) if images else ())
    for path in files:
        if path in errors:
            yield Row(str(path), error=errors[path])
            continue
        probabilities = next(found)
        best = np.argsort(-probabilities, kind="stable")[:top]
        yield Row(str(path), tuple((predictor.classes[k], float(probabilities[k])) for k in best))


def write_rows(rows: Iterable[Row], form: str, out: TextIO) -> int:
    """Write rows as "table", "json" or "csv"; returns how many files failed."""
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
        out.write(f"{row.path}: {said or 'not read: ' + row.error}\n")


def _json(rows: Iterator[Row], out: TextIO) -> None:
    out.write("[")
    for number, row in enumerate(rows):
        out.write(("," if number else "") + "\n  " + json.dumps(_as_dict(row), ensure_ascii=False))
    out.write("\n]\n")


def _as_dict(row: Row) -> dict[str, Any]:
    if row.error:
        return {"path": row.path, "error": row.error}
    return {"path": row.path, "top": [{"class": name, "probability": round(p, 6)} for name, p in row.top]}


def _csv(rows: Iterator[Row], out: TextIO) -> None:
    writer = csv.writer(out)
    header = True
    for row in rows:
        if header:
            count = max(len(row.top), 1)
            writer.writerow(["path", "error", *(f"{what}_{k + 1}" for k in range(count) for what in ("class", "probability"))])
            header = False
        writer.writerow([row.path, row.error, *(value for name, p in row.top for value in (name, round(p, 6)))])
