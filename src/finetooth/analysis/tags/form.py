"""The tag of broken format: not JSON where JSON is wanted, or JSON of another form than the answers have."""

from __future__ import annotations

import json
from typing import Any

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.tags.base import Evidence, Tag, TagContext, json_kind, shorten
from finetooth.evaluation.graders.structured import parse

ALWAYS = 1.0  # share of the training answers that have a key: it must be there
FEWEST = 20  # training answers from which a key that none of them has is wrong


def _broken(row: AnsweredRow, context: TagContext) -> Evidence | None:
    if row.chosen or not context.wants_json or not row.text.strip():
        return None
    try:
        value = parse(row.text)
    except ValueError as error:
        at = error.__context__.pos if isinstance(error.__context__, json.JSONDecodeError) else None
        return Evidence(f"not JSON: {error}", at, None if at is None else min(at + 1, len(row.text)))
    words = context.problem(row.text) if context.problem is not None else _unlike(value, context)
    return Evidence(shorten(words, 200)) if words else None


def _unlike(value: Any, context: TagContext) -> str:
    """How a JSON value differs in form from all training answers, "" where it does not."""
    if not context.objects:
        return "" if isinstance(value, dict | list) or not context.answers else f"is {json_kind(value)}"
    if not isinstance(value, dict):
        return f"is {json_kind(value)}, and the training answers are objects"
    for key, count in context.keys.items():
        if count >= ALWAYS * context.objects and key not in value:
            return f"the key {key!r} is missing, which all training answers have"
    for key, inner in value.items():
        if key not in context.keys:
            if context.objects >= FEWEST:
                return f"the key {key!r} is in no training answer"
        elif json_kind(inner) not in context.kinds[key]:
            kinds = " or ".join(sorted(context.kinds[key]))
            return f"{key!r} is {json_kind(inner)}, and {kinds} in the training answers"
    return ""


TAGS = (
    Tag(
        "broken-format",
        "broken format",
        "Not JSON where JSON is wanted, or it violates the schema, or has other keys than training answers.",
        _broken,
    ),
)
