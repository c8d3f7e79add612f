"""CSV and TSV as spreadsheets and other programs leave them."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetooth.config.task import DataConfig, build_task
from finetooth.data.examples import source_location
from finetooth.data.formats.parse import parse
from finetooth.data.read.files import read
from finetooth.data.read.table import Table
from finetooth.errors import DataError
from finetooth.quality.prepare import assemble


def table(path: Path, text: str) -> Table:
    path.write_text(text, encoding="utf-8")
    return read(path)[0]


def test_columns_without_a_name_are_numbered(tmp_path: Path) -> None:
    """Planted: a sheet that was once wider, as a spreadsheet saves it."""
    found = table(tmp_path / "a.csv", "text,label,,\nhi,a,,\nho,b,,x\n")
    assert [row.values for row in found.rows] == [
        {"text": "hi", "label": "a", "column 3": "", "column 4": ""},
        {"text": "ho", "label": "b", "column 3": "", "column 4": "x"},
    ]
    data = assemble(build_task({"data": {"train": str(tmp_path / "a.csv"), "test": 0, "validation": 0}}))
    assert data.format == "labels" and data.sides["train"][1].tags["column 4"] == "x"
    assert "column 3" not in data.sides["train"][1].tags
    index = table(tmp_path / "b.csv", ",text,label\n0,hi,a\n")  # as pandas writes its index
    assert index.columns == ["column 1", "text", "label"]
    with pytest.raises(DataError, match="duplicate column 'text'"):
        table(tmp_path / "c.csv", "text,text\na,b\n")


def test_two_lines_with_a_stray_quote_each_stay_two_rows(tmp_path: Path) -> None:
    """Planted: between tabs, the quotes of two lines that together look like one quoted cell."""
    found = table(tmp_path / "a.tsv", 'text\tlabel\n"Oh\t1\nno"\t2\nfine\t3\n')
    assert [list(row.values.values()) for row in found.rows] == [['"Oh', "1"], ['no"', "2"], ["fine", "3"]]
    quoted = table(tmp_path / "b.tsv", 'text\tlabel\n"one\ntwo"\t1\n"a\tb"\t2\n')
    assert [row.values["text"] for row in quoted.rows] == ["one\ntwo", "a\tb"]
    single = table(tmp_path / "c.tsv", 'text\n"one\ntwo"\n')
    assert [row.values["text"] for row in single.rows] == ["one\ntwo"]


@pytest.mark.parametrize("text", ['{"text": "a", "label": "b"}\n', '[{"text": "a"}]\n'])
def test_json_under_the_name_of_a_table_is_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.csv: looks like JSON\. Give it a name that ends with \.jsonl"):
        table(tmp_path / "a.csv", text)


def test_semicolons_are_read_where_the_comma_stands_in_numbers(tmp_path: Path) -> None:
    found = table(tmp_path / "a.csv", 'text;label\nI paid 9,50 twice;billing\n"a; b";other\n')
    assert [row.values for row in found.rows] == [
        {"text": "I paid 9,50 twice", "label": "billing"},
        {"text": "a; b", "label": "other"},
    ]
    assert table(tmp_path / "b.csv", "text,a;b\nx;y,z\n").columns == ["text", "a;b"]


@pytest.mark.parametrize("hint", ["", "sep=,\n"])
def test_rows_below_a_line_break_have_the_place_that_a_spreadsheet_shows(hint: str, tmp_path: Path) -> None:
    file = tmp_path / "mails.csv"
    file.write_text(f'{hint}text,label\n"one",a\n"two\nlines",b\n\n"three",a\n"a\nb\nc",b\n"four",a\n')
    shift = bool(hint)
    (found,) = read(file)
    assert [row.line - shift for row in found.rows] == [2, 3, 6, 7, 10]
    assert [row.sheet_row or row.line for row in found.rows] == [2, 3, 5, 6, 7]
    rows = parse(found, DataConfig(train=str(file))).examples
    assert source_location(rows[2]) == "mails.csv, row 5"
    assert source_location(rows[0]) == "mails.csv, row 2"
    assert any("the longest, row 6, has 3 lines" in note for note in found.notes)
