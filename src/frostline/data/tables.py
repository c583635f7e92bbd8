"""A table of path and label, with optional split and group columns: CSV (comma, semicolon or tab) or Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.data.imageset import Reject
from frostline.data.parquet import read_parquet
from frostline.data.rows import SPLIT_NAMES, Found, Row, class_name, shown
from frostline.errors import UserError, nearest

#: The names, lower case, under which each column is known.
COLUMNS = {
    "path": ("path", "image", "file", "filename", "filepath", "image_path", "file_name"),
    "label": ("label", "class", "target", "y"),
    "split": ("split",),
    "group": ("group",),
}
TABLE_ENDINGS = (".csv", ".tsv", ".parquet")
_MISSING = frozenset({"", "nan", "<na>", "null"})
_BOXES = ({"xmin", "ymin"}, {"x_min", "y_min"}, {"bbox"}, {"x1", "y1", "x2", "y2"}, {"mask"})
#: A table in which this share of the images has several labels is multi-label; below, those images are rejects.
_MULTI_LABEL_SHARE = 0.1


@dataclass(frozen=True)
class Table:
    """Cells as read: ``columns`` names them, ``rows`` pairs a row's name in messages ("labels.csv:7") with its cells."""

    path: Path
    columns: list[str]
    rows: list[tuple[str, list[Any]]]


def read_table(path: Path, *, group: str = "") -> Found:
    """The rows of a table; relative paths are relative to the table's folder.

    Labels are texts; whole numbers become theirs, also where missing cells have turned them into 3.0. Rows without a path, label or
    split, rows that repeat one before, and images with two labels are rejects, named by file and row.

    Args:
        path: the .csv, .tsv or .parquet file.
        group: the column whose equal values no split may divide; empty: a column called "group", where there is one.

    Raises:
        UserError: unreadable, no such column, no rows, unknown split names, or not single-label classification.
    """
    table = Table(path, *read_parquet(path, COLUMNS)) if path.suffix.lower() == ".parquet" else read_csv(path)
    where = _find_columns(table, group)
    if not table.rows:
        raise UserError(f"{path} has no rows.", expected="a header and a row for each image")
    _refuse_short(table)
    found = Found(grouped="group" in where)
    if found.grouped:
        found.notes.append(f"Images with one value in column {table.columns[where['group']]!r} stay in one split.")
    numeric = _as_numbers(path, [cells[where["label"]] for _, cells in table.rows if len(cells) == len(table.columns)])
    for name, cells in table.rows:
        _add_row(found, table, where, name, cells, numeric)
    _refuse_unknown_splits(table, where)
    _refuse_multi_label(table, found)
    _reject_repeats(table, found)
    return found


def read_csv(path: Path, expected: str = "a header with columns path and label, then a row for each image") -> Table:
    """Header and cells of a .csv or .tsv file, divided by whichever of , ; and tab its header has most of; blank lines are skipped.

    Raises:
        UserError: unreadable, no UTF-8, a quote that is never closed, or empty: then ``expected`` says what should be there.
    """
    text = _decode(path)
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max("\t;," if path.suffix.lower() == ".tsv" else ",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[str, list[Any]]] = []
    start = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((f"{path.name}:{start}", list(cells)))
            start = reader.line_num + 1
    except csv.Error as error:
        expected = "every opened quote closed, fields of at most 128 KB"
        raise UserError(f"Cannot read {path} from line {start} on.", expected=expected, received=str(error)) from error
    if not rows:
        raise UserError(f"{path} is empty.", expected=expected)
    return Table(path, [cell.strip() for cell in rows[0][1]], rows[1:])


def _decode(path: Path) -> str:
    try:
        data = path.read_bytes()
        if b"\0" in data.partition(b"\n")[0]:
            raise UserError(
                f"{path} is not UTF-8 text.", received="zero bytes: UTF-16 or a binary file", hint="save it as CSV UTF-8"
            )
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        received = f"byte 0x{error.object[error.start]:02x} in line {line}"
        raise UserError(f"{path} is not UTF-8 text.", received=received, hint="save it as CSV UTF-8") from error
    except OSError as error:
        raise UserError(f"Cannot read {path}.", received=error.strerror or str(error)) from error


def refuse_repeated(path: Path, names: Sequence[str]) -> None:
    """Refuse a header in which a name stands twice. Columns without a name may: spreadsheets save empty ones to the right."""
    repeated = [name for name, count in Counter(names).items() if count > 1 and name]
    if repeated:
        hint = "rename one of them"
        raise UserError(f"{path} has two columns of one name.", received=", ".join(map(repr, repeated)), hint=hint)


def _find_columns(table: Table, group: str) -> dict[str, int]:
    names = [name.lower() for name in table.columns]
    refuse_repeated(table.path, names)
    if any(box <= set(names) for box in _BOXES):
        raise UserError(
            f"{table.path} describes object detection or segmentation.", expected=_TASK, received=", ".join(table.columns)
        )
    found = {}
    for role, aliases in COLUMNS.items():
        present = [alias for alias in aliases if alias in names]
        if len(present) > 1:
            problem = "several label columns (multi-label)" if role == "label" else f"several {role} columns"
            raise UserError(f"{table.path} has {problem}.", expected=_TASK, received=", ".join(present))
        if present:
            found[role] = names.index(present[0])
    _require_columns(table, found)
    if group:
        if group not in table.columns:
            raise UserError(f"{table.path} has no column {group!r} to group by.", hint=nearest(group, table.columns))
        found["group"] = table.columns.index(group)
    return found


_TASK = "single-label classification: one path and one label in each row"


def _require_columns(table: Table, found: dict[str, int]) -> None:
    if "path" in found and "label" not in found and _one_hot(table, found["path"]):
        raise UserError(
            f"{table.path} has a 0/1 column for each class (multi-label).", expected=_TASK, hint="make one label column"
        )
    for role in ("path", "label"):
        if role not in found:
            hint = ""
            if any(re.search(r"\.\w{3,4}$", name) for name in table.columns):
                hint = "the table seems to have no header: add a first line path,label"
            expected = f"a header with one of {', '.join(COLUMNS[role])}"
            raise UserError(f"{table.path} has no {role} column.", expected=expected, received=", ".join(table.columns), hint=hint)


def _one_hot(table: Table, path_column: int) -> bool:
    cells = [cell for _, row in table.rows[:1000] for number, cell in enumerate(row) if number != path_column]
    return len(table.columns) > 2 and bool(cells) and all(str(cell).strip() in {"0", "1", "0.0", "1.0"} for cell in cells)


def _refuse_short(table: Table) -> None:
    """A delimiter that stands unquoted in every row is a mistake in the table, not in its rows."""
    if not any(len(cells) == len(table.columns) for _, cells in table.rows):
        name, cells = table.rows[0]
        raise UserError(
            f"No row of {table.path} has as many fields as its header.",
            expected=f"{len(table.columns)} fields: {', '.join(table.columns)}",
            received=f"{len(cells)} in {name}",
        )


def _as_numbers(path: Path, labels: Sequence[Any]) -> bool:
    """Whether labels are whole numbers, some of them as 3.0; refuses numbers with fractions, which are no classes."""
    texts = [text for text in (_text(label) for label in labels) if text]
    if not texts or not all(re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", text) for text in texts):
        return False
    if any(not float(text).is_integer() for text in texts):
        broken = next(text for text in texts if not float(text).is_integer())
        raise UserError(f"The labels of {path} are measurements (regression).", expected=_TASK, received=f"the label {broken}")
    return any("." in text for text in texts)


def _text(cell: Any) -> str:
    """A cell as trimmed text; empty where it is missing."""
    text = "" if cell is None else class_name(str(cell))
    return "" if text.lower() in _MISSING else text


def _add_row(found: Found, table: Table, where: dict[str, int], name: str, cells: list[Any], numeric: bool) -> None:
    if len(cells) != len(table.columns):
        found.rejects.append(Reject(name, f"{len(cells)} fields where the header has {len(table.columns)}"))
        return
    label, raw = _text(cells[where["label"]]), str(cells[where["path"]] or "")
    split = _text(cells[where["split"]]).lower() if "split" in where else "train"
    named = SPLIT_NAMES.get(split, split)
    missing = [role for role, text in (("path", _text(raw)), ("label", label), ("split", split)) if not text]
    if missing:
        found.rejects.append(Reject(name, f"no {' and no '.join(missing)}", named))
        return
    if re.match(r"[a-z][a-z0-9+.-]+://", raw):
        found.rejects.append(Reject(f"{name} ({shown(raw)})", "an address, not a file: download it first", named))
        return
    label = label.partition(".")[0] if numeric else label
    folder = Path(os.path.normpath(table.path.parent))
    file = _file(folder, raw)
    inside = file.is_relative_to(folder)
    id_ = shown((file.relative_to(folder) if inside else file).as_posix())
    group = _text(cells[where["group"]]) if "group" in where else ""
    found.rows.append(Row(named, label, file, id_, f"{name} ({id_})", group))


def _file(folder: Path, raw: str) -> Path:
    """The file that a cell names, as it is written or, where there is none, as it may be meant.

    Spaces stand around it, it was written on Windows, or its accents are composed otherwise than in the name on the disk.
    """
    text = raw.strip()
    meant = [raw, text]
    if os.sep == "/" and "\\" in text:
        meant.append(text.replace("\\", "/"))
    if not text.isascii():
        meant += [unicodedata.normalize(form, each) for each in meant[1:] for form in ("NFC", "NFD")]
    files = [Path(os.path.normpath(folder / each)) for each in dict.fromkeys(meant)]
    if len(files) == 1:
        return files[0]
    return next((file for file in files if os.path.lexists(file)), Path(os.path.normpath(folder / text)))


def _refuse_unknown_splits(table: Table, where: dict[str, int]) -> None:
    if "split" not in where:
        return
    texts = [_text(cells[where["split"]]) for _, cells in table.rows if len(cells) == len(table.columns)]
    unknown = Counter(text for text in texts if text and text.lower() not in SPLIT_NAMES)
    if unknown:
        listed = ", ".join(f"{text!r} ({count} rows)" for text, count in unknown.most_common(5))
        raise UserError(f"{table.path} has unknown splits.", expected="train, validation (val, valid) or test", received=listed)


def _refuse_multi_label(table: Table, found: Found) -> None:
    """Refuse cells that hold several labels: a list, labels joined by |, or by ; or a comma where each also stands alone."""
    alone = {row.label for row in found.rows}
    for row in found.rows:
        if _several(row.label, alone):
            raise UserError(f"{table.path} is multi-label.", expected=_TASK, received=f"the label {row.label!r} in {row.where}")


def _several(label: str, alone: set[str]) -> bool:
    if "|" in label or label.startswith(("['", '["')) or _is_json_list(label):
        return True
    return any(separator in label and {part.strip() for part in label.split(separator)} <= alone for separator in ";,")


def _is_json_list(label: str) -> bool:
    try:
        return isinstance(json.loads(label), list)
    except (ValueError, RecursionError):
        return False


def _reject_repeats(table: Table, found: Found) -> None:
    """Keep the first of equal rows; reject every row of an image that one split labels twice, since nobody knows which is right."""
    of_image: dict[tuple[str, Path], list[Row]] = defaultdict(list)
    for row in found.rows:
        of_image[row.split, row.path].append(row)
    torn = {key: rows for key, rows in of_image.items() if len({row.label for row in rows}) > 1}
    if torn and len(torn) > _MULTI_LABEL_SHARE * len(of_image):
        rows = next(iter(torn.values()))
        received = f"{len(torn)} of {len(of_image)} images with several labels, the first {rows[0].where}"
        raise UserError(f"{table.path} is multi-label, or contradicts itself.", expected=_TASK, received=received)
    kept = []
    for key, rows in of_image.items():
        if key in torn:
            labels = " and ".join(repr(label) for label in dict.fromkeys(row.label for row in rows))
            found.rejects += [Reject(row.where, f"its image is labelled {labels}", row.split) for row in rows]
            continue
        kept.append(rows[0])
        found.rejects += [Reject(row.where, f"repeats {rows[0].where}", row.split) for row in rows[1:]]
    found.rows = kept
