"""Rows without answers are read as training reads the same rows with answers, in every format."""

from __future__ import annotations

from typing import Any

import pytest

from finetooth.config.task import DataConfig
from finetooth.data.formats.parse import parse
from finetooth.data.formats.questions import read_questions
from finetooth.data.read.table import RawRow, Table, columns_of
from finetooth.errors import DataError

HI, YES = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}
TOOL = {"name": "look", "parameters": {}}


def table(*rows: dict[str, Any]) -> Table:
    made = [RawRow(number, row) for number, row in enumerate(rows, 2)]
    return Table("rows.jsonl", made, columns_of(made))


@pytest.mark.parametrize(
    ("format", "row", "answers", "columns"),
    [
        ("labels", {"text": "a", "label": "x"}, ["label"], {}),
        ("labels", {"text": "a", "label": "x", "system": "be"}, ["label"], {}),
        ("labels", {"body": "a", "team": "x", "who": "me"}, ["team"], {"body": "text", "team": "label"}),
        (
            "labels",
            {"Subject": "s", "Body": "b", "label": "x"},
            ["label"],
            {"Subject": "text", "Body": "text"},
        ),
        (
            "labels",
            {"text": "a", "toxic": 0, "rude": 1},
            ["toxic", "rude"],
            {"toxic": "label", "rude": "label"},
        ),
        ("labels", {"text": "a", "label": "x", "weight": 0.5}, ["label", "weight"], {}),
        ("qa", {"question": "q", "answer": "a"}, ["answer"], {}),
        ("qa", {"query": "q", "response": "a", "history": [["x", "y"]]}, ["response"], {}),
        (
            "qa",
            {"mail": "q", "reply": "a", "how": "s"},
            ["reply"],
            {"mail": "context", "reply": "answer", "how": "system"},
        ),
        ("prompt", {"prompt": "q", "completion": "a"}, ["completion"], {}),
        (
            "prompt",
            {"prompt": [{"role": "system", "content": "be"}, HI], "completion": [YES]},
            ["completion"],
            {},
        ),
        ("alpaca", {"instruction": "do", "input": "q", "output": "a"}, ["output"], {}),
        ("alpaca", {"instruction": "do", "input": "", "output": "a"}, ["output"], {}),
        ("alpaca", {"instruction": "do", "input": "q", "output": "a", "system": "be"}, ["output"], {}),
        ("chat", {"messages": [HI, YES, HI, YES], "tools": [TOOL]}, [], {}),
        (
            "sharegpt",
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes?"}]},
            [],
            {},
        ),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": "b"}, ["chosen", "rejected"], {}),
    ],
)
def test_a_question_is_the_context_of_its_training_row(
    format: str, row: dict[str, Any], answers: list[str], columns: dict[str, str]
) -> None:
    config = DataConfig(train="rows.jsonl", columns=columns)
    (example,) = parse(table(row), config, format).examples
    left = {name: value for name, value in row.items() if name not in answers}
    for given in (left, row):  # with and without the answers
        (question,) = read_questions(table(given), format, columns).rows
        assert question.example is not None, question.reason
        assert (question.example.context, question.example.tools) == (example.context, example.tools)
        assert question.place == 2


def test_a_conversation_that_waits_for_its_answer_is_asked_as_it_is() -> None:
    (question,) = read_questions(table({"messages": [HI, YES, HI]}), "chat").rows
    assert question.example is not None
    assert [message.content for message in question.example.context] == ["Hi", "Yes?", "Hi"]


def test_rows_that_cannot_be_asked_are_kept_in_order_with_their_reason() -> None:
    given = table({"text": "a"}, {"text": " "}, {"text": ["list"]}, {"other": 1}, {"text": "b"})
    found = read_questions(given, "labels").rows
    assert [question.place for question in found] == [2, 3, 4, 5, 6]
    assert [bool(question.example) for question in found] == [True, False, False, False, True]
    assert [question.reason for question in found] == [
        "",
        "text is empty",
        "text is a list, expected text",
        "text is empty",
        "",
    ]


@pytest.mark.parametrize(
    ("format", "row", "columns", "words"),
    [
        (
            "labels",
            {"Body": "a", "date": "b"},
            {"body": "text"},
            ["no column 'body'", '--columns "{Body: text}"', "'date'"],
        ),
        ("labels", {"subject": "a"}, {}, ["no column 'text'", '--columns "{subject: text}"']),
        ("alpaca", {"task": "a"}, {}, ["no column 'instruction'", "Give the column that name"]),
        ("qa", {"mail": "a"}, {}, ['--columns "{mail: context}"']),
        (
            "qa",
            {"question": "a", "query": "b"},
            {},
            ["may each be the question", '--columns "{question: context}"'],
        ),
        (
            "labels",
            {"Body": "b", "Betreff": "s"},
            {"Subject": "text", "Body": "text"},
            ["no column 'Subject'", "'Subject', 'Body' together as text", "Give the column that name"],
        ),
        ("labels", {"body": "a", "text": "b"}, {"body": "text"}, ["also has a column 'text'"]),
        ("text", {"text": "a"}, {}, ["plain text", "finetooth chat"]),
    ],
)
def test_a_missing_column_is_one_error_with_what_to_type(
    format: str, row: dict[str, Any], columns: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(DataError) as error:
        read_questions(table(row), format, columns)
    assert [word for word in words if word not in str(error.value)] == []


def test_a_column_that_training_left_out_is_no_question() -> None:
    given = table({"question": "a", "query": "b"})
    (question,) = read_questions(given, "qa", {}, {"query"}).rows
    assert question.example is not None and question.example.context[0].content == "a"


def test_the_input_of_an_instruction_is_asked_where_the_run_has_the_instruction() -> None:
    found = read_questions(table({"input": "q"}), "alpaca")
    assert found.rows[0].example is not None and not found.has_system
    assert [message.role for message in found.rows[0].example.context] == ["user"]
