"""Rows of change sets: what is written, filled in and read again is the same example, in every format."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from finetooth.analysis.change_set import Change, RowForm, change_set, with_answer
from finetooth.config.task import DataConfig
from finetooth.data.change_sheet import CHANGE, ROW, WHY, read_guarded
from finetooth.data.examples import content
from finetooth.data.formats.columns import ColumnPlan
from finetooth.data.formats.parse import parse
from finetooth.data.read.files import from_memory, read_content
from finetooth.data.read.names import clean_columns
from finetooth.types import Answer, Example

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
TOOLS = [
    {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
]
CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "labels": (
        {},
        [{"text": "Where is it?", "label": "delivery"}, {"text": '=1+1, "so"\nand ', "label": "a b"}],
    ),
    "labels, own names": (
        {"columns": {"Frage": "text", "Team": "label", "Rolle": "system", "Nr": "id"}},
        [{"Nr": "T-1", "Team": "süß", "Frage": " Wo? ", "Rolle": "Sei kurz.", "Rest": "x", "Zahl": 3}],
    ),
    "joined": (
        {"columns": {"Betreff": "text", "Text": "text", "Team": "label"}},
        [
            {"Betreff": "Re: Text: hm", "Text": "Zeile 1\nBetreff: x\nZeile 3", "Team": "a"},
            {"Betreff": "", "Text": "nur Text", "Team": "b"},
            {"Betreff": "nur Betreff", "Text": "", "Team": "b"},
        ],
    ),
    "weight and group": (
        {"group": "customer"},
        [
            {"text": "one", "label": "a", "weight": 0.5, "customer": "C1"},
            {"text": "two", "label": "b", "weight": 1},
        ],
    ),
    "qa": ({}, [{"question": "2+2?", "answer": "4"}, {"question": "x", "answer": "y", "system": "s"}]),
    "qa, another pair": ({}, [{"query": "2+2?", "response": "4"}]),
    "qa, own names": (
        {"columns": {"mail": "context", "subject": "context", "reply": "answer"}},
        [{"subject": "hi", "mail": "there", "reply": "ok"}],
    ),
    "earlier turns": (
        {},
        [{"history": [["q1", "a1"], ["q2", "a2"]], "question": "q3", "answer": "a3", "system": "s"}],
    ),
    "prompt": ({}, [{"prompt": "Say it", "completion": " it"}, {"prompt": "[no list", "completion": "x"}]),
    "prompt of messages": (
        {},
        [
            {
                "prompt": [
                    {"role": "system", "content": "s"},
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": "a"},
                    {"role": "user", "content": "r"},
                ],
                "completion": [{"role": "assistant", "content": "t"}],
            }
        ],
    ),
    "alpaca": (
        {},
        [
            {"instruction": "Translate", "input": "Haus", "output": "house"},
            {"instruction": "Count to 3", "input": "", "output": "1 2 3"},
        ],
    ),
    "alpaca with a system": (
        {},
        [{"instruction": "Translate", "input": "Haus", "output": "house", "system": "You translate."}],
    ),
    "chat": (
        {},
        [
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
            {
                "messages": [
                    {"role": "system", "content": "s"},
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": "", "tool_calls": [CALL]},
                    {"role": "tool", "content": "7", "tool_call_id": "c1"},
                    {"role": "assistant", "content": "b", "weight": 0},
                    {"role": "user", "content": "r"},
                    {"role": "assistant", "content": "c", "weight": 0.5},
                ],
                "tools": TOOLS,
            },
        ],
    ),
    "chat with its own name": (
        {"columns": {"dialogue": "messages"}},
        [{"dialogue": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}],
    ),
    "sharegpt": (
        {},
        [
            {
                "conversations": [
                    {"from": "system", "value": "s"},
                    {"from": "human", "value": "q"},
                    {"from": "gpt", "value": "a"},
                ]
            }
        ],
    ),
    "preference": (
        {},
        [
            {"prompt": "q", "chosen": "good", "rejected": "bad"},
            {
                "prompt": [{"role": "user", "content": "q"}],
                "chosen": [{"role": "assistant", "content": "good"}],
                "rejected": [{"role": "assistant", "content": "bad"}],
            },
        ],
    ),
    "several label columns": (
        {"columns": {"text": "text", "team": "label", "urgent": "label"}},
        [
            {"text": "one", "team": "billing", "urgent": "yes"},
            {"text": "two", "team": "billing", "urgent": "no"},
            {"text": "three", "team": "tech", "urgent": "no"},
        ],
    ),
    "text": ({}, [{"text": "A whole document.\nOf two lines."}]),
}


def _read(rows: list[dict[str, Any]], keys: dict[str, Any]) -> tuple[RowForm, list[Example], ColumnPlan]:
    table = clean_columns(from_memory(rows))
    config = DataConfig(train="rows.jsonl", **keys)
    plan = ColumnPlan.of([table], config.columns)
    parsed = parse(table, config, "auto", plan)
    assert not parsed.rejected
    return RowForm.of(config, parsed.format, [table]), parsed.examples, plan


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", [".jsonl", ".csv"])
def test_what_is_written_is_read_as_the_same_example(name: str, kind: str) -> None:
    keys, rows = CASES[name]
    form, examples, plan = _read(rows, keys)
    written = change_set(form, [Change("add", one, one.target, "because") for one in examples])
    assert not written.left_out
    text = written.jsonl() if kind == ".jsonl" else written.csv()
    table = read_guarded(read_content(Path(f"next{kind}"), f"next{kind}", kind, text))
    assert set(rows[0]) <= set(table.columns) | {"weight"}
    again = parse(table, form.config, form.format, plan)
    assert not again.rejected
    assert [*map(content, again.examples)] == [*map(content, examples)]
    for before, after in zip(examples, again.examples, strict=True):
        for tag in set(before.tags) - {"file", "line", "sheet_row"}:
            assert str(after.tags[tag]) == str(before.tags[tag])


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("text", "several label columns")])
def test_an_answer_is_filled_in_and_replaced(name: str) -> None:
    """With the row's first answer gone, nothing but its cell is empty; another answer is in its place."""
    keys, rows = CASES[name]
    form, examples, plan = _read(rows, keys)
    other = [with_answer(one, "Something else") for one in examples]
    written = change_set(form, [Change("correct", one, "Something else", "", one.id) for one in examples])
    table = from_memory(json.loads(f"[{','.join(written.jsonl().decode().splitlines())}]"))
    assert [*map(content, parse(table, form.config, form.format, plan).examples)] == [*map(content, other)]
    unfilled = change_set(
        form, [Change("add", replace(one, answers=one.answers), "", "") for one in examples]
    )
    for row, full in zip(unfilled.rows, written.rows, strict=True):
        turns = next((row[name] for name in ("messages", "dialogue", "conversations") if name in row), None)
        if turns is None:
            changed = {name for name, value in row.items() if value != full[name]} - {CHANGE, ROW}
            assert changed and not any(row[name] for name in changed), "the answer's cells alone are empty"
        else:
            assert turns[-1].get("role", turns[-1].get("from")) in ("user", "human")


def test_columns_stand_in_the_order_of_the_user_and_ours_come_last() -> None:
    rows = [{"Nr": "T-1", "Team": "a", "Frage": "Wo?", "Kanal": "Mail"}] * 2
    form, examples, _ = _read(rows, {"columns": {"Frage": "text", "Team": "label", "Nr": "id"}})
    written = change_set(form, [Change("correct", examples[0], "b", "why", "T-1")])
    header, first = csv.reader(io.StringIO(written.csv().decode("utf-8-sig")))
    assert header == ["Nr", "Team", "Frage", "Kanal", CHANGE, ROW, WHY]
    assert first == ["T-1", "b", "Wo?", "Mail", "correct", "T-1", "why"]


NASTY = ['=HYPERLINK("#a"&A1,"x")', "+49 171 2345678", "-2+3+cmd|' /C calc'!A0", "@SUM(1)"]
NASTY += [
    "'=1+1",
    "''-x",
    "'quoted'",
    "'",
    " =1+1",
    "- a list\n- of two",
    "\t=1",
    "-5",
    "+3.5",
    "＝1",
    "a;=1",
]


@pytest.mark.parametrize("kind", [".csv", ".xlsx"])
def test_no_cell_is_a_formula_and_each_is_read_as_it_was(kind: str) -> None:
    """In next.csv, and in a workbook that a program has made of it: texts, labels, ids and names."""
    rows = [{"=Nr": f"={k}", "Team": text, "@Frage": f"{text} of {k}"} for k, text in enumerate(NASTY)]
    form, examples, plan = _read(rows, {"columns": {"@Frage": "text", "Team": "label", "=Nr": "id"}})
    written = change_set(form, [Change("correct", one, one.target, f"={one.id}", one.id) for one in examples])
    assert not written.left_out
    text = written.csv()
    cells = [*csv.reader(io.StringIO(text.decode("utf-8-sig"), newline=""))]
    live = [cell for line in cells for cell in line if cell.strip()[:1] in [*"=+-@＝"] and cell != "-5"]
    assert not live
    assert [line[cells[0].index(ROW)] for line in cells[1:]] == [f"'={k}" for k in range(len(NASTY))]
    if kind == ".xlsx":
        text = _workbook(cells)
    found = read_guarded(clean_columns(read_content(Path(f"next{kind}"), f"next{kind}", kind, text)))
    assert [[*row.values.values()] for row in found.rows] == [[*row.values()] for row in written.rows]
    again = parse(replace(found, columns=[*rows[0]]), form.config, form.format, plan)
    assert [*map(content, again.examples)] == [*map(content, examples)]


def _workbook(cells: list[list[str]]) -> bytes:
    book = Workbook()
    for at, line in enumerate(cells, 1):
        for column, text in enumerate(line, 1):
            book.active.cell(at, column).value = text
            assert book.active.cell(at, column).data_type in ("s", "n"), "no formula"
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def test_a_set_of_labels_that_no_row_has_cannot_be_written_and_is_left_out() -> None:
    keys, rows = CASES["several label columns"]
    form, examples, _ = _read(rows, keys)
    written = change_set(
        form, [Change("correct", examples[0], "unheard of", "", "x"), Change("add", examples[1], "", "")]
    )
    assert [one.row for one in written.left_out] == ["x"]
    assert len(written.rows) == 1 and written.rows[0]["team"] == "" == written.rows[0]["urgent"]


def test_a_row_to_be_written_has_only_its_reason() -> None:
    form, _, _ = _read(CASES["labels, own names"][1], CASES["labels, own names"][0])
    (row,) = change_set(form, [Change("add", Example("", (), ()), "", "write a row")]).rows
    assert {name: value for name, value in row.items() if value} == {CHANGE: "add", WHY: "write a row"}


def test_a_context_that_the_format_cannot_hold_is_left_out() -> None:
    """A conversation cannot become a row of text and label if a turn is not the user's or the assistant's."""
    chat, (_, talk), _ = _read(CASES["chat"][1], {})
    form, _, _ = _read(CASES["labels"][1], {})
    assert len(change_set(form, [Change("add", talk, "a", "")]).left_out) == 1
    assert not change_set(chat, [Change("add", talk, "a", "")]).left_out
    assert with_answer(Example("", (), ()), "a").answers == (Answer("a"),)


def test_a_pool_row_without_its_several_label_columns_is_kept() -> None:
    rows = [{"text": f"{k} of it", "red": k % 2, "blue": 1} for k in range(6)]
    form, examples, _ = _read(rows, {"columns": {"text": "text", "red": "label", "blue": "label"}})
    found = change_set(form, [Change("add", replace(one, answers=(), id=""), "", "") for one in examples])
    assert len(found.rows) == 6 and not found.left_out
    assert all(row["red"] == row["blue"] == "" for row in found.rows)
