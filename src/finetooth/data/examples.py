"""An Example as one line of JSON, and as the normalised text by which copies of it are recognised."""

from __future__ import annotations

import hashlib
import string
import unicodedata
from collections.abc import Mapping
from typing import Any

from finetooth.errors import DataError
from finetooth.types import Answer, Example, Message


def to_json(example: Example) -> dict[str, Any]:
    """The line of data/*.jsonl: id, context [{role, content}], answers [{text, role}], tags."""
    return {
        "id": example.id,
        "context": [{"role": message.role, "content": message.content} for message in example.context],
        "answers": [{"text": answer.text, "role": answer.role} for answer in example.answers],
        "tags": dict(example.tags),
    }


def from_json(value: Mapping[str, Any]) -> Example:
    """The Example of a line that `to_json` made; DataError when it is not one."""
    try:
        return Example(
            id=value["id"],
            context=tuple(Message(entry["role"], entry["content"]) for entry in value["context"]),
            answers=tuple(Answer(entry["text"], entry["role"]) for entry in value["answers"]),
            tags=value["tags"],
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"Not an example of a run directory ({error!r}): {str(value)[:120]}") from None


def normalise(text: str) -> str:
    """Text without the differences that do not make a new row: NFKC, casefold, single spaces, bare ends.

    Whitespace and punctuation at both ends are stripped; a text of nothing else stays as it is.
    """
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(string.punctuation + " ") or folded


def normalised_context(example: Example) -> str:
    """What makes two examples the same question: every message, normalised; of plain text, the text."""
    if not example.context:
        return f"text\0{normalise(example.target)}"
    return "\0".join(f"{message.role}\0{normalise(message.content)}" for message in example.context)


def content_id(example: Example) -> str:
    """First 12 hex digits of the sha256 of the normalised context and answers."""
    parts = [normalised_context(example), *(normalise(answer.text) for answer in example.answers)]
    return hashlib.sha256("\1".join(parts).encode("utf-8")).hexdigest()[:12]


def place(example: Example) -> str:
    """Where an example comes from, for a message: `a1b2 (train.jsonl, line 7)`."""
    file, line = example.tags.get("file"), example.tags.get("line")
    return f"{example.id} ({file}, line {line})" if file else example.id
