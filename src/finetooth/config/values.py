"""Conversion of the values that people write in a task, and counts as text. Nothing here knows the keys."""

from __future__ import annotations

import codecs
import math
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DATA_FILES = (
    ".jsonl",
    ".json",
    ".csv",
    ".tsv",
    ".parquet",
    ".arrow",
    ".xlsx",
    ".txt",
)  # each also with .gz appended
# A dataset of the hub, optionally with a branch, tag or commit, and a configuration or folder.
SEEDS = 1 << 64  # seeds are below it
HUB_ID = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*)"
    r"(?:@(?P<revision>(?:refs/[a-z]+/)?[A-Za-z0-9_][\w.-]*))?"
    r"(?:/(?P<part>[A-Za-z0-9_][\w.-]*(?:/[A-Za-z0-9_][\w.-]*)*))?"
)


FORBIDDEN = '/\\<>:"|?*'  # in names of folders, on Windows or everywhere
RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)  # on Windows
MAX_NAME = 100  # bytes of UTF-8


def folder_name(value: str) -> str:
    """The value, if it is a safe name of one folder on every system. Raises ValueError otherwise."""
    problem = ""
    if wrong := next((c for c in value if c in FORBIDDEN or unicodedata.category(c)[0] == "C"), ""):
        problem = f"{wrong!a} cannot be in it"
    elif value != value.strip() or value.startswith(".") or value.endswith("."):
        problem = "it begins or ends with a dot or a space"
    elif RESERVED.fullmatch(value):
        problem = "Windows reserves it"
    elif not 0 < len(value.encode()) <= MAX_NAME:
        problem = f"it must have 1 to {MAX_NAME} bytes"
    if problem:
        raise ValueError(f"expected the name of one folder, as in support-triage: {problem}")
    return value


def safe_name(text: str) -> str:
    """The nearest folder_name, for the name of a run that is named after a file or a folder."""
    kept = "".join("-" if c in FORBIDDEN or unicodedata.category(c)[0] == "C" else c for c in text)
    name = kept.encode()[:MAX_NAME].decode(errors="ignore").strip(". ") or "task"
    return f"task-{name}"[:MAX_NAME] if RESERVED.fullmatch(name) else name


def yaml_number(value: Any) -> Any:
    """The number in text such as `2e-4`, which YAML 1.1 does not read as one; other values unchanged."""
    if isinstance(value, str) and value != "auto":
        try:
            return float(value)
        except ValueError:
            return value
    return value


def scalar(value: Any) -> Any:
    """A numpy scalar as a Python scalar, without importing numpy; other values unchanged."""
    return value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value


def records(frame: Any) -> list[dict[Any, Any]]:
    """The rows of a DataFrame. Numbers of float32 and float16 have the digits that these types print."""
    rows: list[dict[Any, Any]] = frame.to_dict("records")
    for name, dtype in zip(frame.columns, getattr(frame, "dtypes", ()), strict=False):
        if getattr(dtype, "kind", "") == "f" and dtype.itemsize < 8:
            for row, number in zip(rows, frame[name].to_numpy(), strict=True):
                text = str(number)
                row[name] = None if text in ("nan", "<NA>") else float(text)
    return rows


def source(value: Any) -> Any:
    """Normalise a data source: a path to text, a DataFrame or rows to dicts with text keys, a list of files
    to text and {path, weight}. Other values are unchanged.

    Raises ValueError for a list that mixes files with anything else.
    """
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        value = records(value)
    if not isinstance(value, list | tuple):
        return scalar(value)
    if any(isinstance(entry, str | os.PathLike) or _is_path(entry) for entry in value):
        return [_file(number, entry) for number, entry in enumerate(value, 1)]
    return [
        {str(name): scalar(entry) for name, entry in row.items()} if isinstance(row, Mapping) else row
        for row in value
    ]


def is_files(value: Any) -> bool:
    """Whether the value is a list of files, each as text or {path, weight}, rather than rows."""
    files = isinstance(value, list) and all(isinstance(entry, str) or _is_path(entry) for entry in value)
    return files and bool(value)


def source_name(value: Any) -> str:
    """The title of a source: its files, or that it is rows from Python."""
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
    """The path with ~ expanded; unchanged if there is no such user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def from_here(value: Any) -> Any:
    """A value of a task in which paths below the working directory are relative to it, as one types them."""
    if isinstance(value, list):
        return [from_here(one) for one in value]
    here = Path.cwd()
    inside = isinstance(value, str) and value != str(here) and Path(value).is_relative_to(here)
    return str(Path(value).relative_to(here)) if inside else value


def is_data_file(path: Path) -> bool:
    """Whether a path has the suffix of a data file."""
    return path.name.lower().removesuffix(".gz").endswith(DATA_FILES)


def is_hub_id(value: str, folder: Path = Path()) -> bool:
    """Whether this is a hub id: owner/name or owner/name@revision, with further parts for a configuration,
    a split or a folder.

    A value with the suffix of a data file, or whose first part exists in `folder`, is a path instead.
    """
    if not HUB_ID.fullmatch(value) or is_data_file(Path(value)):
        return False
    return not (folder / value.split("/")[0]).exists()


def hub_parts(value: str) -> tuple[str, str | None, str | None]:
    """The dataset, the revision and the part (configuration, split or folder) of a hub id."""
    match = HUB_ID.fullmatch(value)
    if match is None:
        raise ValueError(f"{value} is not the id of a dataset on the hub")
    return match["name"], match["revision"], match["part"]


def one_or_more(value: Any) -> Any:
    """A list of the one value where a list is expected; lists, and values that stand for none, unchanged."""
    return [value] if isinstance(value, str | int | float) and not isinstance(value, bool) else value


def file_list(value: Any) -> Any:
    """A list of files as text where one or several are expected, each as text or a path."""
    values = value if isinstance(value, list | tuple) else [value]
    if all(isinstance(one, str | os.PathLike) for one in values):
        return [os.fsdecode(one) for one in values]
    return value


def encoding(value: str) -> str:
    """The canonical name of a text encoding. Raises ValueError for an unknown name."""
    try:
        "".encode(value)  # refuses codecs that are not for text
        return codecs.lookup(value).name
    except (LookupError, ValueError):
        raise ValueError("expected the name of an encoding, such as utf-16 or cp1252") from None


def yaml_switch(value: Any) -> Any:
    """on or off for the booleans as which YAML 1.1 reads these words; other values unchanged."""
    return ("on" if value else "off") if isinstance(value, bool) else value


def format_count(count: int, one: str, many: str = "") -> str:
    """A count with its noun: `1 row`, `12,345 rows`. many: the plural if it is not `one` with an s."""
    return f"{count:,} {plural(count, one, many or one + 's')}"


def format_count_of(count: int, total: int, one: str) -> str:
    """`1 of 12,345 rows`."""
    return f"{count:,} of {format_count(total, one)}"


def first_few(names: Sequence[str], most: int) -> str:
    """At most `most` names, separated by commas, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def plural(count: int, one: str, many: str) -> str:
    """The singular or plural form for a count: `plural(count, "has", "have")`."""
    return one if count == 1 else many
