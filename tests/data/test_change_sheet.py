"""Cells of change sets: no spreadsheet program evaluates one, and each is read as the text that it was."""

from __future__ import annotations

import itertools
import re
import unicodedata

import pytest

from finetooth.data.change_sheet import CHANGE, guarded, read_guarded, unguarded
from finetooth.data.read.files import from_memory
from finetooth.data.read.table import Table
from finetooth.errors import DataError

LIVE = [
    '=HYPERLINK("#a"&A1,"click")',
    "=cmd|' /C calc'!A0",
    "+49 171 2345678",
    "+3.5",
    "-2+3+cmd|' /C calc'!A0",
    "- a list\n- of two",
    "@SUM(1+9)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "  =1+1",
    "\u00a0=1+1",
    "\ufeff=1+1",
    "\u200b\u2060-1-1",
    "＝1+1",
    "＠SUM(1)",
    "=",
    "-",
    "-007",
    "\t",
]
QUIET = [
    "",
    "'",
    "''",
    "it's",
    "'quoted' text",
    "a=b",
    "-5",
    "-3.5e-7",
    "5",
    "[1, 2]",
    '{"a": "=1"}',
    "⁼1",
    "a\n=1",
]


def evaluated(cell: str) -> bool:
    """Whether a program might take the cell for a formula; what it takes for a number is none."""
    seen = "".join(c for c in cell if unicodedata.category(c) not in ("Cc", "Cf", "Zs"))
    number = re.fullmatch(r"-(?!0\d)\d+(\.\d+)?(e-?\d+)?", cell)
    return bool(re.match(r"[\t\r\n]", cell) or re.match("[=+@＝＋－＠-]", seen)) and not number


def test_no_cell_is_evaluated() -> None:
    assert all(map(evaluated, LIVE)) and not any(map(evaluated, QUIET))
    assert not [text for text in LIVE if evaluated(guarded(text)) or guarded(text) != f"'{text}"]
    assert [*map(guarded, QUIET)] == QUIET


def test_every_text_is_read_as_it_was() -> None:
    """Also one that begins with the guard; of short ones all that have characters that might matter."""
    short = ("".join(text) for n in range(6) for text in itertools.product("'=-+@ \t\n5.a", repeat=n))
    marked = (f"{marks}{text}" for text in (*LIVE, *QUIET) for marks in ("'", "''", "' ", " '", "`"))
    for text in (*short, *marked, *LIVE, *QUIET):
        written = guarded(text)
        assert unguarded(written) == text
        assert not evaluated(written), repr(text)


def test_what_a_person_has_typed_again_is_read_as_it_looks() -> None:
    """A program that is given '=1 in a cell takes the guard for its own and keeps =1 as text."""
    assert [*map(unguarded, LIVE)] == LIVE and [*map(unguarded, QUIET)] == QUIET


def table(name: str, rows: list[dict[str, object]]) -> Table:
    given = from_memory(rows)
    return Table(name, given.rows, given.columns)


@pytest.mark.parametrize("name", ["next.csv", "next.tsv", "next.csv.gz", "next.xlsx"])
def test_of_a_sheet_with_our_columns_cells_and_names_are_read(name: str) -> None:
    rows: list[dict[str, object]] = [{"'=name": "'=1", "n": -5, "none": None, CHANGE: "add"}]
    found = read_guarded(table(name, rows))
    assert found.columns == ["=name", "n", "none", CHANGE]
    assert [dict(row.values) for row in found.rows] == [{"=name": "=1", "n": -5, "none": None, CHANGE: "add"}]
    with pytest.raises(DataError, match=r"duplicate column '=name'. Rename one."):
        read_guarded(table(name, [{"'=name": "a", "=name": "b", CHANGE: "add"}]))


def test_other_files_are_read_as_they_are() -> None:
    own = table("mine.csv", [{"text": "'=1", "'=name": "'-x"}])
    lines = table("next.jsonl", [{"text": "'=1", CHANGE: "add"}])
    assert read_guarded(own) is own and read_guarded(lines) is lines
