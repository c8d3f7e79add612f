"""Parquet and Arrow files with columns added; all others keep their types and the file its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from finetooth.data.write.text import Cells


def add_columns(kind: str, content: bytes, names: Sequence[str], cells: Mapping[int, Cells]) -> bytes:
    """The file with these columns at its end: numbers as float64, others as text. cells: by row, from 1.

    kind: .parquet or .arrow, whose form (stream or file) stays, as does the compression of a Parquet file.
    """
    import pyarrow
    import pyarrow.parquet

    source, sink = pyarrow.BufferReader(content), pyarrow.BufferOutputStream()
    compression = "snappy"
    if kind == ".parquet":
        file = pyarrow.parquet.ParquetFile(source)
        table = file.read()
        if file.metadata.num_row_groups and file.metadata.num_columns:
            compression = file.metadata.row_group(0).column(0).compression
    else:
        whole = content.startswith(b"ARROW1")
        opened = pyarrow.ipc.open_file if whole else pyarrow.ipc.open_stream
        table = opened(source).read_all()
    types: dict[str, str] = {}
    for position, name in enumerate(names):
        values = [cells[row][position] if row in cells else None for row in range(1, table.num_rows + 1)]
        number = any(isinstance(value, float) for value in values)
        types[name] = "float64" if number else "string"
        column = pyarrow.array(values, pyarrow.float64() if number else pyarrow.string())
        table = table.append_column(name, column)
    table = table.replace_schema_metadata(_metadata(table.schema.metadata, types))
    if kind == ".parquet":
        pyarrow.parquet.write_table(table, sink, compression=compression)
    else:
        written = pyarrow.ipc.new_file if whole else pyarrow.ipc.new_stream
        with written(sink, table.schema) as writer:
            writer.write_table(table)
    return bytes(sink.getvalue())


def _metadata(metadata: Mapping[bytes, bytes] | None, types: Mapping[str, str]) -> Any:
    """The schema's metadata; that of `datasets` lists every column, or it refuses the file."""
    try:
        about = json.loads((metadata or {})[b"huggingface"])
        features = about["info"]["features"]
        features |= {name: {"dtype": dtype, "_type": "Value"} for name, dtype in types.items()}
    except (KeyError, TypeError, ValueError):
        return metadata
    return {**(metadata or {}), b"huggingface": json.dumps(about).encode()}
