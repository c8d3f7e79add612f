"""Parquet and Arrow files. Class indices are replaced by the class names stored in the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetooth.data.read.memory_limit import BOMB, limited_memory, require_memory, require_plausible
from finetooth.data.read.table import (
    SHOWN,
    RawRow,
    RejectedRow,
    Table,
    columns_of,
    first_duplicate,
    json_error,
    to_json_value,
)
from finetooth.errors import DataError

CELL = 50  # bytes per cell in Python, at least
FORMAT_NAMES = {".parquet": "Parquet", ".arrow": "Arrow"}


def read_columnar(path: Path, name: str, kind: str, content: bytes) -> Table:
    """The rows of a file, see `_rows`, which gets no more memory than the reader of any other file."""
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401  # here, as a library needs memory of its own

    with limited_memory(path):
        table = _rows(path, name, kind, content)
    return table


def _rows(path: Path, name: str, kind: str, content: bytes) -> Table:
    """Rows in order; `line` is the row number from 1, as the file has no lines.

    kind: .parquet or .arrow (in stream format, as written by `datasets`, or file format). Raises DataError if
    it cannot be read or does not fit into memory.
    """
    import pyarrow

    try:
        buffer = pyarrow.BufferReader(content)
        if kind == ".parquet":
            import pyarrow.parquet

            file = pyarrow.parquet.ParquetFile(buffer)
            groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
            chunks = [group.column(at) for group in groups for at in range(group.num_columns)]
            # Values, as one row may have any number of them in a list.
            require_memory(path, sum(chunk.num_values for chunk in chunks) * CELL, "needs")
            require_plausible(path, sum(chunk.total_uncompressed_size for chunk in chunks), len(content))
            _require_small_texts(path, content)
            table = file.read()
        else:
            opened = pyarrow.ipc.open_file if content.startswith(b"ARROW1") else pyarrow.ipc.open_stream
            table = opened(buffer).read_all()
            table.validate(full=True)  # offsets in a damaged file may point anywhere
            require_memory(path, table.num_rows * table.num_columns * CELL, "needs")
            _require_small_dictionaries(path, table)
        duplicate = first_duplicate(table.column_names)
        items = table.to_pylist()  # KeyError: an unknown time zone
        changed = {field.name: field.type for field in table.schema if _changes(field.type)}
    except MemoryError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, KeyError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read as {FORMAT_NAMES[kind]}: {reason}") from None
    if duplicate is not None:
        raise DataError(f"{path}: duplicate column {duplicate!r}. Rename one.")
    classes = _class_names(table.schema.metadata or {})
    rows: list[RawRow] = []
    rejected: list[RejectedRow] = []
    for number, item in enumerate(items, 1):
        item |= {key: _exact(item[key], type) for key, type in changed.items()}
        values = {key: _without_nulls(to_json_value(value)) for key, value in item.items()}
        for key, names in classes.items():
            index = values.get(key)
            if isinstance(index, int) and not isinstance(index, bool) and index < len(names):
                values[key] = names[index] if index >= 0 else None  # -1: no class
        reason = json_error(values)
        if reason:
            rejected.append(RejectedRow(name, number, reason, repr(item)[:SHOWN]))
        else:
            rows.append(RawRow(number, values))
    notes = [f"{name}: {key} has class indices, read as the class names." for key in classes]
    return Table(name, rows, columns_of(rows), rejected, notes)


def _changes(type: Any) -> bool:
    """Whether values of this Arrow type, or in it, look different as Python values: see `_exact`."""
    from pyarrow import types

    parts = [type.field(k).type for k in range(type.num_fields)]
    if types.is_dictionary(type):
        parts.append(type.value_type)
    return types.is_float16(type) or types.is_float32(type) or types.is_map(type) or any(map(_changes, parts))


def _exact(value: Any, type: Any) -> Any:
    """A value of an Arrow type, as Python has it, so that it prints as its own type does.

    A float32 or float16 is the shortest number that it reads; a map, in Python a list of pairs, is an object.
    """
    import numpy as np
    from pyarrow import types

    if value is None or not _changes(type):
        return value
    if types.is_floating(type):
        return float(str((np.float16 if types.is_float16(type) else np.float32)(value)))
    if types.is_dictionary(type):
        return _exact(value, type.value_type)
    if types.is_map(type):
        return {str(key): _exact(inner, type.item_type) for key, inner in value}
    if types.is_struct(type):
        return {field.name: _exact(value[field.name], field.type) for field in type}
    return [_exact(inner, type.value_type) for inner in value]


def _require_small_texts(path: Path, content: bytes) -> None:
    """Raise DataError where the texts of a Parquet file need too much memory: it stores equal ones once.

    Read without unpacking them, and only where one text in every row would be too much.
    """
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))
    columns = [file.metadata.schema.column(at) for at in range(file.metadata.num_columns)]
    texts = [
        column.path for column in columns if column.physical_type == "BYTE_ARRAY" and "." not in column.path
    ]
    shared = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content), read_dictionary=texts)
    size = bound = 0
    for group in range(file.metadata.num_row_groups):
        facts = file.metadata.row_group(group)
        for at, column in enumerate(columns):
            chunk = facts.column(at)
            if column.physical_type != "BYTE_ARRAY":
                continue
            bound += chunk.num_values * chunk.total_uncompressed_size
            if bound < BOMB:  # of all groups until here: many small ones are as large as a big one
                continue
            if "." in column.path:  # within lists or structs: so many rows that even the largest texts fit
                rows = max(1, BOMB // max(chunk.total_uncompressed_size, 1))
                for batch in file.iter_batches(rows, [group], [column.path]):
                    size += batch.nbytes
                    require_memory(path, size, "needs")
                continue
            for part in shared.read_row_group(group, [column.path]).column(0).chunks:
                lengths = pyarrow.compute.binary_length(part.dictionary)
                size += pyarrow.compute.sum(lengths.take(part.indices.drop_null())).as_py() or 0
                require_memory(path, size, "needs")


def _require_small_dictionaries(path: Path, table: Any) -> None:
    """Raise DataError where texts of an Arrow table need too much memory: it may store equal ones once."""
    import pyarrow.compute
    from pyarrow import types

    size = 0
    for column in table.columns:
        for part in column.chunks:
            if types.is_dictionary(part.type) and _is_text(part.type.value_type):
                lengths = pyarrow.compute.binary_length(part.dictionary)
                size += pyarrow.compute.sum(lengths.take(part.indices.drop_null())).as_py() or 0
            elif types.is_run_end_encoded(part.type) and _is_text(part.type.value_type):
                longest = pyarrow.compute.max(pyarrow.compute.binary_length(part.values)).as_py() or 0
                size += len(part) * longest
            require_memory(path, size, "needs")


def _is_text(type: Any) -> bool:
    from pyarrow import types

    return any(
        test(type)
        for test in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    )


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Columns of class indices with their class names, from the schema metadata that `datasets` writes."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"].items()
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}
    found: dict[str, list[str]] = {}
    for key, feature in features:
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
            names = feature.get("names")
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                found[key] = names
    return found


def _without_nulls(value: Any) -> Any:
    """Nested objects without nulls, because a column of objects gives each of them the keys of all."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value
