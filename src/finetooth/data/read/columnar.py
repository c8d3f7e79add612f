"""Parquet and Arrow: files of typed columns. Numbers of classes become the names that the file gives them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetooth.data.read.memory_limit import require_memory
from finetooth.data.read.table import (
    SHOWN,
    RawRow,
    RejectedRow,
    Table,
    columns_of,
    json_error,
    repeated,
    to_json_value,
)
from finetooth.errors import DataError

if TYPE_CHECKING:
    import pyarrow

CELL = 50  # bytes that a cell takes in Python, at least
SPOKEN = {".parquet": "Parquet", ".arrow": "Arrow"}


def read_columnar(path: Path, name: str, kind: str, content: bytes) -> Table:
    """Rows in order; `line` is the row's number from 1, since the file has no lines.

    kind: .parquet or .arrow (a stream, as `datasets` writes it, or a file). Raises DataError when it cannot
    be read or does not fit into memory.
    """
    import pyarrow

    try:
        found = _parquet(path, content) if kind == ".parquet" else _arrow(path, content)
        twice = repeated(found.column_names)
        items = found.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read as {SPOKEN[kind]}: {reason}") from None
    if twice is not None:
        raise DataError(f"{path}: the column {twice!r} is there twice. Rename one.")
    classes = _classes(found.schema.metadata or {})
    rows: list[RawRow] = []
    rejected: list[RejectedRow] = []
    for number, item in enumerate(items, 1):
        values = {key: _without_holes(to_json_value(value)) for key, value in item.items()}
        values |= {key: _class_of(values[key], names) for key, names in classes.items() if key in values}
        reason = json_error(values)
        if reason:
            rejected.append(RejectedRow(name, number, reason, repr(item)[:SHOWN]))
        else:
            rows.append(RawRow(number, values))
    notes = [f"{name}: {key} holds numbers of classes, read as their names." for key in classes]
    return Table(name, rows, columns_of(rows), rejected, notes)


def _parquet(path: Path, content: bytes) -> pyarrow.Table:
    import pyarrow
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))
    require_memory(path, file.metadata.num_rows * file.metadata.num_columns * CELL, "its rows take")
    return file.read()


def _arrow(path: Path, content: bytes) -> pyarrow.Table:
    import pyarrow

    source = pyarrow.BufferReader(content)
    opened = pyarrow.ipc.open_file if content.startswith(b"ARROW1") else pyarrow.ipc.open_stream
    found = opened(source).read_all()
    found.validate(full=True)  # offsets of a damaged file may point anywhere
    require_memory(path, found.num_rows * found.num_columns * CELL, "its rows take")
    return found


def _classes(metadata: Mapping[bytes, bytes]) -> dict[str, Sequence[str]]:
    """The columns that hold numbers of classes, each with the classes' names, as `datasets` writes them."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"].items()
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}
    found = {key: feature for key, feature in features if isinstance(feature, dict)}
    return {
        key: one["names"] for key, one in found.items() if one.get("_type") == "ClassLabel" and _named(one)
    }


def _named(feature: Mapping[str, Any]) -> bool:
    names = feature.get("names")
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _class_of(value: Any, names: Sequence[str]) -> Any:
    """The name of a class; -1 is no class; anything else as it is."""
    if not isinstance(value, int) or isinstance(value, bool) or value >= len(names):
        return value
    return names[value] if value >= 0 else None


def _without_holes(value: Any) -> Any:
    """Nested objects without their nulls: a column of objects gives each of them the keys of all."""
    if isinstance(value, dict):
        return {key: _without_holes(inner) for key, inner in value.items() if inner is not None}
    return [_without_holes(inner) for inner in value] if isinstance(value, list) else value
