"""Formats with text columns: one row as messages and answers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetooth.types import Answer, Message

PAIRS = (
    ("context", "answer"),
    ("question", "answer"),
    ("prompt", "response"),
    ("prompt", "completion"),
    ("query", "response"),
    ("input", "output"),
)

EXACT = 1e16  # from here on a float prints with an exponent, and does not say which whole number it was


class InvalidRowError(ValueError):
    """The reason why a row cannot be an example."""


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """The content of one row; fields as in Example."""

    context: list[Message]
    answers: list[Answer]
    tools: tuple[Mapping[str, Any], ...] = ()


def string(value: Any, column: str) -> str:
    """A cell as text: numbers are written out, missing is ''. Raises InvalidRowError for other types."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    advice = (
        '; write several labels as text, such as "a, b", and set evaluate.grader: labels'
        if column == "label" and isinstance(value, list)
        else ""
    )
    raise InvalidRowError(f"{column} is a {type(value).__name__}, expected text{advice}")


def parse_list(value: Any) -> list[Any] | None:
    """A list, or one parsed from JSON text as in the cells of a table; None for anything else."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def required(values: Mapping[str, Any], column: str) -> str:
    """The text of a cell. Raises InvalidRowError if it is missing or empty."""
    if column not in values:
        raise InvalidRowError(f"{column} is missing")
    text = string(values[column], column)
    if not text.strip():
        raise InvalidRowError(f"{column} is empty")
    return text


def parse_weight(value: Any, what: str) -> float:
    """A weight: a finite number >= 0, true or false, or text of one; missing is 1. what: for the message."""
    if value is None or value == "":
        return 1.0
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise InvalidRowError(f"{what} is {str(value)[:40]!r}, expected a number of at least 0")
    return weight


def prompt_messages(system: str, question: str) -> list[Message]:
    """A system and a user message, or a single user message if one of the texts is empty."""
    if system.strip() and question.strip():
        return [Message("system", system), Message("user", question)]
    return [Message("user", system if system.strip() else question)]


def read_text(values: Mapping[str, Any]) -> ParsedRow:
    """Plain text, all of it an answer."""
    return ParsedRow([], [Answer(required(values, "text"))])


def read_qa(values: Mapping[str, Any]) -> ParsedRow:
    """The first complete pair of columns: user, then assistant."""
    pair = next((pair for pair in PAIRS if set(pair) <= set(values)), None)
    if pair is None:
        raise InvalidRowError("the question or the answer is missing")
    system = string(values.get("system"), "system")
    question = string(values[pair[0]], pair[0])
    if not (system + question).strip():
        raise InvalidRowError(f"{pair[0]} is empty")
    return ParsedRow(prompt_messages(system, question), [Answer(required(values, pair[1]))])


def read_alpaca(values: Mapping[str, Any]) -> ParsedRow:
    """With an input, the instruction is the system message; with a system column, both are the user's."""
    instruction = required(values, "instruction")
    input = string(values.get("input"), "input")
    answer = [Answer(required(values, "output"))]
    system = string(values.get("system"), "system")
    if system.strip():
        question = "\n\n".join(text for text in (instruction, input) if text.strip())
        return ParsedRow([Message("system", system), Message("user", question)], answer)
    return ParsedRow(prompt_messages(instruction, input), answer)


def read_labels(values: Mapping[str, Any]) -> ParsedRow:
    """The text as the user message, its label as the answer."""
    text = required(values, "text")
    system = string(values.get("system"), "system")
    return ParsedRow(prompt_messages(system, text), [Answer(required(values, "label").strip())])
