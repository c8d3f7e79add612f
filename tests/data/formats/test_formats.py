"""Formats: found from the columns, mapped, refused when they are ambiguous; each read into an Example."""

from __future__ import annotations

from typing import Any

import pytest

from finetooth.config.task import DataConfig
from finetooth.data.formats.parse import ParsedTable, parse
from finetooth.data.read.files import read
from finetooth.errors import ConfigError, DataError
from finetooth.types import Message


def parsed(rows: list[dict[str, Any]], format: str = "auto", **config: Any) -> ParsedTable:
    (table,) = read(rows)
    return parse(table, DataConfig(train=rows, **config), format)


def only(rows: list[dict[str, Any]], format: str = "auto", **config: Any) -> tuple[str, list[Message], str]:
    result = parsed(rows, format, **config)
    assert not result.rejected
    (example,) = result.examples
    return result.format, list(example.context), example.target


def user(text: str) -> Message:
    return Message("user", text)


def system(text: str) -> Message:
    return Message("system", text)


@pytest.mark.parametrize(
    ("row", "format", "context", "answer"),
    [
        ({"text": "a"}, "text", [], "a"),
        ({"text": "a", "label": "b"}, "labels", [user("a")], "b"),
        ({"text": "a", "label": 3}, "labels", [user("a")], "3"),
        ({"text": "a", "label": " b "}, "labels", [user("a")], "b"),
        ({"question": "a", "answer": "b"}, "qa", [user("a")], "b"),
        ({"question": "a", "answer": 42}, "qa", [user("a")], "42"),
        ({"query": "a", "response": "b"}, "qa", [user("a")], "b"),
        ({"prompt": "a", "completion": "b"}, "prompt", [user("a")], "b"),
        ({"prompt": "a", "completion": "b", "system": "s"}, "prompt", [system("s"), user("a")], "b"),
        ({"input": "a", "output": "b"}, "qa", [user("a")], "b"),
        ({"context": "a", "answer": "b", "system": "s"}, "qa", [system("s"), user("a")], "b"),
        ({"instruction": "i", "output": "b"}, "alpaca", [user("i")], "b"),
        ({"instruction": "i", "input": "", "output": "b"}, "alpaca", [user("i")], "b"),
        ({"instruction": "i", "input": "a", "output": "b"}, "alpaca", [system("i"), user("a")], "b"),
        (
            {"instruction": "i", "input": "a", "output": "b", "text": "ia b"},
            "alpaca",
            [system("i"), user("a")],
            "b",
        ),
        (
            {"instruction": "i", "input": "a", "output": "b", "system": "s"},
            "alpaca",
            [system("s"), user("i\n\na")],
            "b",
        ),
    ],
)
def test_formats_are_found(row: dict[str, Any], format: str, context: list[Message], answer: str) -> None:
    assert only([row]) == (format, context, answer)
    assert only([row], format) == (format, context, answer)


def chat(*pairs: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


def test_chat() -> None:
    row = chat(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    context = [system("s"), user("a"), Message("assistant", "b"), user("c")]
    assert only([row]) == ("chat", context, "d")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (chat(("assistant", "b")), "message 1 has the role assistant, expected user"),
        (chat(("user", "a")), "the last message is not from the assistant"),
        (chat(("system", "s")), "the last message is not from the assistant"),
        (
            chat(("user", "a"), ("user", "a"), ("assistant", "b")),
            "message 2 has the role user, expected assistant",
        ),
        (chat(("system", "s"), ("assistant", "b")), "message 2 has the role assistant, expected user"),
        (chat(("user", "a"), ("system", "s"), ("assistant", "b")), "message 2 has the role system"),
        (
            chat(("user", "a"), ("tool", "x"), ("assistant", "b")),
            "message 2 has the role tool, expected assistant",
        ),
        (chat(("user", "a"), ("critic", "x"), ("assistant", "b")), "message 2 has the role 'critic'"),
        (chat(("user", ""), ("assistant", "b")), "message 1 has no text"),
        (chat(("user", [{"type": "text"}]), ("assistant", "b")), "message 1 has no text"),
        ({"messages": []}, "not a list"),
        ({"messages": "hello"}, "not a list"),
        ({"messages": [{"from": "human", "value": "a"}]}, "not an object with role and content"),
        (
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "b", "audio": {"id": 1}},
                ]
            },
            "the key 'audio', which would be dropped",
        ),
    ],
)
def test_broken_conversations(row: dict[str, Any], reason: str) -> None:
    result = parsed([row])
    assert not result.examples
    assert reason in result.rejected[0].reason
    assert result.rejected[0].row == row


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"text": "a", "label": "b"}, {"text": "a", "label": None}], "label is empty"),
        ([{"text": "a", "label": "b"}, {"text": " ", "label": "b"}], "text is empty"),
        ([{"text": "a", "label": "b"}, {"text": "a"}], "label is missing"),
        ([{"question": "a", "answer": "b"}, {"question": "a", "answer": "\n"}], "answer is empty"),
        ([{"question": "a", "answer": "b"}, {"question": "", "answer": "b"}], "question is empty"),
        ([{"question": "a", "answer": "b"}, {"question": "a", "answer": ["b"]}], "answer is a list"),
        (
            [{"question": "a", "answer": "b"}, {"question": "a"}],
            "question or the answer is missing",
        ),
        ([{"text": "a", "id": "1"}, {"text": "a", "id": {"x": 1}}], "id is a dict"),
    ],
)
def test_broken_rows_keep_their_line(rows: list[dict[str, Any]], reason: str) -> None:
    result = parsed(rows)
    assert [example.tags["line"] for example in result.examples] == [1]
    assert [(row.file, row.line) for row in result.rejected] == [("rows", 2)]
    assert reason in result.rejected[0].reason


def test_unknown_columns_show_what_is_there_and_what_each_format_needs() -> None:
    with pytest.raises(DataError) as caught:
        parsed([{"utterance": "a", "intent": "b"}])
    message = str(caught.value)
    assert "'utterance', 'intent'" in message and "labels: text + label" in message
    assert "data.columns: {utterance: text, intent: label}" in message


def test_ambiguous_columns_are_refused_until_named() -> None:
    row = {"text": "t", "label": "l", "question": "q", "answer": "a"}
    with pytest.raises(DataError, match=r"more than one way: labels \(label \+ text\); qa"):
        parsed([row])
    assert only([row], "qa")[1:] == ([user("q")], "a")
    pairs = {"prompt": "p", "response": "r", "question": "q", "answer": "a"}
    with pytest.raises(DataError, match="more than one way"):
        parsed([pairs], "qa")
    with pytest.raises(DataError, match="format chat needs the columns messages"):
        parsed([row], "chat")


def test_column_mapping_is_name_in_the_file_to_canonical_name() -> None:
    row = {"utterance": "a", "intent": "b", "n": 7}
    assert only([row], columns={"utterance": "text", "intent": "label"})[1:] == ([user("a")], "b")
    dolly = {"instruction": "i", "context": "", "response": "r", "category": "c"}
    mapping = {"instruction": "system", "response": "answer"}
    assert only([dolly], columns=mapping) == ("qa", [user("i")], "r")
    assert only([dolly | {"context": "c"}], columns=mapping)[1] == [system("i"), user("c")]


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"utterance": "question"}, ConfigError, "one of id, system, context"),
        ({"text": "utterance"}, ConfigError, r"the other way round: .*utterance: text"),
        ({"absent": "text"}, DataError, r"no column 'absent'\. It has: 'utterance', 'intent'"),
        ({"utterance": "answer", "intent": "answer"}, ConfigError, "two columns are mapped to answer"),
        ({"utterance": "intent"}, ConfigError, "one of id"),
    ],
)
def test_wrong_mappings(columns: dict[str, str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parsed([{"utterance": "a", "intent": "b"}], columns=columns)


def test_a_mapping_onto_a_column_that_is_there_is_refused() -> None:
    with pytest.raises(DataError, match="already has a column 'text'"):
        parsed([{"utterance": "a", "text": "b", "label": "c"}], columns={"utterance": "text"})


def test_tags_carry_label_group_place_and_the_other_columns() -> None:
    row = {"text": "a", "label": "b", "thread": 9, "n": 7, "file": "theirs", "empty": None, "group": "g"}
    result = parsed([row], group="thread")
    (example,) = result.examples
    place = {"file": "rows", "line": 1}
    assert example.tags == {"n": 7, "file_": "theirs", "label": "b", "group": "9", "group_": "g", **place}
    assert result.notes == ["rows: not trained on, kept as tags: n, file, empty, group."]
    with pytest.raises(DataError, match=r"data\.group: rows has no column 'nothing'"):
        parsed([row], group="nothing")


def flags(**values: Any) -> dict[str, Any]:
    return {"text": "t", **values}


MANY = {"toxic": "label", "rude": "label", "threat": "label"}


@pytest.mark.parametrize(
    ("row", "label"),
    [
        (flags(toxic=0, rude=0, threat=0), "none"),
        (flags(toxic="1", rude="0", threat="1"), "toxic, threat"),
        (flags(toxic=True, rude=False, threat=False), "toxic"),
        (flags(threat=1.0, rude=1.0, toxic=0.0), "rude, threat"),
        (flags(toxic="FALSE", rude="TRUE", threat="false"), "rude"),
        (flags(toxic="spam", rude="", threat="de"), "spam, de"),
        (flags(toxic=2, rude=0, threat=None), "2, 0"),
    ],
)
def test_labels_in_many_columns(row: dict[str, Any], label: str) -> None:
    assert only([row], columns=MANY) == ("labels", [user("t")], label)


def test_many_labels_are_read_alike_in_all_rows_and_never_half() -> None:
    rows = [flags(toxic=1, rude=0, threat=threat) for threat in (0, None, 1)]
    result = parsed(rows, columns=MANY)
    assert [example.target for example in result.examples] == ["toxic", "toxic, threat"]
    assert [(row.line, row.reason) for row in result.rejected] == [(2, "label is empty")]
    rows[1]["threat"] = 5  # no longer flags: then in no row
    targets = [example.target for example in parsed(rows, columns=MANY).examples]
    assert targets == [f"toxic: 1, rude: 0, threat: {threat}" for threat in (0, 5, 1)]
    assert "expected text" in parsed([flags(toxic=[1], rude=0, threat=0)], columns=MANY).rejected[0].reason


def test_a_weight_of_a_row_goes_to_its_answers() -> None:
    weights = (2, "0.5", None, 0, -1, "x", float("nan"))
    rows = [{"text": "a", "label": "b", "weight": weight} for weight in weights]
    result = parsed(rows)
    assert [example.answers[0].weight for example in result.examples] == [2.0, 0.5, 1.0, 1.0]
    assert [(row.line, row.reason) for row in result.rejected] == [
        (4, "weight is 0, so there is nothing to train on"),
        (5, "weight is '-1', expected a number of at least 0"),
        (6, "weight is 'x', expected a number of at least 0"),
    ]
    assert "the column weight is the loss weight" in result.notes[0]
    assert "weight" not in result.examples[0].tags


def test_a_completion_marked_as_bad_is_not_imitated() -> None:
    rows = [{"prompt": "a", "completion": "b", "label": good} for good in (True, False)]
    result = parsed(rows)
    assert len(result.examples) == 1 and "label is false" in result.rejected[0].reason
