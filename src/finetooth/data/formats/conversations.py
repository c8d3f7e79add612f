"""One row into messages and answers: the formats that hold conversations, and their tools and weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from finetooth.data.formats.text_columns import (
    InvalidRowError,
    ParsedRow,
    parse_list,
    parse_weight,
    prompt_messages,
    string,
)
from finetooth.data.formats.tools import NOTHING, read_calls, read_tools
from finetooth.data.render.turns import THOUGHTS
from finetooth.types import Answer, Message

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
# ShareGPT's names; `function_call` is a turn of the assistant whose text is the call.
SHAREGPT = {
    **ROLES,
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "function_call": "assistant",
    "tool_call": "assistant",
}
CALLS = ("function_call", "tool_call")
MORE = ("tool_calls", "tool_call_id", "name")
KEYS = {"role", "content", "weight", "train", *MORE, *THOUGHTS}
QUESTIONS = ("prompt", "question", "context", "query", "instruction")  # what a preference pair answers


def read_chat(values: Mapping[str, Any]) -> ParsedRow:
    """messages: [{role, content}]; columns `system` and `tools` where they are there."""
    messages = _messages(values, "messages", "messages is not a list of {role, content}")
    return _scored(_with_system(messages, values), read_tools(values.get("tools")))


def read_sharegpt(values: Mapping[str, Any]) -> ParsedRow:
    """conversations: [{from, value}]."""
    column = "conversations" if "conversations" in values else "messages"
    entries = parse_list(values.get(column))
    if not entries:
        raise InvalidRowError(f"{column} is not a list of {{from, value}}")
    messages = [_message(number, _from_sharegpt(number, entry)) for number, entry in enumerate(entries, 1)]
    return _scored(_with_system(messages, values), read_tools(values.get("tools")))


def read_prompt(values: Mapping[str, Any]) -> ParsedRow:
    """prompt and completion, each text or a list of messages. Answers in the prompt are not learned."""
    closing = values.get("completion")
    if _are_turns(closing):
        messages = _messages(values, "completion", "completion is empty")
    else:
        messages = [_assistant(closing, "completion")]
    return _scored([*_question(values, "prompt"), *messages], read_tools(values.get("tools")))


def read_preference(values: Mapping[str, Any]) -> ParsedRow:
    """chosen and rejected, text or lists of messages, and what both answer. Only the last turns differ."""
    column = next((name for name in QUESTIONS if name in values), None)
    context = _question(values, column) if column else []
    ends: dict[Literal["chosen", "rejected"], list[Message]] = {}
    for role in ("chosen", "rejected"):
        is_list = _are_turns(values.get(role))
        text = f"{role} is empty"
        ends[role] = _messages(values, role, text) if is_list else [_assistant(values.get(role), role)]
    shared = _unlearned(ends["chosen"][:-1])
    if _same(shared) != _same(ends["rejected"][:-1]):
        raise InvalidRowError("chosen and rejected differ before their last message")
    if _same(shared) != _same(context):
        context = [*context, *shared]
    last = {role: messages[-1] for role, messages in ends.items()}
    for role, message in last.items():
        _check_order([*context, message], role)
    answers = [Answer(message.content, role, message.weight, message.more) for role, message in last.items()]
    if (answers[0].text, answers[0].more) == (answers[1].text, answers[1].more):
        raise InvalidRowError("chosen and rejected are the same")
    return ParsedRow(context, answers, read_tools(values.get("tools")))


def _scored(messages: list[Message], tools: tuple[Mapping[str, Any], ...]) -> ParsedRow:
    """The last turn is the answer. InvalidRowError when the turns are out of order or none of them is
    learned.
    """
    _check_order(messages)
    if not any(message.weight for message in messages if message.role == "assistant"):
        raise InvalidRowError("no turn of the assistant has a weight above 0, so there is nothing to learn")
    last = messages[-1]
    return ParsedRow(messages[:-1], [Answer(last.content, "target", last.weight, last.more)], tools)


def _check_order(messages: Sequence[Message], what: str = "") -> None:
    """system?, then user and assistant in turn; a call of tools is answered by tools before the assistant."""
    first = 1 if messages and messages[0].role == "system" else 0
    prefix = f"{what}: " if what else ""
    expected: tuple[str, ...] = ("user",)
    asked: set[str] = set()
    for number, message in enumerate(messages[first:], first + 1):
        if message.role not in expected:
            raise InvalidRowError(
                f"{prefix}message {number} is of {message.role}, expected {' or '.join(expected)}"
            )
        calls = message.more.get("tool_calls", ())
        if message.role == "tool":
            id = message.more.get("tool_call_id")
            if asked and id is not None and id not in asked:
                raise InvalidRowError(f"{prefix}message {number} answers the call {id!r}, which was not made")
            expected = ("tool", "assistant")
        elif message.role == "assistant":
            asked = {call["id"] for call in calls if "id" in call}
            expected = ("tool",) if calls else ("user",)
        else:
            expected = ("assistant",)
    if len(messages) == first or messages[-1].role != "assistant":
        raise InvalidRowError(
            f"{prefix}the last message is not of the assistant, so there is nothing to learn"
        )


def _messages(values: Mapping[str, Any], column: str, wrong: str) -> list[Message]:
    entries = parse_list(values.get(column))
    if not entries:
        raise InvalidRowError(wrong)
    return [_message(number, entry) for number, entry in enumerate(entries, 1)]


def _are_turns(value: Any) -> bool:
    """Whether a cell holds messages: a list, or the JSON text of a list of objects with a role."""
    entries = parse_list(value)
    return isinstance(value, list) or bool(entries and all(_has_role(entry) for entry in entries))


def _has_role(entry: Any) -> bool:
    return isinstance(entry, Mapping) and "role" in entry


def _message(number: int, entry: Any) -> Message:
    if not isinstance(entry, Mapping) or "role" not in entry or not {"content", "tool_calls"} & set(entry):
        other = isinstance(entry, Mapping) and {"from", "value"} <= set(entry)
        hint = "; for from and value, set data.format: sharegpt" if other else ""
        raise InvalidRowError(f"message {number} is not an object with role and content{hint}")
    role = ROLES.get(str(entry["role"]))
    if role is None:
        known = ", ".join(ROLES)
        raise InvalidRowError(
            f"message {number} has the role {str(entry['role'])[:40]!r}, expected one of {known}"
        )
    dropped = sorted(key for key, value in entry.items() if key not in KEYS and value not in NOTHING)
    if dropped:
        switch = isinstance(entry[dropped[0]], bool | int | float)
        hint = ", or call it train if it says whether the turn is learned" if switch else ""
        raise InvalidRowError(
            f"message {number} has the key {dropped[0]!r}, which would be dropped; remove it{hint}"
        )
    more = {key: entry[key] for key in MORE if entry.get(key) not in NOTHING}
    thoughts = [entry[key] for key in THOUGHTS if entry.get(key) not in NOTHING]
    if any(thought != thoughts[0] or not isinstance(thought, str) for thought in thoughts):
        raise InvalidRowError(f"message {number} has a thought that is no text, or two that differ")
    if thoughts:
        more["reasoning_content"] = thoughts[0]
    if "tool_calls" in more:
        if role != "assistant":
            raise InvalidRowError(f"message {number} has tool_calls, but is of {role}")
        more["tool_calls"] = read_calls(number, more["tool_calls"])
    if "tool_call_id" in more:
        more["tool_call_id"] = str(more["tool_call_id"])
    content = _content(entry.get("content"), role)
    if content is None or not (content.strip() or role == "tool" or "tool_calls" in more):
        raise InvalidRowError(f"message {number} has no text as its content")
    return Message(role, content, _turn_weight(number, role, entry), more)


def _content(value: Any, role: str) -> str | None:
    """The text of a message; of a list of parts, their texts. None where there is something else in it."""
    if value is None or isinstance(value, str):
        return value or ""
    if role == "tool":
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, list):
        return None
    texts = [
        part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
        for part in value
    ]
    return "".join(str(text) for text in texts) if all(isinstance(text, str) for text in texts) else None


def _turn_weight(number: int, role: str, entry: Mapping[str, Any]) -> float:
    """`weight`, or `train` true or false. Only turns of the assistant are learned."""
    given = [key for key in ("weight", "train") if entry.get(key) is not None]
    if len(given) > 1:
        raise InvalidRowError(f"message {number} has both weight and train; keep one")
    if not given:
        return 1.0
    weight = parse_weight(entry[given[0]], f"{given[0]} of message {number}")
    if role != "assistant":
        if weight:
            raise InvalidRowError(
                f"message {number} is of {role} and has {given[0]}; only the assistant is learned"
            )
        return 1.0
    return weight


def _from_sharegpt(number: int, entry: Any) -> Any:
    """The entry with role and content. InvalidRowError for a speaker that is not known."""
    if not isinstance(entry, Mapping) or not ({"from", "value"} <= set(entry) or "role" in entry):
        raise InvalidRowError(f"message {number} is not an object with from and value")
    speaker = str(entry["from"] if "from" in entry else entry["role"])
    role = SHAREGPT.get(speaker)
    if role is None:
        raise InvalidRowError(
            f"message {number} is from {speaker[:40]!r}, expected one of {', '.join(SHAREGPT)}"
        )
    content = entry["value"] if "value" in entry else entry.get("content")
    rest = {key: value for key, value in entry.items() if key not in ("from", "value", "role", "content")}
    if speaker not in CALLS:
        return {**rest, "role": role, "content": content}
    try:
        calls = json.loads(content) if isinstance(content, str) else content
    except (ValueError, RecursionError):
        raise InvalidRowError(f"message {number} is a {speaker} that is not valid JSON") from None
    return {**rest, "role": role, "content": "", "tool_calls": calls if isinstance(calls, list) else [calls]}


def _with_system(messages: list[Message], values: Mapping[str, Any]) -> list[Message]:
    system = string(values.get("system"), "system")
    if not system.strip():
        return messages
    if messages[0].role == "system" and messages[0].content != system:
        raise InvalidRowError("there are two system messages, one of them in the column system")
    return messages if messages[0].role == "system" else [Message("system", system), *messages]


def _question(values: Mapping[str, Any], column: str) -> list[Message]:
    """The messages of a prompt: a list as it is, without learning from it, or text of the user."""
    if _are_turns(values.get(column)):
        return _with_system(_unlearned(_messages(values, column, f"{column} is empty")), values)
    system, question = (string(values.get(name), name) for name in ("system", column))
    if not (system + question).strip():
        raise InvalidRowError(f"{column} is empty")
    return prompt_messages(system, question)


def _assistant(value: Any, column: str) -> Message:
    text = string(value, column)
    if not text.strip():
        raise InvalidRowError(f"{column} is empty")
    return Message("assistant", text)


def _unlearned(messages: Sequence[Message]) -> list[Message]:
    return [replace(message, weight=0.0) if message.role == "assistant" else message for message in messages]


def _same(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]
