"""The text of special tokens in what people write is text: only the template writes turns.

Before rendering, a mark goes into every such text, so that the tokenizer does not find it; the marked parts
of what the template writes are then encoded without special tokens, and all others as ever.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import tokenizers

from finetooth.data.render.tokenizer import Tokenizer
from finetooth.types import Message

MARK = "\U0010fffd"  # the last characters for private use
_START = "\U0010fffc\U0010fffc"  # in front of a part that does not begin the text
# Parts of a turn with reasoning, which templates look for, even where a tokenizer has them as special tokens.
_REASONING = {"<think>", "</think>"}
Spans = list[tuple[int, int]]
T = TypeVar("T")


class LiteralEncoder:
    """Encodes rendered text in which the special tokens of messages are marked."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        texts = [text for text in tokenizer.special_texts if len(text) > 1 and text not in _REASONING]
        added = tokenizer.backend.get_added_tokens_decoder().values()
        folds = re.IGNORECASE if any(one.special and one.normalized for one in added) else re.NOFLAG
        listed = "|".join(map(re.escape, texts)) or r"(?!)"
        self._special = re.compile(listed, folds)
        marked = "|".join(re.escape(text[0]) + MARK + re.escape(text[1:]) for text in texts) or r"(?!)"
        self._marked = re.compile(marked, folds)

    def find(self, messages: Sequence[Message]) -> str:
        """The first text of a special token in these messages, as in their content or calls; else ""."""
        values = (part for message in messages for part in (message.content, message.more))
        return next((found[0] for text in _texts(values) if (found := self._special.search(text))), "")

    def mark(self, messages: Sequence[Message]) -> list[Message]:
        """The messages with every text of a special token marked."""
        return [
            replace(one, content=self.mark_value(one.content), more=self.mark_value(one.more))
            if self.find([one])
            else one
            for one in messages
        ]

    def mark_value(self, value: T) -> T:
        """A JSON value with every text of a special token in it marked; itself if there is none."""
        found: Any = value
        if not any(self._special.search(text) for text in _texts(value)):
            return value
        if isinstance(value, str):
            found = self._special.sub(lambda match: match[0][0] + MARK + match[0][1:], value)
        elif isinstance(value, Mapping):
            found = {self.mark_value(key): self.mark_value(inner) for key, inner in value.items()}
        elif isinstance(value, list | tuple):
            found = [self.mark_value(inner) for inner in value]
        return found  # type: ignore[no-any-return]

    def encode(self, text: str) -> list[int]:
        """Ids of a rendered text; marks are not encoded."""
        return self.encode_with_offsets(text)[0] if MARK in text else self._tokenizer.encode(text)

    def encode_with_offsets(self, text: str) -> tuple[list[int], Spans]:
        """Ids of a rendered text, and the (start, end) of each in characters of it, marks included."""
        ids, offsets = self._tokenizer.encode_with_offsets(text)
        marks = [match.start() + 1 for match in self._marked.finditer(text)] if MARK in text else []
        if not marks:
            return ids, offsets
        new_ids: list[int] = []
        new_offsets: Spans = []
        special = self._tokenizer.special_ids
        ends = [at for at, id in enumerate(ids) if id in special and not _holds(marks, offsets[at])]
        first = start = 0  # of the part between two special tokens: its first token, its first character
        for at in [*ends, len(ids)]:
            end = offsets[at][0] if at < len(ids) else len(text)
            if _holds(marks, (start, end)):
                part = self._literal(text, start, end, marks)
            else:
                part = ids[first:at], offsets[first:at]
            new_ids += part[0] + ids[at : at + 1]
            new_offsets += part[1] + offsets[at : at + 1]
            first, start = at + 1, offsets[at][1] if at < len(ids) else end
        return new_ids, new_offsets

    def _literal(self, text: str, start: int, end: int, marks: list[int]) -> tuple[list[int], Spans]:
        """A part of the text without its marks, encoded as it is behind a special token."""
        inside = set(marks[bisect_left(marks, start) : bisect_left(marks, end)])
        places = [at for at in range(start, end) if at not in inside]
        lead = _START if start else ""
        encoding = self._backend.encode(lead + "".join(text[at] for at in places), add_special_tokens=False)
        skipped = 1 if lead else 0
        spans = [(a - len(lead), b - len(lead)) for a, b in encoding.offsets[skipped:]]
        return list(encoding.ids)[skipped:], [
            (places[a] if a < len(places) else end, places[b - 1] + 1 if b else start) for a, b in spans
        ]

    @cached_property
    def _backend(self) -> tokenizers.Tokenizer:
        """The tokenizer without special tokens; `_START` is one token of its own."""
        backend = tokenizers.Tokenizer.from_str(self._tokenizer.backend.to_str())
        backend.encode_special_tokens = True
        backend.add_tokens([tokenizers.AddedToken(_START, normalized=False, special=False)])
        return backend


def _holds(marks: list[int], span: tuple[int, int]) -> bool:
    return bisect_left(marks, span[0]) < bisect_left(marks, span[1])


def _texts(value: Any) -> Iterator[str]:
    """The texts in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif not isinstance(value, int | float | None):
        for inner in value:
            yield from _texts(inner)
