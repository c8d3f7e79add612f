"""Files, lists of dicts and DataFrames become rows of named values. What is broken is set aside, with why.

Nothing is guessed: a line that does not parse is a broken row with its line number, never half a row.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetooth.config.values import is_files
from finetooth.data.read.files import read_file
from finetooth.data.read.sources import Source, find_files
from finetooth.data.read.table import RawRow, RejectedRow, Table, columns_of, json_error, to_json_value
from finetooth.errors import DataError


def read(source: Any, encoding: str = "utf-8", side: str = "train") -> list[Table]:
    """The rows of a source: a table for each file, one for a list of dicts or a pandas DataFrame.

    source: as `data.train`. side: which files of a directory are meant. Text files that are a document each
    make one table. Raises DataError when something cannot be read or there are no rows at all. Broken rows
    are in `rejected`; whether there are too many is for the caller to say.
    """
    if not isinstance(source, str | Path) and not is_files(source):
        tables = [_from_memory(source)]
    else:
        files, notes = find_files(source, side)
        tables = [
            replace(read_file(file.path, file.name, encoding), weight=file.weight)
            for file in files
            if not file.document
        ]
        tables += _documents([file for file in files if file.document], encoding)
        tables[0].notes[:0] = notes
    empty = next((table for table in tables if not len(table)), None)
    if empty is not None:
        raise DataError(f"{empty.name}: no rows.")
    return tables


def _documents(files: Sequence[Source], encoding: str) -> list[Table]:
    """Text files that are a document each, in one table for each weight. A file without text is set aside."""
    tables: dict[float, Table] = {}
    for file in files:
        table = tables.setdefault(file.weight, Table(file.name, [], ["text"], [], [], file.weight))
        try:
            one = read_file(file.path, file.name, encoding, document=True)
        except DataError as error:
            table.rejected.append(RejectedRow(file.name, 1, str(error), ""))
            continue
        table.rows.extend(replace(row, file=file.name) for row in one.rows)
        table.rejected.extend(one.rejected)
    return list(tables.values())


def _from_memory(source: Any) -> Table:
    """A list of dicts, or anything with pandas' to_dict; missing values (NaN) become None."""
    if hasattr(source, "to_dict") and not isinstance(source, Mapping):
        source = source.to_dict("records")
    if not isinstance(source, Sequence):
        raise DataError(
            f"Rows must be a file, a list of dicts or a DataFrame, found {type(source).__name__}."
        )
    rows: list[RawRow] = []
    rejected: list[RejectedRow] = []
    for number, item in enumerate(source, 1):
        if not isinstance(item, Mapping):
            reason = f"a {type(item).__name__}; expected a dict"
            rejected.append(RejectedRow("rows", number, reason, reprlib.repr(item)))
            continue
        try:
            values = {str(name): to_json_value(value) for name, value in item.items()}
            reason = json_error(values)
        except RecursionError:
            reason = "nested too deep"
        if reason:
            text = reprlib.repr(item).encode("utf-8", "replace").decode()
            rejected.append(RejectedRow("rows", number, reason, text))
        else:
            rows.append(RawRow(number, values))
    return Table("rows", rows, columns_of(rows), rejected)
