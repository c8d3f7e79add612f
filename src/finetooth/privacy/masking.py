"""Masking of personal data and secrets: tags such as [EMAIL] for a model, partial values for a person."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from finetooth.privacy.patterns import KINDS, find

MOST_READ = 2_000_000  # characters that `mask` reads until it takes what is left for phone numbers
_DIGITS = re.compile(r"\d[\d ()./+-]{5,40}\d")


def mask(text: str) -> str:
    """The text with all personal data and secrets replaced by tags such as [EMAIL]. Idempotent.

    A value can hide the next one, as in a row of phone numbers, so it is read until nothing is found. In a
    text in which that would take too long, all that is left of long numbers is replaced.
    """
    read = 0
    while found := find(text):
        text = _replaced(text, [(one.start, one.end, KINDS[one.kind].tag) for one in found])
        read += len(text)
        if read > MOST_READ:
            return _DIGITS.sub(KINDS["phone"].tag, text)
    return text


@lru_cache(64)  # copies of a row are shown with the same words
def redact(text: str) -> str:
    """The text with most of each such value hidden, as in `j***@***.com`, fit to be shown to a person."""
    return mask(_replaced(text, redacted_spans(text)))


def redacted_spans(text: str) -> list[tuple[int, int, str]]:
    """(start, end, redacted form) of every value that `redact` hides, in order."""
    return [(one.start, one.end, redacted_form(one.kind, text[one.start : one.end])) for one in find(text)]


def redact_json(value: Any) -> Any:
    """A JSON value with all its texts redacted, including keys; keys that become equal are numbered."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        redacted: dict[Any, Any] = {}
        for key, inner in value.items():
            name = base = redact_json(key)
            number = 1
            while name in redacted:
                number += 1
                name = f"{base} ({number})"
            redacted[name] = redact_json(inner)
        return redacted
    return [redact_json(inner) for inner in value] if isinstance(value, list | tuple) else value


def redacted_form(kind: str, value: str) -> str:
    """What is shown of a value: enough to find it in its row, never enough to use it."""
    if kind == "email":
        return f"{value[0]}***@***.{value.rsplit('.', 1)[-1]}"
    if kind == "ip":
        return f"{value.split(':' if ':' in value else '.')[0]}.***"
    if kind == "birth":
        return "born **.**.****"
    if kind in ("key", "password", "pem", "jwt"):
        return f"{value[:4]}***" if kind == "key" else KINDS[kind].tag
    return f"{value.lstrip('(')[:2]}***{value[-2:]}"


def _replaced(text: str, spans: list[tuple[int, int, str]]) -> str:
    parts, at = [], 0
    for start, end, replacement in spans:
        parts += [text[at:start], replacement]
        at = end
    return "".join([*parts, text[at:]])
