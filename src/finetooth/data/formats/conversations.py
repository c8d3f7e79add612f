"""Formats with conversations: one row as messages and answers, with tools and weights."""

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
from finetooth.data.formats.tools import read_calls, read_tools
from finetooth.data.render.turns import EMPTY, REASONING_KEYS
from finetooth.types import Answer, Message

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
# Role names in ShareGPT data; a `function_call` is an assistant turn whose text is the call.
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
CALL_ROLES = ("function_call", "tool_call")
MORE = ("tool_calls", "tool_call_id", "name")
KEYS = {"role", "content", "weight", "train", *MORE, *REASONING_KEYS}
# Columns in which data of other tools has the turns before the question.
EARLIER = {
    *("history", "chat_history", "conversation_history", "dialog", "dialogue", "dialog_history", "turns"),
    *("past", "past_turns", "previous_turns", "earlier_turns", "conversation"),
}
TEXT_PARTS = ("text", "input_text", "output_text")  # types of text parts, in OpenAI's interfaces and in MCP
QUESTIONS = ("prompt", "question", "context", "query", "instruction")  # prompt columns of preference pairs


def read_chat(values: Mapping[str, Any]) -> ParsedRow:
    """messages: [{role, content}]; with optional columns `system` and `tools`."""
    messages = _messages(values, "messages", "messages is not a list of {role, content}")
    return _scored(_with_system(messages, values), read_tools(values.get("tools")))


def read_sharegpt(values: Mapping[str, Any]) -> ParsedRow:
    """conversations: [{from, value}]."""
    column = "conversations" if "conversations" in values else "messages"
    entries = parse_list(values.get(column))
    if not entries:
        raise InvalidRowError(f"{column} is not a list of {{from, value}}")
    messages = []
    for number, entry in enumerate(entries, 1):
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
        message = {**rest, "role": role, "content": content}
        if speaker in CALL_ROLES:
            try:
                calls = json.loads(content) if isinstance(content, str) else content
            except (ValueError, RecursionError):
                raise InvalidRowError(f"message {number} is a {speaker} that is not valid JSON") from None
            message |= {"content": "", "tool_calls": calls if isinstance(calls, list) else [calls]}
        messages.append(_message(number, message))
    return _scored(_with_system(messages, values), read_tools(values.get("tools")))


def read_prompt(values: Mapping[str, Any]) -> ParsedRow:
    """prompt and completion, each text or a list of messages. Nothing in the prompt is scored."""
    completion = _completion(values, "completion")
    return _scored([*_prompt(values, "prompt"), *completion], read_tools(values.get("tools")))


def read_preference(values: Mapping[str, Any]) -> ParsedRow:
    """chosen and rejected, text or lists of messages, and their prompt. Only the last turns may differ."""
    column = next((name for name in QUESTIONS if name in values), None)
    context = _prompt(values, column) if column else []
    roles: tuple[Literal["chosen", "rejected"], ...] = ("chosen", "rejected")
    chosen, rejected = (_completion(values, role) for role in roles)
    shared = _unscored(chosen[:-1])
    if _contents(shared) != _contents(rejected[:-1]):
        raise InvalidRowError("chosen and rejected differ before their last message")
    if _contents(shared) != _contents(context):
        context = [*context, *shared]
    answers = []
    for role, message in zip(roles, (chosen[-1], rejected[-1]), strict=True):
        _check_order([*context, message], role)
        answers.append(Answer(message.content, role, message.weight, message.more))
    if (answers[0].text, answers[0].more) == (answers[1].text, answers[1].more):
        raise InvalidRowError("chosen and rejected are the same")
    return ParsedRow(context, answers, read_tools(values.get("tools")))


def earlier_turns(value: Any, column: str) -> list[Message]:
    """The turns before a question, none of them scored: pairs [question, answer], messages, or {human, bot}.

    Raises InvalidRowError for anything else, and for turns out of order.
    """
    messages: list[Message] = []
    for number, entry in enumerate(parse_list(value) or (), 1):
        if isinstance(entry, Mapping) and ("role" in entry or "from" in entry):
            role = SHAREGPT.get(str(entry.get("role", entry.get("from"))), "")
            entry = {"role": role, "content": entry.get("content", entry.get("value"))}
            messages.append(_message(number, entry))
            continue
        pair = list(entry.items()) if isinstance(entry, Mapping) else [("user", ""), ("assistant", "")]
        texts = [text for _, text in pair] if isinstance(entry, Mapping) else entry
        roles = [SHAREGPT.get(str(name)) for name, _ in pair]
        if not isinstance(texts, list | tuple) or len(texts) != 2 or roles != ["user", "assistant"]:
            raise InvalidRowError(
                f"{column} is read as the earlier turns, and turn {number} is no pair [question, answer] and "
                "no {role, content}; if it is something else, rename the column"
            )
        messages += [_message(number, {"role": r, "content": t}) for r, t in zip(roles, texts, strict=True)]
    _check_order([*messages, Message("user", ""), Message("assistant", "")], column)
    return _unscored(messages)


def _scored(messages: list[Message], tools: tuple[Mapping[str, Any], ...]) -> ParsedRow:
    """The last turn is the answer. Raises InvalidRowError for turns out of order, or if none is scored."""
    _check_order(messages)
    if not any(message.weight for message in messages if message.role == "assistant"):
        raise InvalidRowError("no assistant message has a weight above 0, so there is nothing to train on")
    last = messages[-1]
    return ParsedRow(messages[:-1], [Answer(last.content, "target", last.weight, last.more)], tools)


def _check_order(messages: Sequence[Message], what: str = "") -> None:
    """system?, then user and assistant alternating; tool calls are followed by tool messages."""
    first = 1 if messages and messages[0].role == "system" else 0
    prefix = f"{what}: " if what else ""
    expected: tuple[str, ...] = ("user",)
    call_ids: set[str] = set()
    for number, message in enumerate(messages[first:], first + 1):
        if message.role not in expected:
            raise InvalidRowError(
                f"{prefix}message {number} has the role {message.role}, expected {' or '.join(expected)}"
            )
        calls = message.more.get("tool_calls", ())
        if message.role == "tool":
            id = message.more.get("tool_call_id")
            if call_ids and id is not None and id not in call_ids:
                raise InvalidRowError(
                    f"{prefix}message {number} answers the call {id!r}, which does not exist"
                )
            expected = ("tool", "assistant")
        elif message.role == "assistant":
            call_ids = {call["id"] for call in calls if "id" in call}
            expected = ("tool",) if calls else ("user",)
        else:
            expected = ("assistant",)
    if len(messages) == first or messages[-1].role != "assistant":
        raise InvalidRowError(
            f"{prefix}the last message is not from the assistant, so there is nothing to train on"
        )


def _messages(values: Mapping[str, Any], column: str, error: str) -> list[Message]:
    entries = parse_list(values.get(column))
    if not entries:
        raise InvalidRowError(error)
    return [_message(number, entry) for number, entry in enumerate(entries, 1)]


def _has_messages(value: Any) -> bool:
    """Whether a cell has messages: a list, or the JSON text of a list of objects with a role."""
    if isinstance(value, list):
        return True
    entries = parse_list(value)
    return bool(entries) and all(isinstance(entry, Mapping) and "role" in entry for entry in entries or ())


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
    dropped = sorted(key for key, value in entry.items() if key not in KEYS and value not in EMPTY)
    if dropped:
        switch = isinstance(entry[dropped[0]], bool | int | float)
        hint = ", or rename it to train if it says whether to train on the turn" if switch else ""
        raise InvalidRowError(
            f"message {number} has the key {dropped[0]!r}, which would be dropped; remove it{hint}"
        )
    more = {key: entry[key] for key in MORE if entry.get(key) not in EMPTY}
    reasoning = [entry[key] for key in REASONING_KEYS if entry.get(key) not in EMPTY]
    if any(text != reasoning[0] or not isinstance(text, str) for text in reasoning):
        raise InvalidRowError(f"message {number} has reasoning that is not text, or two that differ")
    if reasoning:
        more["reasoning_content"] = reasoning[0]
    if "tool_calls" in more:
        if role != "assistant":
            raise InvalidRowError(f"message {number} has tool_calls, but the role {role}")
        more["tool_calls"] = read_calls(number, more["tool_calls"])
    if "tool_call_id" in more:
        more["tool_call_id"] = str(more["tool_call_id"])
    content = _content(number, entry.get("content"), role)
    if not (content.strip() or role == "tool" or "tool_calls" in more):
        raise InvalidRowError(f"message {number} has no text content")
    return Message(role, content, _turn_weight(number, role, entry), more)


def _content(number: int, value: Any, role: str) -> str:
    """The text of a message, or of its list of text parts; of what a tool returned, else its JSON.

    Raises InvalidRowError for a part that is not text, naming it.
    """
    if value is None or isinstance(value, str):
        return value or ""
    parts = value if isinstance(value, list) else [value]
    kinds = [part.get("type") if isinstance(part, Mapping) else type(part).__name__ for part in parts]
    if role == "tool" and not any(kind in TEXT_PARTS for kind in kinds):
        return json.dumps(value, ensure_ascii=False)
    other = next((kind for kind in kinds if kind not in TEXT_PARTS), None)
    if other is not None or None in kinds:
        raise InvalidRowError(
            f"message {number} has a part of type {str(other)[:40]!r}; only text can be used"
        )
    return "".join(text for part in parts if isinstance(text := part.get("text"), str))


def _turn_weight(number: int, role: str, entry: Mapping[str, Any]) -> float:
    """The loss weight, from `weight` or `train` (true or false). Only assistant turns may have one."""
    keys = [key for key in ("weight", "train") if entry.get(key) is not None]
    if len(keys) > 1:
        raise InvalidRowError(f"message {number} has both weight and train; keep one")
    weight = parse_weight(entry[keys[0]], f"{keys[0]} of message {number}") if keys else 1.0
    if role == "assistant":
        return weight
    if keys and weight:
        raise InvalidRowError(
            f"message {number} has the role {role} and {keys[0]}; only assistant messages are trained on"
        )
    return 1.0


def _with_system(messages: list[Message], values: Mapping[str, Any]) -> list[Message]:
    system = string(values.get("system"), "system")
    if not system.strip():
        return messages
    if messages[0].role == "system" and messages[0].content != system:
        raise InvalidRowError("there are two system messages, one of them in the column system")
    return messages if messages[0].role == "system" else [Message("system", system), *messages]


def _prompt(values: Mapping[str, Any], column: str) -> list[Message]:
    """The messages of a prompt: a list, of which nothing is scored, or the user's text."""
    if _has_messages(values.get(column)):
        return _with_system(_unscored(_messages(values, column, f"{column} is empty")), values)
    system, question = (string(values.get(name), name) for name in ("system", column))
    if not (system + question).strip():
        raise InvalidRowError(f"{column} is empty")
    return prompt_messages(system, question)


def _completion(values: Mapping[str, Any], column: str) -> list[Message]:
    """The messages of a completion: a list, or the assistant's text."""
    if _has_messages(values.get(column)):
        return _messages(values, column, f"{column} is empty")
    text = string(values.get(column), column)
    if not text.strip():
        raise InvalidRowError(f"{column} is empty")
    return [Message("assistant", text)]


def _unscored(messages: Sequence[Message]) -> list[Message]:
    return [replace(message, weight=0.0) if message.role == "assistant" else message for message in messages]


def _contents(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]
