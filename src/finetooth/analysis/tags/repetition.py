"""Tags of text that is said again: loops, and long stretches of the input."""

from __future__ import annotations

import operator
import re

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.tags.base import (
    WORD,
    Evidence,
    Tag,
    TagContext,
    folded_words,
    free_text,
    gold_text,
    longest_copy,
    shorten,
    source_text,
)

GRAM, REPEATED, FEWEST = 4, 0.2, 24  # words of a gram, share of grams that are repeats, grams of an answer
TIMES, LONGEST = 3, 40  # a phrase of so many words at most, said so often in a row, is a loop
LETTERS = 8  # characters of a looping phrase; a shorter one must be said once more, a number six times
COPY = 25  # words that are copied from the input, at least
TAIL = 600  # characters at the end in which loops without spaces are looked for
_UNSPACED = re.compile(r"(.{1,40}?)\1{7,}", re.DOTALL)
_MARKS = re.compile(r"[\s\d\W_]+")


def _loop(words: list[str]) -> tuple[int, int] | None:
    """(first word, words of the phrase) of the first phrase that is said three times in a row."""
    for size in range(1, min(LONGEST, len(words) // TIMES) + 1):
        if sum(map(operator.eq, words[size:], words)) < (TIMES - 1) * size:
            continue
        run = 0  # words in a row that equal the word one phrase earlier
        for at in range(size, len(words)):
            run = run + 1 if words[at] == words[at - size] else 0
            if run >= (TIMES - 1) * size:
                start = at - size - run + 1
                phrase = words[start : start + size]
                often = TIMES * 2 if "".join(phrase).isdigit() else TIMES + 1
                whole = start == 0 and at == len(words) - 1 and len(words) > TIMES
                if whole or sum(map(len, phrase)) >= LETTERS or run >= (often - 1) * size:
                    return start, size
    return None


def _repeated(words: list[str]) -> float:
    """The share of 4-grams that have occurred before."""
    grams = [tuple(words[at : at + GRAM]) for at in range(len(words) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if len(grams) >= FEWEST else 0.0


def _repetition(row: AnsweredRow, context: TagContext) -> Evidence | None:
    text = row.text
    spans = [match.span() for match in WORD.finditer(text)]
    words = [text[start:end].casefold() for start, end in spans]
    if loop := _loop(words):
        start, size = loop
        if _loop(folded_words(gold_text(row.example))) is None:
            phrase = text[spans[start][0] : spans[start + size - 1][1]]
            return Evidence(f"says several times in a row: {shorten(phrase)}", spans[start][0], len(text))
    tail = text[-TAIL:]
    unspaced = _UNSPACED.search(tail)
    if unspaced and _MARKS.sub("", unspaced[1]) and not _UNSPACED.search(gold_text(row.example)[-TAIL:]):
        start = len(text) - len(tail) + unspaced.start()
        return Evidence(f"repeats without an end: {shorten(unspaced[1])}", start, len(text))
    share = _repeated(words)
    if share > REPEATED and _repeated(folded_words(gold_text(row.example))) <= REPEATED:
        return Evidence(f"{share:.0%} of its sequences of four words are repeats")
    return None


def _copied_context(row: AnsweredRow, context: TagContext) -> Evidence | None:
    least = max(COPY, round(1.25 * context.copied))
    if not free_text(row, context) or row.text.count(" ") < least - 1:
        return None
    spans = [match.span() for match in WORD.finditer(row.text)]
    words = folded_words(row.text)
    start, size = longest_copy(words, folded_words(source_text(row.example)), least)
    if not size or longest_copy(words[start : start + size], folded_words(gold_text(row.example)), least)[1]:
        return None
    first, last = spans[start][0], spans[start + size - 1][1]
    return Evidence(f"{size} words in a row are the input's", first, last)


TAGS = (
    Tag(
        "repetition",
        "repetition",
        "A phrase three times in a row, or more than a fifth of its sequences of four words said before.",
        _repetition,
    ),
    Tag(
        "copied-context",
        "copied from the input",
        "A long stretch of the input, word for word, that is not in the expected answer.",
        _copied_context,
    ),
)
