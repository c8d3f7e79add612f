"""Examples as JSON lines, their normalised text for finding copies, and their ids."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from finetooth.data.read.locations import location
from finetooth.data.unicode_forms import normal_form
from finetooth.errors import DataError
from finetooth.rundir import read_jsonl
from finetooth.types import Answer, Example, Message

Item = TypeVar("Item")


def to_json(example: Example) -> dict[str, Any]:
    """A line of data/*.jsonl: id, context [{role, content}], answers [{text, role}], tags.

    `weight` and `more` of messages and answers, and `tools`, are written only if they are not the defaults.
    """
    line: dict[str, Any] = {
        "id": example.id,
        "context": [
            {"role": turn.role, "content": turn.content, **_optional(turn)} for turn in example.context
        ],
        "answers": [{"text": turn.text, "role": turn.role, **_optional(turn)} for turn in example.answers],
        "tags": dict(example.tags),
    }
    return line | ({"tools": list(example.tools)} if example.tools else {})


def _optional(turn: Message | Answer) -> dict[str, Any]:
    weight = {"weight": turn.weight} if turn.weight != 1.0 else {}
    return weight | ({"more": dict(turn.more)} if turn.more else {})


def from_json(value: Mapping[str, Any]) -> Example:
    """The Example of a line written by `to_json`. Raises DataError for anything else."""
    try:
        return Example(
            id=value["id"],
            context=tuple(
                Message(turn["role"], turn["content"], turn.get("weight", 1.0), turn.get("more", {}))
                for turn in value["context"]
            ),
            answers=tuple(
                Answer(turn["text"], turn["role"], turn.get("weight", 1.0), turn.get("more", {}))
                for turn in value["answers"]
            ),
            tags=value["tags"],
            tools=tuple(value.get("tools", ())),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"Not an example of a run directory ({error!r}): {str(value)[:120]}") from None


def read_examples(path: Path) -> Iterator[Example]:
    """The examples of a run's data/train.jsonl or data/validation.jsonl, in order. Raises DataError."""
    return map(from_json, read_jsonl(path))


def content(example: Example) -> str:
    """All that an example says: messages, answers, tools, weights; two with the same content are one row,
    whatever their ids and tags are.
    """
    return content_of_line(to_json(example))


def content_of_line(line: Mapping[str, Any]) -> str:
    """`content` of a line that `to_json` has made. KeyError for others."""
    return json.dumps([line["context"], line["answers"], line.get("tools")], sort_keys=True, default=str)


@lru_cache(64)  # every rule asks for the same few texts where rows are copies, or very long
def normalise(text: str) -> str:
    """The text without differences that still make a copy: NFKC, casefold, single spaces.

    Whitespace and punctuation at both ends are stripped, unless there is nothing else.
    """
    folded = " ".join(normal_form("NFKC", text).casefold().split())
    return folded.strip(string.punctuation + " ") or folded


def normalised_context(example: Example) -> str:
    """The key by which two examples have the same prompt: all messages, normalised; for plain text, the text.

    Tool calls count; the tools offered, weights and reasoning do not.
    """
    if not example.context:
        return f"text\0{normalise(example.target)}"
    return "\0".join(
        f"{message.role}\0{normalise(message.content)}{_tool_calls(message)}" for message in example.context
    )


def _tool_calls(turn: Message | Answer) -> str:
    calls = turn.more.get("tool_calls")
    return f"\0{json.dumps(calls, sort_keys=True)}" if calls else ""


def content_id(example: Example) -> str:
    """The first 12 hex digits of the SHA-256 of the normalised context and answers."""
    answers = (f"{normalise(answer.text)}{_tool_calls(answer)}" for answer in example.answers)
    parts = [normalised_context(example), *answers]
    return hashlib.sha256("\1".join(parts).encode("utf-8")).hexdigest()[:12]


def different_first(items: Sequence[Item], answer: Callable[[Item], str], most: int) -> list[Item]:
    """At most so many of the items, to be shown: those with another answer than all before, then the next."""
    first = {answer(item): item for item in reversed(items)}
    chosen = [item for item in items if first[answer(item)] is item]
    return [*chosen, *(item for item in items if first[answer(item)] is not item)][:most]


def source_location(example: Example) -> str:
    """Where an example comes from, for messages: `a1b2 (train.jsonl, line 7)`, `T-31 (mails.csv, row 5)`."""
    file, line, row = (example.tags.get(name) for name in ("file", "line", "sheet_row"))
    return location(str(file), line, row, example.id) if file else example.id


def with_ids(parts: Sequence[Sequence[Example]]) -> list[list[Example]]:
    """Examples with unique ids: their own, else from the content. Duplicates of an id get `-2`, `-3`, ..."""
    used: set[str] = set()
    copies: dict[str, int] = {}
    result = []
    for examples in parts:
        named = []
        for example in examples:
            base = example.id or content_id(example)
            copies[base] = copies.get(base, 0) + 1
            id = base if copies[base] == 1 else f"{base}-{copies[base]}"
            while id in used:
                copies[base] += 1
                id = f"{base}-{copies[base]}"
            used.add(id)
            named.append(replace(example, id=id))
        result.append(named)
    return result
