"""Parquet tables: names of columns and rows of cells, without the columns that may be as large as a disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from frostline.errors import UserError


def read_parquet(path: Path, roles: Mapping[str, Collection[str]]) -> tuple[list[str], list[tuple[str, list[Any]]]]:
    """The columns' names, and for each row where it stands and its cells; None in columns that are not read.

    Args:
        path: the file.
        roles: names in lower case that a column of each role may have; "path" is one of them.

    Raises:
        UserError: without pyarrow, of a file that is no whole Parquet file, and of one that holds the images themselves.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError("Parquet tables need pyarrow.", hint="pip install 'frostline[train]', or save the table as CSV") from error
    try:
        file = parquet.ParquetFile(path)
        schema = file.schema_arrow
        if repeated := [name for name, count in Counter(schema.names).items() if count > 1 and name]:
            raise UserError(f"{path} has two columns of one name.", received=", ".join(repeated), hint="rename one of them")
        read = file.read(columns=[field.name for field in schema if _is_read(field, path, roles)])
        columns = [_cells(read, field.name, file.metadata.num_rows) for field in schema]
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError(f"Cannot read {path}.", expected="a Parquet file, whole", received=str(error)[:200]) from error
    rows = [(f"{path.name}:row {number}", list(cells)) for number, cells in enumerate(zip(*columns, strict=True), 1)]
    return list(schema.names), rows


def _is_read(field: Any, path: Path, roles: Mapping[str, Collection[str]]) -> bool:
    """Whether a column is read: what holds bytes or structures says nothing here, unless it has a role."""
    from pyarrow import types

    if not field.name:
        return False
    heavy = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_nested)
    if not any(is_so(field.type) for is_so in heavy):
        return True
    name = field.name.lower()
    if name in roles["path"] and not types.is_list(field.type):
        received = f"the column {field.name}: {field.type}"[:200]
        raise UserError(f"{path} holds the images themselves.", expected="a column of paths", received=received)
    return any(name in aliases for aliases in roles.values())


def _cells(read: Any, name: str, rows: int) -> list[Any]:
    if not name or name not in read.column_names:
        return [None] * rows
    try:
        return list(read.column(name).to_pylist())
    except ValueError:  # times finer than Python's
        return list(read.column(name).cast("string").to_pylist())
