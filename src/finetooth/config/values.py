"""What people write for a value in a task, turned into what the task stores. Nothing here knows the keys."""

from __future__ import annotations

import codecs
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DATA_FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".txt")  # each also with .gz behind it
# A data set of the hub, at a branch, tag or commit of it, and a configuration or folder in it.
HUB_ID = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*)"
    r"(?:@(?P<revision>(?:refs/[a-z]+/)?[A-Za-z0-9_][\w.-]*))?"
    r"(?:/(?P<part>[A-Za-z0-9_][\w.-]*(?:/[A-Za-z0-9_][\w.-]*)*))?"
)


def yaml_number(value: Any) -> Any:
    """YAML 1.1 reads `2e-4` as text: turn what is plainly a number into one. Leaves everything else alone."""
    if isinstance(value, str) and value != "auto":
        try:
            return float(value)
        except ValueError:
            return value
    return value


def scalar(value: Any) -> Any:
    """A numpy scalar as Python's own; told by what it can do, so that numpy is not needed here."""
    return value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value


def source(value: Any) -> Any:
    """A path as text; a DataFrame or rows as dicts with names of text; files as text and {path, weight}.

    Everything else as it is. Raises ValueError for a list of files with something else in it.
    """
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        value = value.to_dict("records")
    if not isinstance(value, list | tuple):
        return scalar(value)
    if any(isinstance(entry, str | os.PathLike) or _is_path(entry) for entry in value):
        return [_file(number, entry) for number, entry in enumerate(value, 1)]
    return [
        {str(name): scalar(entry) for name, entry in row.items()} if isinstance(row, Mapping) else row
        for row in value
    ]


def is_files(value: Any) -> bool:
    """Whether a list names files, each as text or {path, weight}, and does not hold rows."""
    files = isinstance(value, list) and all(isinstance(entry, str) or _is_path(entry) for entry in value)
    return files and bool(value)


def source_name(value: Any) -> str:
    """What to call a source in a title: its files, or that it is rows."""
    if isinstance(value, str):
        return value
    names = [entry if isinstance(entry, str) else entry["path"] for entry in value] if is_files(value) else []
    return ", ".join(names) or "rows from Python"


def _is_path(entry: Any) -> bool:
    return isinstance(entry, Mapping) and "path" in entry and set(entry) <= {"path", "weight"}


def _file(number: int, entry: Any) -> Any:
    if isinstance(entry, str | os.PathLike):
        return os.fsdecode(entry)
    file = entry if _is_path(entry) else {"path": None}
    path, weight = file["path"], yaml_number(file.get("weight", 1.0))
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not isinstance(path, str | os.PathLike) or not is_number or not 0 < weight < math.inf:
        raise ValueError(f"file {number} is neither a path nor {{path: ..., weight: a number above 0}}")
    return {"path": os.fsdecode(path), "weight": float(weight)}


def expand_path(text: str) -> Path:
    """The path with ~ resolved; ~nobody stays as it is, which no file has as its name."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def is_data_file(path: Path) -> bool:
    """Whether a path ends like a file of examples."""
    return path.name.lower().removesuffix(".gz").endswith(DATA_FILES)


def is_hub_id(value: str, folder: Path = Path()) -> bool:
    """Whether this names a data set of the hub: owner/name or owner/name@revision, and more parts for
    a configuration, a split or a folder.

    Not when it ends like a data file, or its first part is a directory in `folder`: then it is a path.
    """
    known = value.lower().removesuffix(".gz").endswith(DATA_FILES)
    return bool(HUB_ID.fullmatch(value)) and not known and not (folder / value.split("/")[0]).exists()


def hub_parts(value: str) -> tuple[str, str | None, str | None]:
    """The data set, the revision and the part of it that a hub id names."""
    match = HUB_ID.fullmatch(value)
    if match is None:
        raise ValueError(f"{value} names no data set of the hub")
    return match["name"], match["revision"], match["part"]


def encoding(value: str) -> str:
    """The usual name of a text encoding. Raises ValueError when there is none of this name."""
    try:
        "".encode(value)  # refuses codecs that are not of text
        return codecs.lookup(value).name
    except (LookupError, ValueError):
        raise ValueError("expected the name of an encoding, such as utf-16 or cp1252") from None


def yaml_switch(value: Any) -> Any:
    """YAML 1.1 reads on and off as truth values."""
    return ("on" if value else "off") if isinstance(value, bool) else value


def format_count(count: int, one: str, many: str = "") -> str:
    """A count with what it is of: `1 row`, `12,345 rows`. many: where that is not `one` with an s."""
    return f"{count:,} {plural(count, one, many or one + 's')}"


def format_count_of(count: int, total: int, one: str) -> str:
    """`1 of 12,345 rows`."""
    return f"{count:,} of {format_count(total, one)}"


def first_few(names: Sequence[str], most: int) -> str:
    """At most `most` names, separated by commas, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def plural(count: int, one: str, many: str) -> str:
    """What goes with a count: `plural(count, "has", "have")`."""
    return one if count == 1 else many
