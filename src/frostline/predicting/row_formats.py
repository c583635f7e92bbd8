"""What is said of each image, as a table, JSON, JSON lines, CSV or Parquet, written as the rows come."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from frostline.conformal import percentage
from frostline.errors import UserError, nearest
from frostline.serve.answers import PLACES, LabelSet

COLUMNS = ("path", "rank", "class", "probability", "sure", "error")
#: Where label sets were asked for, these too: what is promised, and the classes (in CSV as a JSON list), the same on each line of
#: an image.
SET_COLUMNS = ("coverage", "set")
#: Rows of a Parquet file's groups.
_GROUP = 4096


@dataclass(frozen=True)
class Row:
    """One image: its ``top`` classes with probabilities, best first, and whether the best is sure; or why it could not be read.

    ``sure`` is None where no threshold is known, ``label_set`` where it was not asked for.
    """

    path: str
    top: tuple[tuple[str, float], ...] = ()
    error: str = ""
    sure: bool | None = None
    label_set: LabelSet | None = None


class Counter:
    """Rows on their way to a file, counted.

    Attributes:
        rows: how many have passed; failed: how many of them could not be read.
    """

    def __init__(self, rows: int = 0, failed: int = 0) -> None:
        self.rows, self.failed = rows, failed

    def __call__(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.rows += 1
            self.failed += bool(row.error)
            yield row


def columns_of(sets: bool) -> tuple[str, ...]:
    """The columns of CSV and Parquet."""
    return (*COLUMNS, *SET_COLUMNS) if sets else COLUMNS


def _table(rows: Iterator[Row], out: TextIO, _fresh: bool, _sets: bool) -> None:
    for row in rows:
        said = "  ".join(f"{name} {probability:.1%}" for name, probability in row.top)
        doubt = "not sure: " if row.sure is False else ""
        held = "" if row.label_set is None else f"  ({percentage(row.label_set.coverage)} set: {', '.join(row.label_set.classes)})"
        out.write(f"{row.path}: {doubt}{said or 'not read: ' + row.error}{held}\n")


def _json(rows: Iterator[Row], out: TextIO, _fresh: bool, _sets: bool) -> None:
    out.write("[")
    for number, row in enumerate(rows):
        out.write(("," if number else "") + "\n  " + json.dumps(_as_dict(row), ensure_ascii=False))
    out.write("\n]\n")


def _jsonl(rows: Iterator[Row], out: TextIO, _fresh: bool, _sets: bool) -> None:
    for row in rows:
        out.write(json.dumps(_as_dict(row), ensure_ascii=False) + "\n")


def _as_dict(row: Row) -> dict[str, Any]:
    if row.error:
        return {"path": row.path, "error": row.error}
    told: dict[str, Any] = {"path": row.path, "top": [{"class": name, "probability": round(p, PLACES)} for name, p in row.top]}
    if row.sure is not None:
        told["sure"] = row.sure
    if row.label_set is not None:
        told["set"] = row.label_set.as_json()
    return told


def _csv(rows: Iterator[Row], out: TextIO, fresh: bool, sets: bool) -> None:
    """One line per file and class, so that the columns are the same whatever could be read."""
    writer = csv.writer(out, lineterminator="\n")
    if fresh:
        writer.writerow(columns_of(sets))
    for row in rows:
        held = row.label_set
        told = ([held.coverage, json.dumps(held.classes, ensure_ascii=False)] if held else ["", ""]) if sets else []
        if row.error:
            writer.writerow([row.path, "", "", "", "", " ".join(row.error.splitlines()), *told])
        sure = "" if row.sure is None else str(row.sure).lower()
        writer.writerows([row.path, rank, name, round(p, PLACES), sure, "", *told] for rank, (name, p) in enumerate(row.top, 1))


#: Of rows, the stream, whether it begins there (or rows stand above), and whether label sets were asked for.
_Write = Callable[[Iterator[Row], TextIO, bool, bool], None]
#: The forms of text, and what writes each.
TEXT: dict[str, _Write] = {"table": _table, "json": _json, "jsonl": _jsonl, "csv": _csv}
PARQUET = "parquet"
FORMS = (*TEXT, PARQUET)


def form_of(name: str | None, output: Path | None) -> str:
    """The form that was asked for, else that of the output's ending, else a table.

    Raises:
        UserError: there is no such form, or Parquet without a file to write, or without PyArrow.
    """
    form = name or (output.suffix[1:].lower() if output is not None else "table")
    if form not in FORMS:
        hint = nearest(form, list(FORMS)) if name else "--format table writes a table whatever the file is called"
        raise UserError("There is no such format.", expected=", ".join(FORMS), received=form or "no ending", hint=hint)
    if form == PARQUET and output is None:
        raise UserError("Parquet is written to a file.", expected="--output FILE.parquet")
    if form == PARQUET:
        _pyarrow()
    return form


def write_text(rows: Iterable[Row], form: str, out: TextIO, fresh: bool = True, sets: bool = False) -> None:
    """Write rows in a form of ``TEXT`` as they come; not ``fresh``: below rows that are there; ``sets``: rows have label sets."""
    TEXT[form](iter(rows), out, fresh, sets)


def write_parquet(rows: Iterable[Row], out: BinaryIO, sets: bool = False) -> None:
    """Write rows as Parquet with the columns of the CSV, a group at a time.

    Raises:
        UserError: PyArrow is missing.
    """
    arrow, parquet = _pyarrow()
    kinds = [arrow.string(), arrow.int32(), arrow.string(), arrow.float32(), arrow.bool_(), arrow.string()]
    kinds += [arrow.float64(), arrow.list_(arrow.string())] if sets else []
    schema = arrow.schema(list(zip(columns_of(sets), kinds, strict=True)))
    lines = (line for row in rows for line in _lines(row, sets))
    with parquet.ParquetWriter(out, schema) as writer:
        while group := list(islice(lines, _GROUP)):
            columns = [arrow.array(values, kind) for values, kind in zip(zip(*group, strict=True), kinds, strict=True)]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))


def _lines(row: Row, sets: bool) -> Iterator[tuple[Any, ...]]:
    held = row.label_set
    told = ((held.coverage, held.classes) if held else (None, None)) if sets else ()
    if row.error:
        yield (row.path, None, None, None, None, row.error, *told)
    yield from ((row.path, rank, name, p, row.sure, None, *told) for rank, (name, p) in enumerate(row.top, 1))


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError("Parquet needs PyArrow, which the base install leaves out.", hint="pip install pyarrow") from error
    return pyarrow, parquet
