"""Personal data and secrets in a text, hidden: by a tag for a model to read, by a stub for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetooth.privacy.patterns import KINDS, SensitiveSpan, find


def mask(text: str) -> str:
    """The text with every piece of personal data and every secret replaced by its tag, such as [EMAIL].

    Running it twice is running it once.
    """
    while found := find(text):
        text = _replaced(text, found, [KINDS[one.kind].tag for one in found])
    return text


def redact(text: str) -> str:
    """The text with most of each such value hidden, as in `j***@***.com`: to be shown to a person."""
    found = find(text)
    return mask(_replaced(text, found, [redacted_form(one.kind, text[one.start : one.end]) for one in found]))


def redacted_spans(text: str) -> list[tuple[int, int, str]]:
    """(start, end, stub) of every value that `redact` hides, in order."""
    return [(one.start, one.end, redacted_form(one.kind, text[one.start : one.end])) for one in find(text)]


def redact_json(value: Any) -> Any:
    """A JSON value with every text in it veiled, the keys too; keys that become the same are numbered."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        found: dict[Any, Any] = {}
        for key, inner in value.items():
            name = stub = redact_json(key)
            number = 1
            while name in found:
                number += 1
                name = f"{stub} ({number})"
            found[name] = redact_json(inner)
        return found
    return [redact_json(inner) for inner in value] if isinstance(value, list | tuple) else value


def _replaced(text: str, found: list[SensitiveSpan], by: list[str]) -> str:
    parts, at = [], 0
    for one, word in zip(found, by, strict=True):
        parts += [text[at : one.start], word]
        at = one.end
    return "".join([*parts, text[at:]])


def redacted_form(kind: str, value: str) -> str:
    """What may be seen of a value: enough to find it in its row, never enough to use it."""
    if kind == "email":
        return f"{value[0]}***@***.{value.rsplit('.', 1)[-1]}"
    if kind == "ip":
        return f"{value.split(':' if ':' in value else '.')[0]}.***"
    if kind == "birth":
        return "born **.**.****"
    if kind in ("key", "password", "pem", "jwt"):
        return f"{value[:4]}***" if kind == "key" else KINDS[kind].tag
    return f"{value.lstrip('(')[:2]}***{value[-2:]}"
