"""Files as people have them: broken lines are set aside with file, line and reason; nothing else is lost."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finetooth.data.read.files import read as read_all
from finetooth.data.read.table import Table
from finetooth.errors import DataError


def read(source: Any) -> Table:
    (table,) = read_all(source)
    return table


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def broken(table: Table) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in table.rejected]


def texts(table: Table) -> list[Any]:
    return [row.values["text"] for row in table.rows]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "missing.jsonl",
            None,
            r"missing\.jsonl: no such file\. Expected a \.jsonl, \.json, .* or \.txt file",
        ),
        ("folder.csv", "directory", r"folder\.csv: no data file in this directory\. It is empty"),
        ("empty.jsonl", "", r"empty\.jsonl: the file is empty\. Expected one JSON object per line"),
        ("blank.csv", " \n\n", "the file is empty"),
        ("header.csv", "text,label\n", "no rows"),
        ("data.xml", "x", r"the extension \.xml is not known"),
        ("data", "x", r"the extension \(none\) is not known"),
        ("twice.csv", "text,text\na,b\n", "duplicate column 'text'"),
        ("quoted.csv", '"te"xt,label\na,b\n', "line 1: the header cannot be read"),
    ],
)
def test_what_cannot_be_read_at_all(
    name: str, content: str | bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content == "directory":
        path.mkdir()
    elif content is not None:
        write(path, content)
    with pytest.raises(DataError, match=message):
        read(path)


def test_a_wrong_name_lists_what_is_there(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "a\n1\n")
    with pytest.raises(DataError, match=r"there are: train\.csv\. Did you mean .*/train\.csv\?$"):
        read(tmp_path / "trian.csv")


def test_broken_json_lines(tmp_path: Path) -> None:
    lines: list[bytes] = [
        b'{"text": "one"}',
        b'{"text": "two"',
        b"",
        b'["three"]',
        b'"four"',
        b'{"text": NaN}',
        b'{"text": 1e999}',
        b'{"text": "\\ud800"}',
        b'{"text": "caf\xe9"}',
        b'{"text": "a\x00b"}',
        b"[" * 100_000,
        b'{"text": ' + b'{"a":' * 100_000 + b"1",
        b'{"text": "last"}',
    ]
    table = read(write(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + b"\r\n".join(lines)))
    assert texts(table) == ["one", "last"]
    assert [row.line for row in table.rows] == [1, 13]
    assert [line for line, _ in broken(table)] == [2, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    reasons = dict(broken(table))
    assert "not valid JSON" in reasons[2] and "JSON list" in reasons[4] and "JSON str" in reasons[5]
    assert reasons[6] == reasons[7] == "contains NaN or infinity"
    assert "surrogate" in reasons[8]
    assert reasons[9] == "not UTF-8 (0xe9 at byte 14)" and reasons[10] == "contains a NUL byte"
    assert reasons[11] == reasons[12] == "nested too deeply"
    for row in table.rejected:  # every one of them can be written to rejected.jsonl
        json.dumps(row.to_json(), allow_nan=False).encode()


def test_csv_with_quotes_line_breaks_and_a_mark_of_byte_order(tmp_path: Path) -> None:
    content = (
        '\ufefftext,label\r\n"a, b",x\r\n"line one\r\nline two",y\r\n"say ""hi""",z\r\n\r\n5" pipe,w\r\n'
    )
    table = read(write(tmp_path / "a.csv", content))
    assert table.columns == ["text", "label"] and not table.rejected
    assert texts(table) == ["a, b", "line one\nline two", 'say "hi"', '5" pipe']
    assert [row.line for row in table.rows] == [2, 3, 5, 7]
    assert table.notes == ["a.csv: 1 rows have line breaks inside quotes; the longest, row 3, has 2 lines."]


@pytest.mark.parametrize("bad", ['"stray, quote,ham', 'a "fine" one,ham,more', "short", '"closed" wrong,x'])
@pytest.mark.parametrize("at", [2, 40, 99])
def test_one_broken_csv_row_costs_one_row(bad: str, at: int, tmp_path: Path) -> None:
    """A stray quote must not swallow the rows that follow it, wherever it stands."""
    lines = ["text,label", *(f'"row, {k}",ham' for k in range(2, 101))]
    lines[at - 1] = bad
    table = read(write(tmp_path / "a.csv", "\n".join(lines) + "\n"))
    assert [line for line, _ in broken(table)] == [at]
    assert table.rejected[0].row == bad
    assert texts(table) == [f"row, {k}" for k in range(2, 101) if k != at]


def test_bad_bytes_in_csv(tmp_path: Path) -> None:
    table = read(write(tmp_path / "a.csv", b"text,label\ncaf\xe9,x\nfine,y\nn\x00l,z\n"))
    assert texts(table) == ["fine"]
    assert broken(table) == [(2, "not UTF-8 (0xe9 at byte 4)"), (4, "contains a NUL byte")]


def test_a_long_document_in_csv_and_the_modules_limit_afterwards(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    table = read(write(tmp_path / "a.csv", f"text\n{'x' * 300_000}\n"))
    assert len(texts(table)[0]) == 300_000
    assert csv.field_size_limit() == before


def test_lists_and_frames_are_read_alike() -> None:
    frame = pd.DataFrame(
        {"text": ["a", None, "c"], "n": [1.0, 2.0, np.nan], "when": pd.Timestamp("2024-01-02")}
    )
    from_frame, from_list = read(frame), read(frame.to_dict("records"))
    assert [row.values for row in from_frame.rows] == [row.values for row in from_list.rows]
    assert from_frame.rows[2].values == {"text": "c", "n": None, "when": "2024-01-02 00:00:00"}
    assert [row.line for row in from_frame.rows] == [1, 2, 3] and from_frame.name == "rows"


def test_rows_that_are_not_dicts_or_not_json() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    rows = [
        {"text": "a"},
        "b",
        {"text": float("inf")},
        {"text": np.array([1, 2])},
        {"text": "\ud800"},
        {"text": deep},
    ]
    table = read(rows)
    assert texts(table) == ["a", [1, 2]]
    assert [line for line, _ in broken(table)] == [2, 3, 5, 6]
    with pytest.raises(DataError, match="no rows"):
        read([])
    with pytest.raises(DataError, match="found int"):
        read(3)
