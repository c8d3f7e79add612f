"""Change sets: rows are added, corrected and removed where they may be, and errors say which row and why."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from finetooth.config.task import build_task
from finetooth.data.split import ADDED
from finetooth.errors import DataError
from finetooth.quality.prepare import AssembledData, assemble
from finetooth.types import Example

Row = dict[str, Any]
LABELS = ("red", "yellow", "blue")
ROWS = [{"Nr": f"T{n}", "Frage": f"number {n} in box {n * 7}", "Farbe": LABELS[n % 3]} for n in range(120)]
COLUMNS = {"Nr": "id", "Frage": "text", "Farbe": "label"}
NEW = {"finetooth_change": "add", "Frage": "which colour has a plum?", "Farbe": "blue"}


def lines(path: Path, rows: list[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def sheet(path: Path, rows: list[Row], dialect: dict[str, str], encoding: str) -> str:
    """The rows as a spreadsheet program saves them."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, names, **dialect)  # type: ignore[arg-type]
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def assembled(folder: Path, *sets: list[Row] | str, **data: Any) -> AssembledData:
    named = [
        one if isinstance(one, str) else lines(folder / f"n{k}.jsonl", one) for k, one in enumerate(sets)
    ]
    values = {"train": lines(folder / "rows.jsonl", ROWS), "columns": COLUMNS, "add": named, **data}
    return assemble(build_task({"data": values}))


def ids(data: AssembledData, side: str) -> list[str]:
    return [row.id for row in data.sides[side]]


def added_to(data: AssembledData) -> list[tuple[str, str]]:
    """The added rows: question and answer. Reworded ones come from the task's own file."""
    rows = [row for row in data.sides["train"] if row.tags["file"] == row.tags.get(ADDED)]
    return [(row.context[0].content, row.target) for row in rows]


def row_of(data: AssembledData, id: str) -> Example:
    return next(row for rows in data.sides.values() for row in rows if row.id == id)


@pytest.fixture
def plain(tmp_path: Path) -> AssembledData:
    return assembled(tmp_path)


def test_rows_are_added_corrected_and_removed(tmp_path: Path, plain: AssembledData) -> None:
    (wrong, other, gone), held = ids(plain, "train")[:3], ids(plain, "validation")[0]
    right = {"finetooth_change": "correct", "Farbe": "blue", "finetooth_why": "seen"}
    data = assembled(
        tmp_path,
        [
            NEW,
            {**right, "finetooth_row": wrong, "Frage": "another question"},
            {**right, "finetooth_row": held, "Frage": row_of(plain, held).context[0].content},
            {"finetooth_change": "remove", "finetooth_row": gone},
        ],
    )
    assert ids(data, "test") == ids(plain, "test") and ids(data, "validation") == ids(plain, "validation")
    assert ids(data, "train")[:-1] == [id for id in ids(plain, "train") if id != gone]
    added = data.sides["train"][-1]
    assert (added.context[0].content, added.target) == (NEW["Frage"], "blue")
    assert added.tags == {"file": "n0.jsonl", "line": 1, "label": "blue", ADDED: "n0.jsonl"}
    mended, before = row_of(data, wrong), row_of(plain, wrong)
    assert (mended.context[0].content, mended.target) == ("another question", "blue")
    assert mended.tags == {**before.tags, "label": "blue", ADDED: "n0.jsonl"}, "its wording is new"
    assert ADDED not in row_of(data, held).tags
    assert row_of(data, held).target == "blue" and row_of(data, other) == row_of(plain, other)
    assert "n0.jsonl: rows 1 added, 2 corrected, 1 removed." in data.notes


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8", "utf-16"])
def test_a_sheet_that_was_filled_in(
    delimiter: str, encoding: str, tmp_path: Path, plain: AssembledData
) -> None:
    """Saved by a spreadsheet program, with spaces and another case in cells and an empty row at the end."""
    wrong = ids(plain, "train")[0]
    rows = [
        {"finetooth_change": " Add ", "finetooth_row": "", "Frage": "Wie grün ist Öl?", "Farbe": " blue "},
        {"finetooth_change": "CORRECT", "finetooth_row": f" {wrong} ", "Frage": "neu", "Farbe": "red"},
        {"finetooth_change": "add", "finetooth_row": "", "Frage": "not yet", "Farbe": "  "},
        {"finetooth_change": "", "finetooth_row": "", "Frage": "by hand", "Farbe": "red"},
        {"finetooth_change": "", "finetooth_row": "", "Frage": "", "Farbe": ""},
    ]
    data = assembled(tmp_path, sheet(tmp_path / "next.csv", rows, {"delimiter": delimiter}, encoding))
    assert added_to(data) == [("Wie grün ist Öl?", "blue"), ("by hand", "red")]
    assert row_of(data, wrong).target == "red"
    assert "1 of 4 rows of next.csv has no answer yet and is left out." in data.notes


def test_a_workbook_that_was_filled_in(tmp_path: Path) -> None:
    """Its ids are numbers, and so are those of the rows."""
    rows = [{**row, "Nr": n} for n, row in enumerate(ROWS)]
    base = lines(tmp_path / "numbered.jsonl", rows)
    wrong = ids(assembled(tmp_path, train=base), "train")[0]
    book = Workbook()
    book.active.append(["finetooth_change", "finetooth_row", "Frage", "Farbe"])
    book.active.append(["correct", int(wrong), "Wie grün?", "red"])
    book.active.append(["add", None, "waiting", None])
    book.save(tmp_path / "next.xlsx")
    data = assembled(tmp_path, str(tmp_path / "next.xlsx"), train=base)
    assert (row_of(data, wrong).context[0].content, row_of(data, wrong).target) == ("Wie grün?", "red")
    assert "1 of 2 rows of next.xlsx has no answer yet and is left out." in data.notes


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_guards_against_formulas_are_read_where_the_columns_are_ours(suffix: str, tmp_path: Path) -> None:
    """Of a person's own file an apostrophe is part of the text; so it is in JSON Lines, which no sheet is."""
    texts = ["'=1+1 in words", "''@home", "'tis text", "plain"]
    rows = [{"Frage": text, "Farbe": "'-red"} for text in texts]
    kinds = {"ours": {"finetooth_change": "add"}, "own": {"note": "mine"}}
    found = {}
    for name, more in kinds.items():
        file = tmp_path / f"{name}{suffix}"
        if suffix == ".csv":
            sheet(file, [{**more, **row} for row in rows], {}, "utf-8-sig")
        else:
            book = Workbook()
            for line in ([*more, *rows[0]], *([*more.values(), *row.values()] for row in rows)):
                book.active.append(line)
            book.save(file)
        found[name] = added_to(assembled(tmp_path, str(file)))
    assert found["own"] == [(text, "'-red") for text in texts]
    assert found["own"] == added_to(assembled(tmp_path, [{**kinds["ours"], **row} for row in rows]))
    assert found["ours"] == [(text, "-red") for text in ("=1+1 in words", "'@home", "'tis text", "plain")]


def test_a_sheet_in_another_encoding_says_how_to_save_it(tmp_path: Path) -> None:
    rows = [{"finetooth_change": "add", "Frage": "Wie grün ist Öl?", "Farbe": "red"}]
    saved = sheet(tmp_path / "next.csv", rows, {"delimiter": ";"}, "cp1252")
    with pytest.raises(DataError, match=r"next\.csv: not UTF-8\. Save it again as CSV UTF-8"):
        assembled(tmp_path, saved)
    base = sheet(tmp_path / "rows.csv", ROWS, {"delimiter": ";"}, "cp1252")
    assert added_to(assembled(tmp_path, saved, train=base, encoding="cp1252")) == [
        ("Wie grün ist Öl?", "red")
    ]


def test_a_new_label_is_told(tmp_path: Path) -> None:
    data = assembled(
        tmp_path, [{**NEW, "Farbe": "bleu"}, {**NEW, "Farbe": "yelow"}, {**NEW, "Farbe": "yelow"}]
    )
    assert "n0.jsonl, line 1: the label 'bleu' is new: no other row has it." in data.notes
    assert sum("Did you mean 'yellow'?" in note for note in data.notes) == 1


def test_rows_without_an_answer_are_counted(tmp_path: Path) -> None:
    waiting = [{**NEW, "Frage": f"open {n}", "Farbe": answer} for n, answer in enumerate((None, "", " "))]
    without = {"finetooth_change": "add", "Frage": "no such cell"}
    data = assembled(tmp_path, [NEW, *waiting, without])
    assert "4 of 5 rows of n0.jsonl have no answer yet and are left out." in data.notes
    assert sum(ADDED in row.tags for row in data.sides["train"]) == 1


def test_a_plain_data_file_adds_its_rows(tmp_path: Path, plain: AssembledData) -> None:
    more = [{"Nr": "T5", "Frage": "more", "Farbe": "red"}, {"Frage": "and more", "Farbe": "red"}]
    data = assembled(tmp_path, more)
    assert [row.target for row in data.sides["train"][-2:]] == ["red", "red"]
    assert ids(data, "train")[-2] == "T5-2", "its id is that of another row"
    assert ids(data, "validation") == ids(plain, "validation") and ids(data, "test") == ids(plain, "test")


def test_ids_are_found_again_in_the_next_iteration(tmp_path: Path) -> None:
    """Also of rows without ids of their own, that were corrected before, and that a change set has added."""
    rows = [{name: value for name, value in row.items() if name != "Nr"} for row in ROWS]
    data = {"train": lines(tmp_path / "plain.jsonl", rows), "columns": {"Frage": "text", "Farbe": "label"}}
    before = assembled(tmp_path, **data)
    wrong, copy = ids(before, "train")[0], before.sides["train"][3]
    correct = {"finetooth_change": "correct", "Farbe": "blue"}
    one = [
        {**correct, "finetooth_row": wrong, "Frage": "corrected once"},
        NEW,
        {"finetooth_change": "add", "Frage": copy.context[0].content, "Farbe": copy.target},
    ]
    first = assembled(tmp_path, one, **data)
    new, twin = ids(first, "train")[-2:]
    assert twin == f"{copy.id}-2"
    two = [
        {**correct, "finetooth_row": wrong, "Frage": "corrected twice"},
        {**correct, "finetooth_row": new, "Frage": "the added row is corrected"},
        {"finetooth_change": "remove", "finetooth_row": twin},
        {**NEW, "Frage": "and a banana?"},
    ]
    second = assembled(tmp_path, one, two, **data)
    assert row_of(second, wrong).context[0].content == "corrected twice"
    assert row_of(second, new).context[0].content == "the added row is corrected"
    assert row_of(second, new).tags[ADDED] == "n0.jsonl"
    assert twin not in ids(second, "train") and len(ids(second, "train")) == len(ids(first, "train"))


def test_data_clean_applies_to_added_rows(tmp_path: Path, plain: AssembledData) -> None:
    copy = plain.sides["train"][0]
    twin = {"finetooth_change": "add", "Frage": copy.context[0].content.upper(), "Farbe": copy.target}
    new = {**NEW, "Frage": "<p>two  spaces</p>"}
    data = assembled(tmp_path, [twin, new], clean=["strip_html", "normalise_space", "dedupe"])
    assert [row.context[0].content for row in data.sides["train"] if ADDED in row.tags] == ["two spaces"]


REFUSED: dict[str, tuple[Callable[[AssembledData], list[Row]], str]] = {
    "kind": (
        lambda data: [{**NEW, "finetooth_change": "ad"}],
        r"n0\.jsonl, line 1: finetooth_change is 'ad', expected add, correct, remove\. Did you mean add\?",
    ),
    "unknown": (
        lambda data: [{**NEW, "finetooth_change": "correct", "finetooth_row": "T"}],
        r"line 1: correct T: no training or validation row has this id\.",
    ),
    "near": (
        lambda data: [{"finetooth_change": "remove", "finetooth_row": f"{ids(data, 'train')[0]}x"}],
        r"Did you mean T\d+\?",
    ),
    "no id": (
        lambda data: [{"finetooth_change": "remove"}],
        r"line 1: remove without the id of a row in finetooth_row",
    ),
    "sealed": (
        lambda data: [{**NEW, "finetooth_change": "correct", "finetooth_row": ids(data, "test")[0]}],
        r"line 1: correct T\d+: it is a row of the sealed test, which stays as it is",
    ),
    "validation": (
        lambda data: [{"finetooth_change": "remove", "finetooth_row": ids(data, "validation")[0]}],
        r"it is a validation row\. .* only training rows are removed",
    ),
    "twice": (
        lambda data: [
            {"finetooth_change": "remove", "finetooth_row": ids(data, "train")[0]},
            {**NEW, "finetooth_change": "correct", "finetooth_row": ids(data, "train")[0]},
        ],
        r"line 2: the row T\d+ is changed in another way in n0\.jsonl, line 1\. Keep one",
    ),
    "no text": (
        lambda data: [NEW, {"finetooth_change": "add", "Frage": " ", "Farbe": "red"}],
        r"n0\.jsonl, line 2: text is empty\. Fill it in, or delete the row",
    ),
    "columns": (lambda data: [{"Question": "which?", "Farbe": "red"}], r"n0\.jsonl has no column 'Frage'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_change_that_cannot_be_made_is_refused(name: str, tmp_path: Path, plain: AssembledData) -> None:
    rows, words = REFUSED[name]
    with pytest.raises(DataError, match=words) as refused:
        assembled(tmp_path, rows(plain))
    sealed = {row.context[0].content for row in plain.sides["test"]}
    assert not any(text in str(refused.value) for text in sealed)


def test_the_same_change_twice_is_one_and_a_removed_row_is_gone(tmp_path: Path, plain: AssembledData) -> None:
    gone = {"finetooth_change": "remove", "finetooth_row": ids(plain, "train")[0]}
    assert len(assembled(tmp_path, [gone, gone]).sides["train"]) == len(plain.sides["train"]) - 1
    with pytest.raises(DataError, match=r"n1\.jsonl, line 1: remove T\d+: n0\.jsonl has removed this row"):
        assembled(tmp_path, [gone], [gone])
    with pytest.raises(DataError, match="named twice"):
        assembled(tmp_path, *[lines(tmp_path / "one.jsonl", [NEW])] * 2)


@pytest.mark.parametrize(
    ("format", "make"),
    [
        ("qa", lambda n, answer: {"question": f"what is {n}?", "answer": answer}),
        ("chat", lambda n, answer: {"messages": [{"role": "user", "content": f"what is {n}?"}]
                                    + ([{"role": "assistant", "content": answer}] if answer else [])}),
        ("preference", lambda n, answer: {"prompt": f"is {n}?", "chosen": answer, "rejected": "no idea"}),
        ("alpaca", lambda n, answer: {"instruction": f"say {n}", "input": "", "output": answer}),
    ],
)  # fmt: skip
def test_every_format_has_rows_that_are_not_filled_in(
    format: str, make: Callable[[int, str], Row], tmp_path: Path
) -> None:
    base = lines(tmp_path / "base.jsonl", [make(n, f"it is {n}") for n in range(60)])
    new = [{"finetooth_change": "add", **make(n, f"{n}!" * (n % 2))} for n in range(100, 106)]
    if format == "preference":  # its answer is both, and a blank one is not filled in
        new = [{**row, "rejected": "no idea" if row["chosen"] else ""} for row in new]
    data = assembled(tmp_path, new, train=base, columns={})
    assert data.format == format
    assert sum(ADDED in row.tags for row in data.sides["train"]) == 3
    assert "3 of 6 rows of n0.jsonl have no answer yet and are left out." in data.notes
