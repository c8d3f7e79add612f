"""What a sheet's columns are, as names and contents show it; else there is a choice, or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from finetooth.config.task import build_task
from finetooth.data.formats.column_roles import propose_roles
from finetooth.data.formats.parse import parse
from finetooth.data.read.table import RawRow, Table

TEXTS = [f"I was charged {k} euros twice for order {k * 7}" for k in range(30)]
LONG = [f"Dear customer, we have returned the {k} euros to your account today" for k in range(30)]
LABELS = ["billing", "delivery", "other"] * 10


def sheet(**columns: list[Any]) -> Table:
    rows = [
        RawRow(line, dict(zip(columns, values, strict=True)))
        for line, values in enumerate(zip(*columns.values(), strict=True), 2)
    ]
    return Table("a.csv", rows, list(columns))


@pytest.mark.parametrize(
    ("columns", "roles"),
    [
        ({"body": TEXTS, "kind": LABELS}, {"body": "text", "kind": "label"}),
        ({"subject": TEXTS, "body": LONG, "team": LABELS},
         {"subject": "text", "body": "text", "team": "label"}),
        ({"no": [*range(30)], "mail": TEXTS, "reply": LONG},
         {"no": "id", "mail": "context", "reply": "answer"}),
        ({"reply": LONG, "mail": TEXTS}, {"mail": "context", "reply": "answer"}),
        ({"first": TEXTS, "second": LONG}, {"first": "context", "second": "answer"}),
        ({"mail": TEXTS, "team": LABELS, "who": ["Ana", "Jo", "Ana"] * 10},
         {"mail": "text", "team": "label"}),
        ({"mail": TEXTS, "amount": [f"{k},50" for k in range(30)], "team": LABELS},
         {"mail": "text", "team": "label"}),
    ],
)  # fmt: skip
def test_columns_are_recognised(columns: dict[str, list[Any]], roles: dict[str, str]) -> None:
    found = propose_roles(sheet(**columns))
    assert found.columns == roles and not found.choices
    assert set(found.reasons) == set(roles)


def test_two_possible_answers_are_a_choice_and_none_is_nothing() -> None:
    found = propose_roles(sheet(mail=TEXTS, team=LABELS, topic=LABELS[::-1]))
    assert [*found.choices] == [{"mail": "text", "team": "label"}, {"mail": "text", "topic": "label"}]
    assert not found.columns
    nothing = propose_roles(sheet(mail=TEXTS, amount=[str(k % 3) for k in range(30)]))
    assert not nothing.columns and not nothing.choices


def test_several_text_columns_are_joined_with_their_names() -> None:
    columns = {"Subject": "text", "Body": "text", "team": "label"}
    table = sheet(Subject=["A bill", "", "Both"], Body=["is wrong", "only body", ""], team=["a", "b", "c"])
    rows = parse(table, build_task({"data": {"train": "a.csv", "columns": columns}}).data).examples
    assert [row.context[-1].content for row in rows] == [
        "Subject: A bill\nBody: is wrong",
        "Body: only body",
        "Subject: Both",
    ]
    empty = sheet(Subject=[""], Body=[" "], team=["a"])
    (rejected,) = parse(empty, build_task({"data": {"train": "a.csv", "columns": columns}}).data).rejected
    assert rejected.reason == "text is empty"
