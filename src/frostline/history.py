"""What training and extraction report as they go: a file of JSON lines, and the same for other programs.

A row is an epoch when it has "epoch" and a block of an extraction when it has "images" (seen so far). Usual keys beside these:
"seconds" (since the start), "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "interval" (of the validation
accuracy, [low, high]), "lr".
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frostline.errors import UserError
from frostline.files import named
from frostline.records import json_record, write_csv

Rows = Sequence[Mapping[str, Any]]


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append one row; it is on disk when this returns."""
    line = json.dumps(json_record(row), allow_nan=False, ensure_ascii=False) + "\n"
    with named(path), open(path, "ab") as stream:
        stream.write(line.encode())
        stream.flush()
        os.fsync(stream.fileno())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a history. A torn last line (the run was killed) is left out; any other damage is a ``UserError``."""
    *lines, _torn = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"Line {number} of {path} is damaged.", expected="a row as JSON", received=str(error)) from error
    return rows


def write_table(path: Path, rows: Rows) -> None:
    """The history as CSV, a column per key in the order of their first appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_csv(path, columns, ([row.get(name) for name in columns] for row in rows))


def check_tensorboard() -> None:
    """A ``UserError`` where TensorBoard, which ``write_events`` needs, is not installed."""
    try:
        import tensorboard.compat.proto.event_pb2
        import tensorboard.compat.proto.summary_pb2
        import tensorboard.summary.writer.event_file_writer  # noqa: F401
    except ImportError as error:
        raise UserError("TensorBoard is not installed.", hint="pip install 'frostline[tensorboard]'") from error


def write_events(folder: Path, rows: Rows) -> None:
    """The history's numbers as TensorBoard events, "epochs/…" over epochs and "blocks/…" over images; replaces ``folder``.

    Raises:
        UserError: TensorBoard is not installed.
    """
    check_tensorboard()
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    shutil.rmtree(folder, ignore_errors=True)
    writer = EventFileWriter(str(folder))
    for row in rows:
        group, step = ("epochs", row["epoch"]) if "epoch" in row else ("blocks", row.get("images", 0))
        group = row["stage"] if row.get("stage", "features") != "features" else group
        numbers = {name: value for name, value in row.items() if isinstance(value, int | float) and name not in ("epoch", "images")}
        values = [Summary.Value(tag=f"{group}/{name}", simple_value=value) for name, value in numbers.items()]
        writer.add_event(Event(step=step, wall_time=row.get("seconds", 0), summary=Summary(value=values)))
    writer.close()
