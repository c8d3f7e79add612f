"""Turns of a conversation: as chat templates expect them, and whether a rendered text is complete."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from finetooth.errors import DataError
from finetooth.types import Example, Message

INLINE_REASONING = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL)
EMPTY: tuple[Any, ...] = (None, "", [], {})
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")  # the most common first
ALTERED = "adds other text"
NO_REASONING = "leaves out the reasoning"


def answer_turn(example: Example) -> Message:
    """The example's first target answer, else its chosen one, as an assistant turn with all its fields."""
    for role in ("target", "chosen"):
        for answer in example.answers:
            if answer.role == role:
                return Message("assistant", answer.text, answer.weight, answer.more)
    return Message("assistant", "")


def has_answer(example: Example) -> bool:
    """Whether the example's answer says something: a text, or a call of a tool."""
    turn = answer_turn(example)
    return bool(turn.content.strip() or turn.more.get("tool_calls"))


def answer_key(example: Example) -> str:
    """The answer as one text, the same for the same text and calls, whatever the ids of the calls."""
    turn = answer_turn(example)
    calls = tool_calls(turn)
    return turn.content + (f"\0{json.dumps(calls, sort_keys=True, ensure_ascii=False)}" if calls else "")


def scored_turns(example: Example) -> list[tuple[int, list[Message], Message]]:
    """(number among the assistant turns, from 1; context; turn) of each turn with a weight above 0.

    Raises DataError for an invalid weight, or if there is no such turn.
    """
    messages = [*example.context, answer_turn(example)]
    places = [index for index, message in enumerate(messages) if message.role == "assistant"]
    invalid = next((messages[at].weight for at in places if not messages[at].weight >= 0), None)
    if invalid is not None:
        raise DataError(f"an answer has the weight {invalid}; expected 0 (context only) or more.")
    scored = [(k, messages[:at], messages[at]) for k, at in enumerate(places, 1) if messages[at].weight > 0]
    if not scored:
        raise DataError("every answer has the weight 0: there is nothing to score.")
    return scored


def as_dicts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates expect them: tool calls in the nested form, with parsed arguments.

    Raises DataError for a call without a name, or arguments that are not a JSON object.
    """
    dicts = []
    for message in messages:
        more = {key: value for key, value in message.more.items() if value not in EMPTY}
        calls = []
        for number, call in enumerate(more.get("tool_calls", ()), 1):
            outer = dict(call) if isinstance(call, Mapping) else {}
            function = outer.get("function", outer)
            name = function.get("name") if isinstance(function, Mapping) else None
            if not isinstance(name, str) or not name:
                raise DataError(f"tool call {number} does not name a function.")
            where = f"the arguments of tool call {number}, {name}, are"
            arguments = function.get("arguments")
            if isinstance(arguments, str):
                try:
                    arguments = json.loads(arguments or "{}")
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{where} not JSON ({error}).") from None
            arguments = {} if arguments is None else arguments
            if not isinstance(arguments, Mapping):
                raise DataError(f"{where} a {type(arguments).__name__}, expected an object.")
            if "function" in outer:
                calls.append(outer | {"function": dict(function) | {"arguments": arguments}})
            else:
                rest = {key: value for key, value in outer.items() if key not in ("name", "arguments")}
                calls.append({"type": "function", **rest, "function": {"name": name, "arguments": arguments}})
        more |= {"tool_calls": calls} if calls else {}
        dicts.append({"role": message.role, "content": message.content, **more})
    return dicts


def with_text_arguments(conversation: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The result of `as_dicts` with call arguments as JSON text: DeepSeek's templates concatenate them."""
    result = []
    for message in conversation:
        calls = [
            call | {"function": call["function"] | {"arguments": _json(call["function"]["arguments"])}}
            for call in message.get("tool_calls", ())
        ]
        result.append({**message, **({"tool_calls": calls} if calls else {})})
    return result


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def tool_calls(message: Message) -> list[Mapping[str, Any]]:
    """The functions that a turn calls: {name, arguments}."""
    return [call["function"] for call in as_dicts([message])[0].get("tool_calls", [])]


def renamed_calls(turn: Message) -> list[Message]:
    """One copy of the turn per tool call, in which that call has another name; [] for a single call."""
    calls = list(turn.more.get("tool_calls") or ())
    if len(calls) < 2:
        return []
    copies = []
    for k, call in enumerate(calls):
        function = call.get("function", call)
        renamed = {**function, "name": f"{function['name']}_"}
        changed = {**call, "function": renamed} if "function" in call else renamed
        copies.append(replace(turn, more={**turn.more, "tool_calls": [*calls[:k], changed, *calls[k + 1 :]]}))
    return copies


def reasoning(message: Message) -> str:
    """The reasoning before the answer: reasoning_content, else the <think> block at the start of the text."""
    content = message.more.get("reasoning_content")
    if content not in EMPTY:
        return str(content).strip()
    inline = INLINE_REASONING.match(message.content)
    return inline[1].strip() if inline else ""


def visible_content(message: Message) -> str:
    """The content without a <think> block of its own."""
    inline = INLINE_REASONING.match(message.content)
    has_field = message.more.get("reasoning_content") not in EMPTY
    return (inline[2] if inline and not has_field else message.content).strip()


def all_text(message: Message) -> str:
    """All that a model has to write for a turn, without the markup that a template adds."""
    return "\0".join([reasoning(message), visible_content(message), *map(_json, tool_calls(message))])


def without(messages: Sequence[Message], key: str) -> list[Message]:
    """Copies of the messages without this further field."""
    return [
        replace(message, more={name: value for name, value in message.more.items() if name != key})
        for message in messages
    ]


def missing_part(turn: Message, written: str, opened: bool) -> str:
    """What part of an assistant turn is missing from the text that a template wrote for it; "" if none.

    A plain answer has to be the whole text. Otherwise reasoning, content and calls have to follow one
    another, with nothing around reasoning and content but tags without whitespace, such as `</think>`.
    opened: the context ends with a closed reasoning block, so an empty one in the content may be missing.
    """
    thought, content, calls = reasoning(turn), visible_content(turn), tool_calls(turn)
    has_field = turn.more.get("reasoning_content") not in EMPTY
    if not calls and not has_field and written.strip() == turn.content.strip():
        return ""
    if not calls and not thought:
        return "" if opened and written.strip() == content else ALTERED
    rest, tags = written, []
    for part, error in ((thought, NO_REASONING), (content, "leaves out the content")):
        if part:
            before, found, rest = rest.partition(part)
            if not found:
                return error
            tags.append(before.strip())
    if not calls:
        tags.append(rest.strip())
    if any(any(map(str.isspace, tag)) for tag in tags):
        return ALTERED
    lost = next((call for call in calls if not contains_call(call, rest)), None)
    return f"leaves out the call of {lost['name']} or a part of it" if lost else ""


def contains_call(call: Mapping[str, Any], text: str) -> bool:
    """Whether a text contains a function's name and, in some common spelling, all its arguments."""
    return contains_value(call["name"], text) and contains_value(call["arguments"], text)


def contains_value(value: Any, text: str) -> bool:
    """Whether a text contains all names and values of a JSON value, as they are or escaped once or twice."""
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
