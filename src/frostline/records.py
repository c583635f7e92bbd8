"""Values on their way to a file that people and other programs read: strict JSON, and tables."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from frostline.files import write_bytes


def json_record(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` as strict JSON values: NumPy and paths become plain, and what is not finite null.

    The key "not_finite" then lists where it was and what it was, as in ["loss: nan"].
    """
    lost: list[str] = []
    record: dict[str, Any] = _plain(values, "", lost)
    return {**record, "not_finite": lost} if lost else record


def _plain(value: Any, where: str, lost: list[str]) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {_text(str(key)): _plain(item, f"{where}.{key}" if where else str(key), lost) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}.{i}", lost) for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        lost.append(_text(f"{where}: {value}"))
        return None
    return _text(str(value)) if isinstance(value, str | Path) else value


def _text(text: str) -> str:
    """Names of files may hold bytes that are no UTF-8, which Python keeps as lone surrogates; JSON may not."""
    return text.encode("utf-8", "backslashreplace").decode()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as UTF-8 CSV, atomically; null is an empty field, bytes that are no UTF-8 are escaped."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))
