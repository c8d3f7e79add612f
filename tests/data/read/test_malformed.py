"""Files that are not what they should be: one clear message, or rows set aside by line. Nothing hangs."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from finetooth.config.task import build_task
from finetooth.data.read.files import read
from finetooth.errors import DataError
from finetooth.quality.prepare import assemble

GOOD = '{"text": "a", "label": "b"}\n'
LIMIT = 20  # seconds; every case takes well under one


@pytest.fixture(autouse=True)
def no_hanging() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError("reading hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def parquet() -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"] * 50, "label": ["b"] * 50}), sink)
    return sink.getvalue()


def archive() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr("xl/worksheets/sheet1.xml", "<a/>")
    return sink.getvalue()


def database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table a (text)")
    connection.close()


def noise(size: int) -> bytes:
    """Bytes of all values, the same in every run."""
    return bytes((k * k * 7 + k * 31 + 3) % 251 ^ (k >> 3) & 255 for k in range(size))


Made = bytes | str | Callable[[Path], object]
PACKED = gzip.compress((GOOD * 500).encode())

# What is wrong as a whole: the file, and what the one message says.
REFUSED: dict[str, tuple[str, Made, str]] = {
    "truncated gzip": ("a.jsonl.gz", PACKED[: len(PACKED) // 2], "the compressed file ends early"),
    "gzip that is none": ("a.csv.gz", "text,label\na,b\n", "cannot be decompressed"),
    "damaged gzip": ("a.jsonl.gz", PACKED[:-6] + b"xxxxxx", "cannot be decompressed"),
    "gzip without its ending": ("a.jsonl", PACKED, r"compressed with gzip; .* ends with \.gz"),
    "UTF-16 undeclared": (
        "a.csv",
        "text,label\nwie geht es,gut\n".encode("utf-16-le"),
        "data.encoding: utf-16-le",
    ),
    "UTF-16, the other way": ("a.jsonl", GOOD.encode("utf-16-be"), "data.encoding: utf-16-be"),
    "half of UTF-16": (
        "a.csv",
        "text,label\na,b\n".encode("utf-16")[:-1],
        "not utf-16, though its byte-order",
    ),
    "a list nested 10,000 deep": ("a.json", '[{"text": ' + "[" * 10_000, "line 1: nested too deep"),
    "a list that breaks off": (
        "a.json",
        '[{"text": "a"},\n{"text": "b"',
        r"a\.json: not valid JSON: .*line 2",
    ),
    "a list without a comma": (
        "a.json",
        '[{"text": "a"}\n{"text": "b"}]',
        r"line 2: not valid JSON: expected `,`",
    ),
    "something after the list": ("a.json", '[{"text": "a"}]\n[]', "line 2: .*nothing after the list"),
    "an object of columns": (
        "a.json",
        '{"text": {"0": "a"}, "label": {"0": "b"}}',
        "the keys 'text', 'label'",
    ),
    "a number": ("a.json", "17", "expected a list of objects"),
    "an empty list": ("a.json", "[]", "no rows"),
    "a list called lines": ("a.jsonl", '[\n{"text": "a"}\n]\n', r"Give it a name that ends with \.json"),
    "a directory without data": (
        "a",
        lambda path: (path.mkdir(), (path / "x.md").touch()),
        "no data file .*x.md",
    ),
    "an empty directory": ("a", lambda path: path.mkdir(), "no data file in this directory. It is empty"),
    "a pipe": ("a.jsonl", os.mkfifo, "a pipe, socket or device"),
    "a link to nowhere": ("a.jsonl", lambda path: path.symlink_to("nowhere.jsonl"), "no such file"),
    "a link to itself": ("a.jsonl", lambda path: path.symlink_to(path), "no such file|cannot be opened"),
    "a zip called csv": (
        "a.csv",
        archive(),
        r"a zip archive \(unpack it\) or a spreadsheet",
    ),
    "a spreadsheet": ("a.ods", archive(), r"the extension \.ods is not known\. .* save it as CSV"),
    "a workbook that is none": ("a.xlsx", archive(), "cannot be read as an Excel workbook"),
    "an old spreadsheet": ("a.csv", b"\xd0\xcf\x11\xe0" + noise(500), "a spreadsheet; save it as CSV"),
    "a database": ("a.csv", database, "a SQLite database"),
    "a web page": ("a.csv", "<!DOCTYPE html>\n<html><body>404</body></html>", "a web page, not data"),
    "a pointer of Git LFS": (
        "a.jsonl",
        "version https:" + "//example.com/spec/v1\noid sha256:0\n",
        "git lfs pull",
    ),
    "binary called csv": (
        "a.csv",
        noise(4000),
        r"line 1: the header cannot be read: (not UTF-8|contains a NUL)",
    ),
    "empty": ("a.jsonl", "", "the file is empty"),
    "only white space": ("a.csv", " \r\n\t\n", "the file is empty"),
    "only a byte-order mark": ("a.txt", b"\xef\xbb\xbf", "the file is empty"),
    "only a header": ("a.csv", "text,label\n", "no rows"),
    "a header with NUL": (
        "a.csv",
        b"te\x00xt,label\na,b\n",
        "line 1: the header cannot be read: contains a NUL byte",
    ),
    "bars called csv": ("a.csv", "text|label\na|b\n", r"separated by '\|'\. Save the file"),
    "tabs called csv": ("a.csv", "text\tlabel\na\tb\n", r"separated by '\\t'.* or name it a\.tsv"),
    "commas called tsv": ("a.tsv", "text,label\na,b\n", "separated by ','.* separated by tabs"),
    "broken parquet": ("a.parquet", parquet()[:-20], "cannot be read as Parquet"),
    "parquet that is none": ("a.parquet", "text,label\n", "cannot be read as Parquet"),
    "parquet called json": ("a.json", parquet(), r"a Parquet file; .* ends with \.parquet"),
    "an empty parquet file": ("a.parquet", b"", "cannot be read as Parquet"),
}


def make(path: Path, made: Made) -> Path:
    if callable(made):
        made(path)
    else:
        path.write_bytes(made if isinstance(made, bytes) else made.encode("utf-8"))
    return path


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_cannot_be_read_has_one_message(case: str, tmp_path: Path) -> None:
    name, made, words = REFUSED[case]
    with pytest.raises(DataError, match=words) as caught:
        read(make(tmp_path / name, made))
    message = str(caught.value)
    assert name in message and len(message) < 700 and "\n" not in message


# What is wrong in rows: the file, the lines that are read, and those set aside with their reason.
SET_ASIDE: dict[str, tuple[str, str | bytes, list[int], list[tuple[int, str]]]] = {
    "NUL": ("a.jsonl", GOOD + '{"text": "a\0"}\n' + GOOD, [1, 3], [(2, "contains a NUL byte")]),
    "half a line": ("a.jsonl", GOOD + GOOD[:9], [1], [(2, "not valid JSON")]),
    "nested 10,000 deep": (
        "a.jsonl",
        GOOD + '{"text": ' + "[" * 10_000 + "\n",
        [1],
        [(2, "nested too deeply")],
    ),
    "NaN": ("a.jsonl", '{"text": NaN}\n' + GOOD, [2], [(1, "contains NaN or infinity")]),
    "NaN in a list": ("a.json", f'[{GOOD},\n{{"text": -Infinity}}]', [1], [(3, "contains NaN or inf")]),
    "a key given twice": (
        "a.jsonl",
        '{"text": "a", "text": "b"}\n' + GOOD,
        [2],
        [(1, "duplicate key 'text'")],
    ),
    "a key given twice, inside": (
        "a.jsonl",
        '{"a": [{"b": 1, "b": 1}]}\n' + GOOD,
        [2],
        [(1, "duplicate key 'b'")],
    ),
    "a key given twice, in a list": (
        "a.json",
        '[{"a": 1, "a": 2},\n{"a": 3}]',
        [2],
        [(1, "duplicate key 'a'")],
    ),
    "a number of 5,000 digits": (
        "a.jsonl",
        f'{{"text": {"1" * 5000}}}\n' + GOOD,
        [2],
        [(1, "not valid JSON")],
    ),
    "values that are no objects": (
        "a.json",
        '[1, "a", [], {"text": "a"}]',
        [1],
        [(1, "a JSON int; expected an")],
    ),
    "Latin-1": ("a.csv", b"text,label\ncaf\xe9,a\nb,c\n", [3], [(2, "not UTF-8 (0xe9 at byte 4)")]),
    "ragged": ("a.csv", "a,b\n1\n1,2\n1,2,3\n", [3], [(2, "1 fields where"), (4, "3 fields where")]),
    "ragged tabs": ("a.tsv", "a\tb\n1\n1\t2\n", [3], [(2, "1 fields where the header has 2")]),
    "a stray quote": ("a.csv", 'a,b\n"1,2\n3,4\n', [3], [(2, "a stray quote")]),
    "binary called jsonl": (
        "a.jsonl",
        GOOD.encode() + noise(900).replace(b"\n", b" "),
        [1],
        [(2, "not UTF-8")],
    ),
}


@pytest.mark.parametrize("case", SET_ASIDE)
def test_a_row_that_cannot_be_read_is_set_aside_by_line(case: str, tmp_path: Path) -> None:
    name, content, lines, expected = SET_ASIDE[case]
    (table,) = read(make(tmp_path / name, content))
    assert [row.line for row in table.rows] == lines
    rejected = sorted(table.rejected, key=lambda row: row.line)
    for (line, reason), row in zip(expected, rejected[: len(expected)], strict=True):
        assert (row.file, row.line) == (name, line) and reason in row.reason
    if case != "values that are no objects":
        assert len(rejected) == len(expected)
    for row in rejected:
        json.dumps(row.to_json(), allow_nan=False).encode()


# What only looks wrong: it is read, whole.
READ: dict[str, tuple[str, bytes, list[str], str]] = {
    "a byte-order mark": ("a.csv", "\ufefftext,label\nä,b\n".encode(), ["ä"], ""),
    "UTF-16 with its mark": ("a.csv", "text,label\nä,b\n".encode("utf-16"), ["ä"], ""),
    "UTF-32 with its mark": ("a.jsonl", '{"text": "ä"}'.encode("utf-32"), ["ä"], ""),
    "a line of 10 MB": ("a.jsonl", b'{"text": "%s"}\n' % (b"x" * 10_000_000), ["x" * 10_000_000], ""),
    "a field of 10 MB": ("a.csv", b"text,label\n%s,b\n" % (b"x" * 10_000_000), ["x" * 10_000_000], ""),
    "a formula": (
        "a.csv",
        b"text,label\n=SUM(A1:A9),b\n#REF!,b\n",
        ["=SUM(A1:A9)", "#REF!"],
        "2 cells look like spreadsheet form",
    ),
    "line ends of old": ("a.csv", b"text,label\ra,b\rc,d\r", ["a", "c"], ""),
    "JSON lines called json": ("a.json", b'{"text": "a"}\n{"text": "b"}\n', ["a", "b"], ""),
    "quotes between tabs": (
        "a.tsv",
        b'text\tlabel\n"Oh" he said\ta\n5" x\tb\n"c\td\n',
        ['"Oh" he said', '5" x', '"c'],
        "",
    ),
}


@pytest.mark.parametrize("case", READ)
def test_what_only_looks_wrong_is_read(case: str, tmp_path: Path) -> None:
    name, content, texts, note = READ[case]
    (table,) = read(make(tmp_path / name, content))
    assert [row.values["text"] for row in table.rows] == texts and not table.rejected
    assert note in " ".join(table.notes)


def test_files_of_different_formats_are_named(tmp_path: Path) -> None:
    make(tmp_path / "a.jsonl", GOOD)
    make(tmp_path / "b.jsonl", '{"question": "a", "answer": "b"}\n')
    with pytest.raises(DataError, match=r"train a\.jsonl is labels, train b\.jsonl is qa"):
        assemble(build_task({"data": {"train": str(tmp_path)}}))


def test_rows_of_different_formats_are_set_aside_and_stop_the_run(tmp_path: Path) -> None:
    path = make(tmp_path / "a.jsonl", GOOD * 60 + '{"question": "a", "answer": "b"}\n' * 40)
    found = assemble(build_task({"data": {"train": str(path)}})).findings
    (problem,) = (finding.message() for finding in found if finding.rule == "broken-rows")
    assert "40 of 100 rows are broken" in problem and "a.jsonl, line 61: text is missing" in problem


@pytest.mark.parametrize("what", ["file", "directory"])
def test_no_permission(what: str, tmp_path: Path) -> None:
    """Also as root, who may read everything: for a moment it is somebody else."""
    path = tmp_path / "a.jsonl" if what == "file" else tmp_path / "folder"
    if what == "file":
        make(path, GOOD)
    else:
        path.mkdir()
    path.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        with pytest.raises(DataError, match="cannot be opened: Permission denied"):
            read(path)
    finally:
        if root:
            os.seteuid(0)
        path.chmod(0o700)


@pytest.mark.parametrize("name", ["a\0.jsonl", "x" * 5000 + ".jsonl", "~nobody-of-this-name/a.jsonl"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(DataError, match=r"no such file|cannot be opened"):
        read(name)
