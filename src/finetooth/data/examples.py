"""An Example as one line of JSON, and as the normalised text by which copies of it are recognised."""

from __future__ import annotations

import hashlib
import json
import string
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetooth.errors import DataError
from finetooth.rundir import read_jsonl
from finetooth.types import Answer, Example, Message


def to_json(example: Example) -> dict[str, Any]:
    """The line of data/*.jsonl: id, context [{role, content}], answers [{text, role}], tags.

    Messages and answers have `weight` and `more`, the line `tools`, only where they are not the defaults.
    """
    line: dict[str, Any] = {
        "id": example.id,
        "context": [
            {"role": turn.role, "content": turn.content, **_further(turn)} for turn in example.context
        ],
        "answers": [{"text": turn.text, "role": turn.role, **_further(turn)} for turn in example.answers],
        "tags": dict(example.tags),
    }
    return line | ({"tools": list(example.tools)} if example.tools else {})


def _further(turn: Message | Answer) -> dict[str, Any]:
    weight = {"weight": turn.weight} if turn.weight != 1.0 else {}
    return weight | ({"more": dict(turn.more)} if turn.more else {})


def from_json(value: Mapping[str, Any]) -> Example:
    """The Example of a line that `to_json` made; DataError when it is not one."""
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
    """The examples of a run's data/train.jsonl or data/validation.jsonl, in order. DataError."""
    return map(from_json, read_jsonl(path))


def normalise(text: str) -> str:
    """Text without the differences that do not make a new row: NFKC, casefold, single spaces, bare ends.

    Whitespace and punctuation at both ends are stripped; a text of nothing else stays as it is.
    """
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(string.punctuation + " ") or folded


def normalised_context(example: Example) -> str:
    """What makes two examples the same question: every message, normalised; of plain text, the text.

    Calls of tools count as well; which tools there are, weights and thoughts do not.
    """
    if not example.context:
        return f"text\0{normalise(example.target)}"
    return "\0".join(
        f"{message.role}\0{normalise(message.content)}{_calls(message)}" for message in example.context
    )


def _calls(turn: Message | Answer) -> str:
    calls = turn.more.get("tool_calls")
    return f"\0{json.dumps(calls, sort_keys=True)}" if calls else ""


def content_id(example: Example) -> str:
    """First 12 hex digits of the sha256 of the normalised context and answers."""
    answers = (f"{normalise(answer.text)}{_calls(answer)}" for answer in example.answers)
    parts = [normalised_context(example), *answers]
    return hashlib.sha256("\1".join(parts).encode("utf-8")).hexdigest()[:12]


def source_location(example: Example) -> str:
    """Where an example comes from, for a message: `a1b2 (train.jsonl, line 7)`."""
    file, line = example.tags.get("file"), example.tags.get("line")
    return f"{example.id} ({file}, line {line})" if file else example.id


def with_ids(parts: Sequence[Sequence[Example]]) -> list[list[Example]]:
    """Ids for all examples: the given one, else of the content; a second one of the same id gets `-2`, ..."""
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
