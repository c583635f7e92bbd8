"""A long file of rows that survives an interruption: written beside its name, continued there, renamed when it is whole."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from frostline.data.rows import digest_bytes16
from frostline.errors import UserError
from frostline.files import named, sync_folder, write_json
from frostline.predicting.items import Item
from frostline.predicting.row_formats import columns_of

#: Forms whose rows are lines of their own; the others are only whole when they are finished.
RESUMABLE = ("jsonl", "csv")


class Unfinished:
    """The rows of ``output`` so far, in OUTPUT.partial, and with what they were made, in OUTPUT.partial.json.

    Attributes:
        rows, failed: images that are answered there already, and how many of them could not be read.
        mended: bytes at the end that were no whole row, and were cut off.
    """

    def __init__(self, output: Path, form: str, made_with: Mapping[str, Any], resume: bool) -> None:
        self.output, self.form, self.made_with = output, form, json.loads(json.dumps(dict(made_with)))
        self.path, self.about = (output.with_name(f"{output.name}.partial{ending}") for ending in ("", ".json"))
        self.rows = self.failed = self.mended = 0
        self._done, self._left_out = np.empty(0, "S16"), np.empty(0, np.uint32)
        if resume and not self.path.exists() and output.exists():
            raise UserError(f"{output} is finished: there is nothing to resume.", hint="leave --resume out to write it anew")
        if resume and self.path.exists():
            self._take_up()
        elif self.path.exists():
            raise UserError(
                f"There are rows of an interrupted prediction in {self.path}.",
                hint=f"--resume goes on with them; delete {self.path} to begin anew",
            )
        else:
            output.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.about, self.made_with)

    def _take_up(self) -> None:
        try:
            before = json.loads(self.about.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{self.about} cannot be read, so {self.path} cannot be continued.", received=str(error)) from error
        names = sorted(name for name in {*before, *self.made_with} if before.get(name) != self.made_with.get(name))
        if names:
            raise UserError(
                f"{self.path} was made with other settings.",
                expected=", ".join(f"{name} {before.get(name)}" for name in names),
                received=", ".join(f"{name} {self.made_with.get(name)}" for name in names),
                hint=f"use those again, or delete {self.path} to begin anew",
            )
        self._mend()

    def _mend(self) -> None:
        """Learn which images are answered, and cut off what is no whole row."""
        digests, end = bytearray(), 0
        top, columns = int(self.made_with["top"]), columns_of(self.made_with.get("sets") is not None)
        read = {"jsonl": _jsonl_rows, "csv": _csv_rows}[self.form]
        with open(self.path, "rb") as stream:
            for name, failed, whole_to in read(stream, top, columns):
                end = whole_to
                if name is None:  # the header
                    continue
                digests += _digest(name)
                self.rows += 1
                self.failed += failed
        self.mended = self.path.stat().st_size - end
        os.truncate(self.path, end)
        self._done = np.sort(np.frombuffer(bytes(digests), "S16"))
        self._left_out = np.zeros(len(self._done), np.uint32)

    @property
    def unasked(self) -> int:
        """Rows kept from before of images that are not among the items that ``missing`` was given, once it is through them."""
        return len(self._done) - int(self._left_out.sum())

    def missing(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items that have no row yet; of a name that is there several times as many as have none."""
        return (item for item in items if not self._has(item.name))

    def _has(self, name: str) -> bool:
        if not len(self._done):
            return False
        wanted = np.array(_digest(name), "S16")
        first, end = (int(np.searchsorted(self._done, wanted, side)) for side in ("left", "right"))
        # as bytes: NumPy's text forgets zeros at the end
        if self._done[first : first + 1].tobytes() != wanted.tobytes() or self._left_out[first] >= end - first:
            return False
        self._left_out[first] += 1
        return True

    @contextmanager
    def rows_below(self) -> Iterator[tuple[TextIO, bool]]:
        """The file to write more rows to, and whether it begins here. It gets its name at the end, unless something is raised."""
        fresh = not self.path.exists() or self.path.stat().st_size == 0
        with named(self.path):
            with open(self.path, "a", encoding="utf-8", newline="") as out:
                yield out, fresh
                out.flush()
                os.fsync(out.fileno())
            os.replace(self.path, self.output)
        self.about.unlink(missing_ok=True)
        sync_folder(self.output.parent)


def _digest(name: str) -> bytes:
    return digest_bytes16(name.encode())


_Found = tuple[str | None, bool, int]


def _whole_lines(stream: Iterable[bytes], parse: Callable[[bytes], Any]) -> Iterator[tuple[Any, int]]:
    """Each line that can be read with where it ends; nothing from the first on that cannot."""
    end = 0
    for line in stream:
        try:
            if not line.endswith(b"\n"):
                return
            found = parse(line)
        except (ValueError, KeyError, TypeError, csv.Error):
            return
        end += len(line)
        yield found, end


def _jsonl_rows(stream: Iterable[bytes], _top: int, _columns: tuple[str, ...]) -> Iterator[_Found]:
    def parse(line: bytes) -> tuple[str, bool]:
        row = json.loads(line)
        return str(row["path"]), "error" in row or not row["top"]

    for (name, failed), end in _whole_lines(stream, parse):
        yield name, failed, end


def _csv_rows(stream: Iterable[bytes], top: int, columns: tuple[str, ...]) -> Iterator[_Found]:
    """An image has as many lines as classes are shown; it is whole with the last of them."""

    def parse(line: bytes) -> dict[str, str]:
        (values,) = csv.reader([line.decode()])
        return dict(zip(columns, values, strict=True))

    for row, end in _whole_lines(stream, parse):
        if tuple(row.values()) == columns:
            yield None, False, end
        elif row["error"] or int(row["rank"]) == top:
            yield row["path"], bool(row["error"]), end
