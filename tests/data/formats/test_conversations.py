"""Conversations: ShareGPT, prompts, preferences, tools, and which turns are learned."""

from __future__ import annotations

import json
from typing import Any

import pytest

from finetooth.config.task import DataConfig, build_task
from finetooth.data.examples import from_json, to_json
from finetooth.data.formats.parse import ParsedTable, parse
from finetooth.data.read.files import read
from finetooth.quality.prepare import assemble
from finetooth.types import Answer, Example, Message


def parsed(row: dict[str, Any], **config: Any) -> ParsedTable:
    (table,) = read([row])
    return parse(table, DataConfig(train=[row], **config), config.get("format", "auto"))


def only(row: dict[str, Any], wanted: str, **config: Any) -> Example:
    result = parsed(row, **config)
    assert result.format == wanted and not result.rejected, result.rejected
    return result.examples[0]


def reason(row: dict[str, Any], **config: Any) -> str:
    (rejected,) = parsed(row, **config).rejected
    return rejected.reason


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def said(*pairs: tuple[str, Any]) -> dict[str, Any]:
    return {"conversations": [{"from": speaker, "value": value} for speaker, value in pairs]}


USER, SYSTEM = Message("user", "a"), Message("system", "s")
SCHEMA = {"name": "add", "parameters": {"type": "object", "properties": {"x": {"type": "number"}}}}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"x": 1}}}


# ---- ShareGPT


def test_sharegpt() -> None:
    row = said(("system", "s"), ("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d"))
    example = only(row, "sharegpt")
    assert example.context == (SYSTEM, USER, Message("assistant", "b"), Message("user", "c"))
    assert example.answers == (Answer("d"),)
    renamed = {"messages": row["conversations"]}
    assert only(renamed, "sharegpt", format="sharegpt").context == example.context
    assert only({**said(("human", "a"), ("gpt", "b")), "system": "s"}, "sharegpt").context == (SYSTEM, USER)


def test_sharegpt_with_a_function() -> None:
    call = json.dumps({"name": "add", "arguments": {"x": 1}})
    row = said(("human", "a"), ("function_call", call), ("observation", "2"), ("gpt", "It is 2."))
    example = only({**row, "tools": json.dumps([SCHEMA])}, "sharegpt")
    assert example.context == (
        USER,
        Message("assistant", "", more={"tool_calls": [CALL]}),
        Message("tool", "2"),
    )
    assert example.tools == ({"type": "function", "function": SCHEMA},)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (said(("human", "a"), ("narrator", "b")), "message 2 is from 'narrator', expected one of"),
        (said(("human", "a")), "the last message is not from the assistant"),
        (
            said(("human", "a"), ("function_call", "{x"), ("tool", "1"), ("gpt", "b")),
            "function_call that is not",
        ),
        ({"conversations": ["a"]}, "message 1 is not an object with from and value"),
        ({"conversations": "a"}, "not a list of {from, value}"),
        ({**said(("system", "s"), ("human", "a"), ("gpt", "b")), "system": "t"}, "two system messages"),
    ],
)
def test_broken_sharegpt(row: dict[str, Any], words: str) -> None:
    assert words in reason(row)


# ---- prompt and completion


@pytest.mark.parametrize("prompt", ["a", [turn("user", "a")]])
@pytest.mark.parametrize("completion", ["b", [turn("assistant", "b")]])
def test_prompt_and_completion_as_text_or_messages(prompt: Any, completion: Any) -> None:
    example = only({"prompt": prompt, "completion": completion}, "prompt")
    assert (example.context, example.answers) == ((USER,), (Answer("b"),))


def test_answers_in_a_prompt_are_not_learned_but_those_in_a_completion_are() -> None:
    prompt = [turn("user", "a"), turn("assistant", "b"), turn("user", "c")]
    completion = [turn("assistant", "d"), turn("user", "e"), turn("assistant", "f")]
    example = only({"prompt": prompt, "completion": completion}, "prompt")
    weights = [message.weight for message in example.context if message.role == "assistant"]
    assert weights == [0.0, 1.0] and example.answers == (Answer("f"),)


def test_broken_prompts() -> None:
    assert "completion is empty" in reason({"prompt": "a", "completion": " "})
    assert "prompt is empty" in reason({"prompt": "", "completion": "b"})
    assert "message 2 has the role user" in reason({"prompt": "a", "completion": [turn("user", "b")]})


# ---- preferences


ENDS = {"chosen": "good", "rejected": "bad"}
LISTS = {role: [turn("assistant", text)] for role, text in ENDS.items()}
WHOLE = {role: [turn("user", "a"), turn("assistant", text)] for role, text in ENDS.items()}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a", **ENDS},
        {"question": "a", **ENDS},
        {"prompt": [turn("user", "a")], **ENDS},
        {"prompt": [turn("user", "a")], **LISTS},
        {"prompt": "a", **WHOLE},
        WHOLE,
    ],
)
def test_preferences_in_all_their_shapes(row: dict[str, Any]) -> None:
    example = only(row, "preference")
    assert example.context == (USER,)
    assert example.answers == (Answer("good", "chosen"), Answer("bad", "rejected"))
    assert example.target == "good"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "chosen and rejected are the same"),
        ({"prompt": "a", "chosen": "b", "rejected": ""}, "rejected is empty"),
        (ENDS, "chosen: message 1 has the role assistant, expected user"),
        ({**WHOLE, "rejected": [turn("user", "z"), turn("assistant", "bad")]}, "differ before their last"),
        (
            {"prompt": "a", "chosen": [turn("user", "x")], "rejected": "b"},
            "chosen: message 2 has the role user",
        ),
    ],
)
def test_broken_preferences(row: dict[str, Any], words: str) -> None:
    assert words in reason(row)


def test_a_target_comes_before_a_chosen_answer() -> None:
    answers = (Answer("no", "rejected"), Answer("yes", "chosen"), Answer("this"), Answer("that"))
    assert Example("x", (USER,), answers).target == "this"
    assert (
        Example("x", (USER,), answers[:2]).target == "yes" and Example("x", (USER,), answers[:1]).target == ""
    )


# ---- tools


@pytest.mark.parametrize("arguments", [{"x": 1}, '{"x": 1}'])
@pytest.mark.parametrize("wrapped", [True, False])
def test_tools_of_a_chat(arguments: Any, wrapped: bool) -> None:
    function = {"name": "add", "arguments": arguments}
    call = {"id": 7, "type": "function", "function": function} if wrapped else {"id": 7, **function}
    row = {
        "messages": [
            turn("user", "a"),
            turn("assistant", None, tool_calls=[call]),
            turn("tool", {"sum": 2}, tool_call_id="7", name="add"),
            turn("assistant", "2", reasoning_content="hm"),
        ],
        "tools": [{"type": "function", "function": SCHEMA}] if wrapped else [SCHEMA],
    }
    example = only(row, "chat")
    assert example.context[1] == Message("assistant", "", more={"tool_calls": [{**CALL, "id": "7"}]})
    assert example.context[2] == Message("tool", '{"sum": 2}', more={"tool_call_id": "7", "name": "add"})
    assert example.answers == (Answer("2", more={"reasoning_content": "hm"}),)
    assert example.tools == ({"type": "function", "function": SCHEMA},)
    assert "tools" not in example.tags


def test_a_call_may_be_the_answer_and_two_tools_may_reply() -> None:
    calls = turn("assistant", "", tool_calls=[CALL, CALL])
    assert only({"messages": [turn("user", "a"), calls]}, "chat").answers[0].more == {
        "tool_calls": [CALL, CALL]
    }
    row = {
        "messages": [turn("user", "a"), calls, turn("tool", "1"), turn("tool", ""), turn("assistant", "b")]
    }
    assert [message.role for message in only(row, "chat").context] == ["user", "assistant", "tool", "tool"]


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        (
            [turn("assistant", "", tool_calls=[CALL]), turn("user", "c")],
            "message 3 has the role user, expected tool",
        ),
        ([turn("assistant", "b"), turn("tool", "c")], "message 3 has the role tool, expected user"),
        ([turn("assistant", "", tool_calls=[{}])], "a tool call of message 2 has no function with a name"),
        ([turn("assistant", "", tool_calls=[1])], "tool_calls of message 2 is not a list of objects"),
        (
            [turn("assistant", "", tool_calls=[{"name": "f", "arguments": "{x"}])],
            "arguments of f in message 2",
        ),
        ([turn("assistant", "", tool_calls=[{"name": "f", "arguments": "[1]"}])], "are not an object"),
        (
            [turn("assistant", "", tool_calls=[{**CALL, "id": "1"}]), turn("tool", "c", tool_call_id="2")],
            "answers the call '2', which does not exist",
        ),
    ],
)
def test_broken_tools(turns: list[dict[str, Any]], words: str) -> None:
    assert words in reason({"messages": [turn("user", "a", tool_calls=[]), *turns, turn("assistant", "z")]})


def test_broken_schemas() -> None:
    messages = [turn("user", "a"), turn("assistant", "b")]
    assert "tools is not a list" in reason({"messages": messages, "tools": "add"})
    assert "tool 1 has no function" in reason({"messages": messages, "tools": [{"type": "function"}]})


# ---- weights, parts, text cells


def test_weights_of_messages() -> None:
    messages = [
        turn("user", "a", weight=0),
        turn("assistant", "b", weight=0),
        turn("user", "c"),
        turn("assistant", "d", train=True),
        turn("user", "e"),
        turn("assistant", "f", weight=0.25),
    ]
    example = only({"messages": messages, "weight": 2}, "chat")
    assert [turn.weight for turn in example.context if turn.role == "assistant"] == [0.0, 2.0]
    assert example.answers[0].weight == 0.5
    last = [*messages[:5], turn("assistant", "f", train=False)]
    assert only({"messages": last}, "chat").answers[0].weight == 0.0


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (
            [turn("user", "a"), turn("assistant", "b", weight=0)],
            "no assistant message has a weight above 0",
        ),
        ([turn("user", "a", weight=1), turn("assistant", "b")], "message 1 has the role user and weight"),
        ([turn("user", "a"), turn("assistant", "b", weight=-1)], "weight of message 2 is '-1'"),
        ([turn("user", "a"), turn("assistant", "b", weight=1, train=True)], "both weight and train"),
    ],
)
def test_wrong_weights(messages: list[dict[str, Any]], words: str) -> None:
    assert words in reason({"messages": messages})


def test_content_in_parts_and_messages_as_the_text_of_a_cell() -> None:
    parts = [{"type": "text", "text": "a"}]
    messages = [turn("developer", "s"), turn("user", parts), turn("assistant", "b")]
    assert only({"messages": messages}, "chat").context == (SYSTEM, USER)
    assert only({"messages": json.dumps(messages)}, "chat").context == (SYSTEM, USER)
    image = [{"type": "image", "url": "x"}]
    assert "message 1 has a part of type 'image'" in reason(
        {"messages": [turn("user", image), turn("assistant", "b")]}
    )


# ---- the line of a run directory


def test_what_a_conversation_says_survives_the_run_directory() -> None:
    turns = (USER, Message("assistant", "", 0.0, {"tool_calls": [CALL]}), Message("tool", "2"))
    answers = (Answer("b", "chosen", 2.0), Answer("c", "rejected", more={"reasoning_content": "hm"}))
    example = Example("x", turns, answers, {"line": 1}, ({"type": "function", "function": SCHEMA},))
    assert from_json(json.loads(json.dumps(to_json(example)))) == example


def test_defaults_are_not_stored() -> None:
    assert to_json(Example("x", (USER,), (Answer("b"),), {})) == {
        "id": "x",
        "context": [{"role": "user", "content": "a"}],
        "answers": [{"text": "b", "role": "target"}],
        "tags": {},
    }


def test_calls_of_tools_make_another_question() -> None:
    def row(x: int) -> dict[str, Any]:
        call = {"name": "add", "arguments": {"x": x}}
        answer = turn("assistant", "", tool_calls=[call])
        return {"messages": [turn("user", "a"), answer, turn("tool", "1"), turn("assistant", "b")]}

    data = assemble(build_task({"data": {"train": [row(1), row(2), row(1)], "test": 0, "validation": 0}}))
    ids = [example.id for example in data.sides["train"]]
    assert ids[0] != ids[1] and ids[2] == f"{ids[0]}-2"


def test_text_parts_of_a_tool_are_its_text_and_other_parts_are_named() -> None:
    def talk(content: Any) -> dict[str, Any]:
        called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
        return {"messages": [turn("user", "a"), called, turn("tool", content), turn("assistant", "b")]}

    text = {"type": "text", "text": "state: sent"}
    assert only(talk([text]), "chat").context[2].content == "state: sent"
    assert only(talk(text), "chat").context[2].content == "state: sent"
    assert only(talk(["a", 1]), "chat").context[2].content == '["a", 1]'
    assert only(talk({"type": "parcel"}), "chat").context[2].content == '{"type": "parcel"}'
    assert only(talk([{"type": ["x"]}]), "chat").context[2].content == '[{"type": ["x"]}]'
    assert "part of type 'image'" in reason(talk([text, {"type": "image", "data": "AA"}]))
    image = [text, {"type": "image_url", "image_url": {"url": "data:"}}]
    assert "part of type 'image_url'" in reason({"messages": [turn("user", image), turn("assistant", "b")]})
