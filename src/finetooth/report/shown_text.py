"""Texts of rows as a page shows them: personal data redacted, cut to a length, with marked evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from finetooth.privacy.masking import redact, redacted_spans

LENGTHS = (2_000, 1_000, 500, 250)  # characters to which texts are cut, so that all of them have room
ROOM = 20_000_000  # characters of all texts on a page
AHEAD = 1_000  # characters behind the cut that are read, too: a value that is cut in two is still found

Span = tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class ShownText:
    """How texts are shown. redacted: with personal data hidden. most: characters to which they are cut."""

    redacted: bool = True
    most: int = LENGTHS[0]

    @classmethod
    def of(cls, texts: Iterable[str], redacted: bool = True) -> ShownText:
        """As many characters of each as let all have room on a page."""
        sizes = [len(text) for text in texts]
        fitting = (most for most in LENGTHS if sum(min(size, most) for size in sizes) <= ROOM)
        return cls(redacted, next(fitting, LENGTHS[-1]))

    def text(self, text: str) -> str:
        """The text as it is shown; it can be written as UTF-8."""
        text = text[: self.most + AHEAD]
        return self._cut(redact(text) if self.redacted else text)

    def marked(self, text: str, spans: Sequence[Span]) -> list[str]:
        """The text in parts, of which every second one is evidence: [plain, evidence, plain, ...].

        spans: half-open, in characters of the text; those that overlap or touch are one. Where redaction
        moves characters they move along.
        """
        text = text[: self.most + AHEAD]
        found = [(start, end) for start, end in spans if start is not None and end is not None]
        if self.redacted and (hidden := redact(text)) != text:
            moved = _moves(text)
            if moved and moved[-1][3] + len(text) - moved[-1][1] != len(hidden):
                return [self._cut(hidden)]  # a value hid another one, so places are not known
            found = [(_moved(start, moved, 2), _moved(end, moved, 3)) for start, end in found]
            text = hidden
        text = self._cut(text)
        parts: list[str] = []
        at = 0
        for start, end in sorted(found):
            start, end = max(start, at), min(end, len(text))
            if start >= end:
                continue
            if parts and start == at:
                parts[-1] += text[start:end]
            else:
                parts += [text[at:start], text[start:end]]
            at = end
        return [*parts, text[at:]]

    def _cut(self, text: str) -> str:
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return clean if len(clean) <= self.most else f"{clean[: self.most - 1]}…"


def _moves(text: str) -> list[tuple[int, int, int, int]]:
    """(start, end) of every value that is redacted, and (start, end) of what stands there then."""
    moved, shift = [], 0
    for start, end, form in redacted_spans(text):
        moved.append((start, end, start + shift, start + shift + len(form)))
        shift = moved[-1][3] - end
    return moved


def _moved(at: int, moved: Sequence[tuple[int, int, int, int]], side: int) -> int:
    """Where a place is after values were replaced. Inside of one: its start (side 2) or its end (side 3)."""
    shift = 0
    for one in moved:
        if at <= one[0]:
            break
        if at < one[1]:
            return one[side]
        shift = one[3] - one[1]
    return at + shift
