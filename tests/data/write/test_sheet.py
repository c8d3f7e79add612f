"""Columns are added to a file, and everything that was in it stays: bytes, order, quotes, line ends."""

from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import openpyxl
import openpyxl.styles
import pyarrow as pa
import pyarrow.parquet
import pytest

from finetooth.data.read.files import read
from finetooth.data.write.sheet import Sheet, free_names
from finetooth.errors import DataError

NAMES = ["answer", "confidence", "error"]


def written(folder: Path, name: str, content: bytes, encoding: str = "utf-8") -> bytes:
    """The file with an answer in every row that can be read, and the reason in every other one."""
    path = folder / name
    path.write_bytes(content)
    sheet = Sheet.read(path, encoding)
    cells: dict[int, Any] = {row.place: ["ja, so", 0.25, None] for row in sheet.table.rows}
    cells |= {row.place: [None, None, row.reason] for row in sheet.table.rejected}
    assert len(cells) == len(sheet.table), "every row has a place of its own"
    return sheet.with_columns(NAMES, cells)


ADDED = '"answer": "ja, so", "confidence": 0.25, "error": null}'


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "text,id\nhi,1\n", 'text,id,answer,confidence,error\nhi,1,"ja, so",0.25,\n'),
        ("a.csv", "text;id\r\nhi;1\r\n", "text;id;answer;confidence;error\r\nhi;1;ja, so;0.25;\r\n"),
        (
            "a.csv",
            '"text","id"\n"a ""b""","1"',
            '"text","id","answer","confidence","error"\n"a ""b""","1","ja, so","0.25",""',
        ),
        ("a.csv", "text\n\nhi\n\n", 'text,answer,confidence,error\n\nhi,"ja, so",0.25,\n\n'),
        (
            "a.csv",
            'text,id\n"two\nlines",1\nnext,2\n',
            'text,id,answer,confidence,error\n"two\nlines",1,"ja, so",0.25,\nnext,2,"ja, so",0.25,\n',
        ),
        (
            "a.csv",
            "text, id\nhi, 1\n",
            'text, id, answer, confidence, error\nhi, 1, "ja, so", 0.25, \n',
        ),
        ("a.tsv", "text\tid\nhi\t1\n", "text\tid\tanswer\tconfidence\terror\nhi\t1\tja, so\t0.25\t\n"),
        (
            "a.jsonl",
            '{"text":"hi",  "n":1.50}\n{"text": "\\u00e4"}',
            '{"text":"hi",  "n":1.50, ' + ADDED + '\n{"text": "\\u00e4", ' + ADDED,
        ),
        (
            "a.json",
            '[{"text":"a"},{"text":"b"}]',
            '[{"text":"a", ' + ADDED + ',{"text":"b", ' + ADDED + "]",
        ),
        (
            "a.json",
            '[\n  {\n    "text": "a"\n  }\n]\n',
            '[\n  {\n    "text": "a",\n    '
            + ADDED.replace(', "c', ',\n    "c').replace(', "e', ',\n    "e').replace("}", "\n  }\n]\n"),
        ),
        (
            "a.json",
            '{"v": 1, "data": [{"text": "a"}]}',
            '{"v": 1, "data": [{"text": "a", ' + ADDED + "]}",
        ),
        (
            "a.json",
            '{"text": "a"}\n{"text": "b"}\n',
            '{"text": "a", ' + ADDED + '\n{"text": "b", ' + ADDED + "\n",
        ),
        (
            "a.txt",
            "first\nsecond\n",
            'text,answer,confidence,error\nfirst,"ja, so",0.25,\nsecond,"ja, so",0.25,\n',
        ),
    ],
)
def test_what_was_there_stays(name: str, content: str, expected: str, tmp_path: Path) -> None:
    assert written(tmp_path, name, content.encode()).decode() == expected
    packed = gzip.compress(content.encode())
    assert written(tmp_path, f"{name}.gz", packed).decode() == expected


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-be", "utf-8-sig"])
def test_the_encoding_stays(encoding: str, tmp_path: Path) -> None:
    content = "text;id\r\nGrüße;1\r\n".encode(encoding)
    given = "utf-8" if encoding in ("utf-16", "utf-8-sig") else encoding  # those two have a mark
    found = written(tmp_path, "a.csv", content, given)
    assert found.startswith(content[:2])
    assert found.decode(encoding) == "text;id;answer;confidence;error\r\nGrüße;1;ja, so;0.25;\r\n"


def test_broken_lines_stay_in_the_table_with_their_reason(tmp_path: Path) -> None:
    content = b'text,id\nfine,1\nonly one\na "stray" quote","x\n\xff\xfe,4\nlast,5\n'
    content = content.replace(b"fine", "schön".encode())  # other lines hold letters in UTF-8
    found = written(tmp_path, "a.csv", content)
    rows = list(csv.reader(io.StringIO(found.decode("utf-8", "surrogateescape"))))
    assert {len(row) for row in rows} == {5}
    assert [row[0] for row in rows[1:]] == [
        "schön",
        "only one",
        'a "stray" quote","x',
        "\udcff\udcfe",
        "last",
    ]
    assert [bool(row[-1]) for row in rows[1:]] == [False, True, True, True, False]
    assert b"\xff\xfe,4," in found
    lines = written(tmp_path, "a.jsonl", b'{"text": "a"}\n{"text": \n[1]\n{"text": "b"}\n').splitlines()
    values = [json.loads(line) for line in lines]
    assert [value.get("row", value.get("text")) for value in values] == ["a", '{"text": ', "[1]", "b"]
    assert [value["error"] is None for value in values] == [True, False, False, True]
    mixed = json.loads(written(tmp_path, "a.json", b'[{"text": "a"}, 3, {"text": NaN}, {"text": "b"}]'))
    assert [value["answer"] for value in mixed] == ["ja, so", None, None, "ja, so"]


@pytest.mark.parametrize("kind", ["parquet", "arrow", "stream"])
def test_columnar_files_keep_types_and_metadata(kind: str, tmp_path: Path) -> None:
    about = {"info": {"features": {"text": {"dtype": "string", "_type": "Value"}}}}
    schema = pa.schema(
        [("text", pa.string()), ("when", pa.timestamp("ms")), ("n", pa.int16())],
        metadata={"huggingface": json.dumps(about), "mine": "kept"},
    )
    table = pa.table({"text": ["a", "b"], "when": [1, None], "n": [3, 4]}, schema=schema)
    sink = pa.BufferOutputStream()
    if kind == "parquet":
        pyarrow.parquet.write_table(table, sink, compression="zstd")
    else:
        with (pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream)(sink, schema) as writer:
            writer.write_table(table)
    found = pa.BufferReader(
        written(tmp_path, f"a.{'parquet' if kind == 'parquet' else 'arrow'}", bytes(sink.getvalue()))
    )
    if kind == "parquet":
        file = pyarrow.parquet.ParquetFile(found)
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"
        again = file.read()
    else:
        again = (pa.ipc.open_file if kind == "arrow" else pa.ipc.open_stream)(found).read_all()
    assert again.select(["text", "when", "n"]).equals(table)
    assert again.schema.field("confidence").type == pa.float64()
    assert again.column("answer").to_pylist() == ["ja, so", "ja, so"]
    assert again.schema.metadata[b"mine"] == b"kept"
    assert set(json.loads(again.schema.metadata[b"huggingface"])["info"]["features"]) == {"text", *NAMES}


def test_a_workbook_keeps_its_cells_and_formulas(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["text", "n", "when", "sum"])
    sheet.append(["a", 1, datetime(2026, 6, 2), "=B2+1"])
    sheet.append([])
    sheet.append(["b", 2.5, datetime(2026, 6, 2, 8, 30), None, "beyond"])
    sheet["A2"].font = openpyxl.styles.Font(bold=True)
    target = io.BytesIO()
    book.save(target)
    path = tmp_path / "in.xlsx"
    path.write_bytes(target.getvalue())
    table = Sheet.read(path).table
    assert table.columns == ["text", "n", "when", "sum"]
    assert [(row.line, dict(row.values)) for row in table.rows] == [
        (2, {"text": "a", "n": 1, "when": "2026-06-02", "sum": None})
    ]
    assert [(row.line, row.reason) for row in table.rejected] == [
        (4, "a value in column 5, which has no name")
    ]
    content = Sheet.read(path).with_columns(NAMES, {2: ["=1+1\x07", 0.5, None], 4: [None, None, "no"]})
    again = openpyxl.load_workbook(io.BytesIO(content)).active
    assert again is not None
    rows = list(again.iter_rows(values_only=True))
    assert rows[0] == ("text", "n", "when", "sum", None, *NAMES)
    assert rows[1] == ("a", 1, datetime(2026, 6, 2), "=B2+1", None, "=1+1\ufffd", 0.5, None)
    assert rows[3][-4:] == ("beyond", None, None, "no")
    assert again["A2"].font.bold and again["F2"].data_type == "s"


def test_a_workbook_that_is_not_clear_is_one_error(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for title in ("June", "July"):
        book.create_sheet(title).append(["text"])
    book.save(tmp_path / "two.xlsx")
    (tmp_path / "broken.xlsx").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "old.xlsx").write_bytes(b"\xd0\xcf\x11\xe0" * 9)
    openpyxl.Workbook().save(tmp_path / "empty.xlsx")
    for name, words in {
        "two": "2 sheets with cells: June, July",
        "broken": "cannot be read as an Excel workbook",
        "old": "a password",
        "empty": "the file is empty",
    }.items():
        with pytest.raises(DataError, match=words):
            Sheet.read(tmp_path / f"{name}.xlsx")


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    rows = [{"text": 'a "b"\n,;c', "id": f"{n}"} for n in range(5)]
    target = io.StringIO()
    writer = csv.DictWriter(target, ["text", "id"], lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    (tmp_path / "out.csv").write_bytes(written(tmp_path, "in.csv", target.getvalue().encode()))
    (table,) = read(str(tmp_path / "out.csv"))
    assert [{name: row.values[name] for name in ("text", "id")} for row in table.rows] == rows
    assert {row.values["answer"] for row in table.rows} == {"ja, so"}


def test_a_stream_says_by_its_beginning_what_it_is() -> None:
    kinds = {
        b'{"text": "a"}\n': ".jsonl",
        b'[{"text": "a"}]': ".json",
        b"text,id\na,1\n": ".csv",
        b"text;id\na;1\n": ".csv",
        b"text\tid\na\t1\n": ".tsv",
        gzip.compress(b"text,id\na,1\n"): ".csv",
    }
    assert [Sheet.of_stream(content).kind for content in kinds] == list(kinds.values())
    with pytest.raises(DataError, match="no rows"):
        Sheet.of_stream(b"I was charged twice\n")


def test_names_that_are_taken_get_a_prefix() -> None:
    assert free_names(["text"], NAMES) == NAMES
    taken = ["answer", "error", "predicted_error"]
    assert free_names(taken, NAMES) == ["predicted_answer", "confidence", "predicted_error_2"]
