"""One row into messages and answers: the formats whose columns are text."""

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


class InvalidRowError(ValueError):
    """Why one row cannot be an example."""


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """What a row says: as of an Example."""

    context: list[Message]
    answers: list[Answer]
    tools: tuple[Mapping[str, Any], ...] = ()


def string(value: Any, column: str) -> str:
    """The text of a cell: numbers are written out, missing is ''. InvalidRowError for anything else."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    raise InvalidRowError(f"{column} is a {type(value).__name__}, expected text")


def parse_list(value: Any) -> list[Any] | None:
    """A list, or the JSON text of one, as cells of a table hold it; None for anything else."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def required(values: Mapping[str, Any], column: str) -> str:
    """The text of a cell that has to hold some."""
    if column not in values:
        raise InvalidRowError(f"{column} is missing")
    text = string(values[column], column)
    if not text.strip():
        raise InvalidRowError(f"{column} is empty")
    return text


def parse_weight(value: Any, what: str) -> float:
    """A weight: a finite number of at least 0, true or false, or text that is one; missing is 1."""
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
    """System and user message; the one that is not empty alone is the user's."""
    if system.strip() and question.strip():
        return [Message("system", system), Message("user", question)]
    return [Message("user", system if system.strip() else question)]


def read_text(values: Mapping[str, Any]) -> ParsedRow:
    """Plain text, all of it."""
    return ParsedRow([], [Answer(required(values, "text"))])


def read_qa(values: Mapping[str, Any]) -> ParsedRow:
    """The first pair of columns that is there: user, then assistant."""
    pair = next((pair for pair in PAIRS if set(pair) <= set(values)), None)
    if pair is None:
        raise InvalidRowError("the question or the answer is missing")
    system = string(values.get("system"), "system")
    question = string(values[pair[0]], pair[0])
    if not (system + question).strip():
        raise InvalidRowError(f"{pair[0]} is empty")
    return ParsedRow(prompt_messages(system, question), [Answer(required(values, pair[1]))])


def read_alpaca(values: Mapping[str, Any]) -> ParsedRow:
    """The instruction is the system message where there is an input; with a system column both are asked."""
    instruction = required(values, "instruction")
    given = string(values.get("input"), "input")
    answer = [Answer(required(values, "output"))]
    system = string(values.get("system"), "system")
    if system.strip():
        question = "\n\n".join(text for text in (instruction, given) if text.strip())
        return ParsedRow([Message("system", system), Message("user", question)], answer)
    return ParsedRow(prompt_messages(instruction, given), answer)


def read_labels(values: Mapping[str, Any]) -> ParsedRow:
    """The text, then its label."""
    text = required(values, "text")
    system = string(values.get("system"), "system")
    return ParsedRow(prompt_messages(system, text), [Answer(required(values, "label").strip())])
