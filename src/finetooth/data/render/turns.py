"""A turn of a conversation: as chat templates take it, and whether what one wrote for it has all of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from finetooth.errors import DataError
from finetooth.types import Example, Message

THOUGHT = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL)
EMPTY: tuple[Any, ...] = (None, "", [], {})
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")  # the most common first
ALTERED = "adds other text"
NO_THOUGHT = "leaves out the thought"


def answer_turn(example: Example) -> Message:
    """The example's first target answer, else its chosen one, as a turn with all that it came with."""
    for role in ("target", "chosen"):
        for answer in example.answers:
            if answer.role == role:
                return Message("assistant", answer.text, answer.weight, answer.more)
    return Message("assistant", "")


def scored_turns(example: Example) -> list[tuple[int, list[Message], Message]]:
    """Of each turn that is learned: its number among the assistant's turns (from 1), what came before it, it.

    Raises DataError for a weight that cannot be, or when no turn is left.
    """
    messages = [*example.context, answer_turn(example)]
    places = [index for index, message in enumerate(messages) if message.role == "assistant"]
    wrong = next((messages[at].weight for at in places if not messages[at].weight >= 0), None)
    if wrong is not None:
        raise DataError(f"an answer has the weight {wrong}; expected 0 (context, not learned) or more.")
    found = [(k, messages[:at], messages[at]) for k, at in enumerate(places, 1) if messages[at].weight > 0]
    if not found:
        raise DataError("every answer has the weight 0: there is nothing to score.")
    return found


def as_dicts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates take them: tool calls in the nested form, their arguments parsed.

    Raises DataError for a call without a name, or arguments that are no JSON object.
    """
    found = []
    for message in messages:
        more = {key: value for key, value in message.more.items() if value not in EMPTY}
        if "tool_calls" in more:
            more["tool_calls"] = [_call(call, k) for k, call in enumerate(more["tool_calls"], 1)]
        found.append({"role": message.role, "content": message.content, **more})
    return found


def _call(call: Any, number: int) -> dict[str, Any]:
    outer = dict(call) if isinstance(call, Mapping) else {}
    function = outer.get("function", outer)
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name:
        raise DataError(f"tool call {number} does not name a function.")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise DataError(f"the arguments of tool call {number}, {name}, are not JSON ({error}).") from None
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, Mapping):
        kind = type(arguments).__name__
        raise DataError(f"the arguments of tool call {number}, {name}, are a {kind}, expected an object.")
    if "function" in outer:
        return outer | {"function": dict(function) | {"arguments": arguments}}
    rest = {key: value for key, value in outer.items() if key not in ("name", "arguments")}
    return {"type": "function", **rest, "function": {"name": name, "arguments": arguments}}


def with_text_arguments(conversation: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What `as_dicts` makes, with the arguments of calls as JSON text: DeepSeek's templates join them."""
    found = []
    for message in conversation:
        made = [
            call | {"function": call["function"] | {"arguments": _json(call["function"]["arguments"])}}
            for call in message.get("tool_calls", ())
        ]
        found.append({**message, **({"tool_calls": made} if made else {})})
    return found


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def calls(message: Message) -> list[Mapping[str, Any]]:
    """The functions that a turn calls: {name, arguments}."""
    return [call["function"] for call in as_dicts([message])[0].get("tool_calls", [])]


def renamed_calls(turn: Message) -> list[Message]:
    """The turn with one of its calls under another name, for each of several calls; [] for a single one."""
    made = list(turn.more.get("tool_calls") or ())
    if len(made) < 2:
        return []
    lists = [[*made[:k], _renamed(made[k]), *made[k + 1 :]] for k in range(len(made))]
    return [replace(turn, more={**turn.more, "tool_calls": changed}) for changed in lists]


def _renamed(call: Mapping[str, Any]) -> dict[str, Any]:
    if "function" in call:
        return {**call, "function": _renamed(call["function"])}
    return {**call, "name": f"{call['name']}_"}


def thought(message: Message) -> str:
    """What the assistant thinks before it answers: reasoning_content, else the <think> block of its text."""
    given = message.more.get("reasoning_content")
    if given not in EMPTY:
        return str(given).strip()
    own = THOUGHT.match(message.content)
    return own[1].strip() if own else ""


def visible_content(message: Message) -> str:
    """The content without its own <think> block."""
    own = THOUGHT.match(message.content)
    return (own[2] if own and message.more.get("reasoning_content") in EMPTY else message.content).strip()


def all_text(message: Message) -> str:
    """All that a model has to write for a turn, without the marks that a template adds."""
    written = [_json(call) for call in calls(message)]
    return "\0".join([thought(message), visible_content(message), *written])


def without(messages: Sequence[Message], key: str) -> list[Message]:
    """The messages as if none of them had this further field."""
    return [
        replace(message, more={name: value for name, value in message.more.items() if name != key})
        for message in messages
    ]


def missing_part(turn: Message, written: str, opened: bool) -> str:
    """What of an assistant's turn is not in the text that a template wrote for it; "" when all of it is.

    A plain answer has to be the whole text. Of another, thought, content and calls have to be there one
    after the other, and around thought and content nothing but marks without a space, such as `</think>`.
    opened: the context ends with a thought that is closed, so an empty one of the content may be missing.
    """
    reasons, content, functions = thought(turn), visible_content(turn), calls(turn)
    given = turn.more.get("reasoning_content") not in EMPTY
    if not functions and not given and written.strip() == turn.content.strip():
        return ""
    if not functions and not reasons:
        return "" if opened and written.strip() == content else ALTERED
    rest, marks = written, []
    for name, part in (("the thought", reasons), ("the content", content)):
        before, found, after = rest.partition(part) if part else ("", "", rest)
        if part and not found:
            return NO_THOUGHT if name == "the thought" else f"leaves out {name}"
        if part:
            marks.append(before.strip())
            rest = after
    if not functions:
        marks.append(rest.strip())
    if any(any(map(str.isspace, mark)) for mark in marks):
        return ALTERED
    lost = next((call for call in functions if not contains_call(call, rest)), None)
    return f"leaves out the call of {lost['name']} or a part of it" if lost else ""


def contains_call(call: Mapping[str, Any], text: str) -> bool:
    """Whether a text has a function's name and, in some usual spelling, every argument."""
    return contains_value(call["name"], text) and contains_value(call["arguments"], text)


def contains_value(value: Any, text: str) -> bool:
    """Whether a text has every name and value of a JSON value: as it is, or as JSON within JSON spells it."""
    if isinstance(value, Mapping):
        return all(contains_value(key, text) and contains_value(item, text) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(contains_value(item, text) for item in value)
    if not isinstance(value, str):
        return str(value) in text or json.dumps(value) in text
    forms = {value}
    for _ in range(2):
        forms |= {json.dumps(form, ensure_ascii=ascii)[1:-1] for form in forms for ascii in (True, False)}
    return any(form in text for form in forms)
