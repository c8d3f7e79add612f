"""Tags of names, addresses and quotes that the input does not support."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rapidfuzz import fuzz

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.tags.base import (
    Evidence,
    Tag,
    TagContext,
    folded_words,
    free_text,
    shorten,
    source_text,
)

ALIKE = 90.0  # of rapidfuzz: a name that is written a little differently
STEM = 5  # letters that a name shares with a word of the input: Canada, Canadian
QUOTED = 3  # words of a quote at least: fewer are names and words that are set apart
BEFORE = 8  # characters in front of a name that tell whether a sentence begins
TITLE = 0.6  # share of a line's words in capitals from which it is a heading
_ADDRESS = re.compile(
    r"\b\w{2,12}://[^\s<>\"')\]]+|www\.[^\s<>\"')\]]+|(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
)
_ID = re.compile(r"\b(?=[\w-]{0,60}\d)(?=[\w-]{0,60}[A-Z])[A-Za-z0-9]{2,}(?:-[A-Za-z0-9]+)*\b")
_CAPITAL = r"[A-ZÀ-ÖØ-ÞŠŽ][\w'’&.-]*\w|[A-Z]{2,}"
_SPAN = re.compile(rf"(?:{_CAPITAL})(?:[ \t](?:(?:of|the|de|la|van|von|and|&)[ \t])?(?:{_CAPITAL}))*")
_SENTENCE_END = re.compile(r"[.!?:;\n\"“”'‘(\[*_>|#•–—-]\s*$|^\s*$|\d[.)]\s*$")
_QUOTE = re.compile(
    r"“([^“”\n]{8,400})”|(?<!\w)\"([^\"\n]{8,400})\"(?!\w)|«\s?([^«»\n]{8,400}?)\s?»|„([^“”„\n]{8,400})[“”]"
)
_CALENDAR_TEXT = (
    "january february march april may june july august september october november december jan feb mar "
    "apr jun jul aug sep sept oct nov dec monday tuesday wednesday thursday friday saturday sunday mon "
    "tue wed thu fri sat sun i i'm i'll i've i'd am pm ok okay yes no mr mrs ms dr the a an and or of "
    "in on at to for with"
)
_CALENDAR = frozenset(_CALENDAR_TEXT.split())


def names(text: str) -> Iterator[tuple[int, int]]:
    """Where the names of a text stand: spans of capitalised words, without the first word of a sentence."""
    for line in re.finditer(r"[^\n]+", text):
        if len(line[0]) < len(text) and _titled(line[0]):
            continue  # a heading
        for match in _SPAN.finditer(line[0]):
            start, end = match.span()
            if _SENTENCE_END.search(line[0][max(0, start - BEFORE) : start]):
                start += len(re.match(r"\S+\s*", match[0])[0])  # type: ignore[index]  # a span has a word
            if start < end:
                yield line.start() + start, line.start() + end


def _titled(line: str) -> bool:
    """Whether most words of a line have capitals, as in a heading or a title."""
    words = re.findall(r"[^\W\d_]{2,}", line)
    return len(words) > 2 and sum(word[0].isupper() for word in words) >= TITLE * len(words)


class _Source:
    """The words of an input, for many questions to it."""

    def __init__(self, text: str) -> None:
        self.text = " ".join(folded_words(text))
        self.words = set(self.text.split())
        self.words |= {word.removesuffix("'s") for word in self.words}
        self.stems = {word[:STEM] for word in self.words if len(word) >= STEM}
        self.initials = {"".join(word[0] for word in re.findall(r"\w+", span)).casefold() for span in
                         _SPAN.findall(text)}  # fmt: skip

    def has(self, word: str) -> bool:
        """Whether the input has a casefolded word, in this or another form."""
        if word in self.words or word in _CALENDAR or word.removesuffix("s") in self.words:
            return True
        if len(word) >= STEM and word[:STEM] in self.stems:
            return True
        return word.replace(".", "") in self.initials

    def has_name(self, name: str) -> bool:
        """Whether the input has a name of several words, written a little differently."""
        return bool(self.text) and fuzz.partial_ratio(name, self.text) >= ALIKE


def _entity(row: AnsweredRow, context: TagContext) -> Evidence | None:
    if not free_text(row, context) or not row.example.context:
        return None
    text, raw = row.text, source_text(row.example)
    lower = raw.casefold()
    for pattern, what in ((_ADDRESS, "address"), (_ID, "identifier")):
        for match in pattern.finditer(text):
            found = match[0].rstrip(".,;:").casefold()
            if found not in lower and not context.common(found):
                return Evidence(f"the input has no {what} {shorten(match[0])}", *match.span())
    source: _Source | None = None
    for start, end in names(text):
        source = _Source(raw) if source is None else source
        words = [word.removesuffix("'s") for word in folded_words(text[start:end])]
        missing = [
            word for word in words if len(word) > 1 and not source.has(word) and not context.common(word)
        ]
        if missing and not source.has_name(" ".join(words)):
            return Evidence(f"the input has no {shorten(text[start:end])}", start, end)
    return None


def _quote(row: AnsweredRow, context: TagContext) -> Evidence | None:
    if not free_text(row, context) or not row.example.context:
        return None
    source: str | None = None
    for match in _QUOTE.finditer(row.text):
        said = next(filter(None, match.groups()))
        words = folded_words(said)
        if len(words) < QUOTED or _titled(said):
            continue  # a title, or words that are set apart
        source = " ".join(folded_words(source_text(row.example))) if source is None else source
        quoted = " ".join(words)
        if quoted not in source and fuzz.partial_ratio(quoted, source) < ALIKE:
            return Evidence(f"the input does not say: {shorten(match[0])}", *match.span())
    return None


TAGS = (
    Tag(
        "unsupported-entity",
        "name that the input does not support",
        "A name, identifier, address of mail or of the web that is not in the input.",
        _entity,
    ),
    Tag(
        "unsupported-quote",
        "quote that the input does not support",
        "Words in quotation marks that the input does not say.",
        _quote,
    ),
)
