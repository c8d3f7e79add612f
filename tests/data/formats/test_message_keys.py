"""Further keys of messages and calls: read under every name they have, or refused, never left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_conversations import CALL, only, reason, turn

from finetooth.config.task import DataConfig
from finetooth.data.formats.parse import parse
from finetooth.data.read.files import read
from finetooth.errors import DataError
from finetooth.types import Answer, Message


def row(**keys: Any) -> dict[str, Any]:
    return {"messages": [turn("user", "a"), turn("assistant", "b", **keys)]}


@pytest.mark.parametrize("key", ["loss", "training", "mask"])
@pytest.mark.parametrize("value", [False, 0, True, 1])
def test_2_a_key_that_another_tool_reads_is_never_ignored(key: str, value: Any) -> None:
    """Planted: a turn that must not be learned, said in the words of another tool."""
    words = reason(row(**{key: value}))
    assert f"the key {key!r}, which would be dropped" in words and "rename it to train" in words
    assert only(row(**{key: None}), "chat").answers == (Answer("b"),)


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_2_a_thought_is_a_thought_under_each_of_its_names(key: str) -> None:
    answer = Answer("b", more={"reasoning_content": "hm"})
    assert only(row(**{key: "hm"}), "chat").answers == (answer,)
    assert only(row(**{key: "hm", "reasoning_content": "hm"}), "chat").answers == (answer,)
    if key != "reasoning_content":
        assert "two that differ" in reason(row(**{key: "hm", "reasoning_content": "so"}))
    assert "reasoning that is not text" in reason(row(**{key: ["hm"]}))


@pytest.mark.parametrize("wrapped", [True, False])
def test_2_parameters_of_a_call_are_its_arguments(wrapped: bool) -> None:
    """Planted: Llama's way of writing calls, which read as a call without arguments."""
    function = {"name": "add", "parameters": {"x": 1}}
    calls = [{"function": function} if wrapped else function]
    assert only(row(tool_calls=calls), "chat").answers[0].more == {"tool_calls": [CALL]}
    said = {"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": ""}]}
    said["conversations"][1]["value"] = json.dumps(function)
    assert only(said, "sharegpt").answers[0].more == {"tool_calls": [CALL]}


@pytest.mark.parametrize(
    "function", [{"args": {"x": 1}}, {"arguments": {"x": 1}, "parameters": {"y": 1}}, {"strict": False}]
)
def test_2_what_else_a_call_says_is_refused(function: dict[str, Any]) -> None:
    assert "which would be dropped" in reason(row(tool_calls=[{"name": "add", **function}]))


@pytest.mark.parametrize("value", ["False", "false", False])
def test_a_completion_that_is_marked_as_bad_is_not_learned(value: Any) -> None:
    """Planted: from a CSV the mark is a text."""
    bad = {"prompt": "a", "completion": "b", "label": value}
    assert "marked as undesirable" in reason(bad)
    assert only({**bad, "label": "True"}, "prompt").answers == (Answer("b"),)


def test_messages_in_a_cell_of_a_table_are_messages() -> None:
    """Planted: prompts as JSON text, which would be asked as that text."""
    prompt = json.dumps([turn("system", "s"), turn("user", "a")])
    whole = {"prompt": prompt, "completion": json.dumps([turn("assistant", "b")])}
    example = only(whole, "prompt")
    assert example.context == (Message("system", "s"), Message("user", "a"))
    assert example.answers == (Answer("b"),)
    pair = {"prompt": prompt, "chosen": json.dumps([turn("assistant", "b")]), "rejected": "[1, 2]"}
    assert [answer.text for answer in only(pair, "preference").answers] == ["b", "[1, 2]"]
    assert only({"prompt": "[sic]", "completion": "[]"}, "prompt").answers == (Answer("[]"),)


def test_one_blank_cell_does_not_change_the_labels_of_all_rows() -> None:
    rows = [{"text": "a", "rude": "0", "kind": "1"}, {"text": "b", "rude": " ", "kind": "0"}]
    rows += [{"text": "c", "rude": True, "kind": 0}]
    (table,) = read(rows)
    found = parse(table, DataConfig(train=rows, columns={"rude": "label", "kind": "label"}))
    assert [example.answers[0].text for example in found.examples] == ["kind", "rude"]
    assert [(item.line, item.reason) for item in found.rejected] == [(2, "label is empty")]


def test_what_to_do_is_said_for_shapes_that_are_nearly_known(tmp_path: Path) -> None:
    talk = {"messages": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
    assert "for from and value, set data.format: sharegpt" in reason(talk)
    assert only(talk, "sharegpt", format="sharegpt").answers == (Answer("b"),)
    closed = {"question": "q", "context": "c", "answer": "a"}
    with pytest.raises(DataError, match=r"`data\.columns: \{context: system\}` puts it in front"):
        only(closed, "qa", format="qa")
    example = only(closed, "qa", columns={"context": "system"})
    assert example.context == (Message("system", "c"), Message("user", "q"))
    with pytest.raises(DataError, match=r"Set data\.format"):
        only({**talk, "prompt": "a", "completion": "b"}, "chat")
    (tmp_path / "a.jsonl").write_text('[{"text": "a"}, {"text": "b"}]\n')
    with pytest.raises(DataError, match=r"a JSON list, not one object per line\. Give it a name .* \.json\."):
        read(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text('[{"text": "a"}]\n{"text": "b"}\n')
    assert len(read(tmp_path / "a.jsonl")[0].rejected) == 1
