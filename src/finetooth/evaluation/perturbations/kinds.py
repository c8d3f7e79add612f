"""Perturbations of a row's question that should not change its answer, as in CheckList (Ribeiro et al. 2020).

Each is a pure function of the row, a seed and what is kept (kept.py), and says what it changed. `names` and
`numbers` are only for rows with labels: a generated answer may follow from them without holding them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from finetooth.evaluation.perturbations.english import LONG, NAMES, SHORT
from finetooth.evaluation.perturbations.kept import Free, Kept, question, with_question
from finetooth.types import Example

Edit = tuple[int, int, str]  # from, to, and what stands there instead
WORDS_A_TYPO = 8  # one typo in so many words that are long enough, and at least one
SPACES_A_CHANGE = 6
_LONG_WORD = re.compile(r"[^\W\d_]{4,}")
_MARKS = re.compile(r"[.,;:!?…。，、！？；：]+(?=\s|$)")
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?![\w])")
_NEAR = {
    key: row[max(0, at - 1) : at] + row[at + 1 : at + 2]
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for at, key in enumerate(row)
}


@dataclass(frozen=True, slots=True)
class Perturbed:
    """A row with a changed question. changes: (place, before, after) of every part that differs.

    place: in characters of the question as it is; the changes are in its order.
    """

    example: Example
    changes: tuple[tuple[int, str, str], ...]


def perturbed(example: Example, kind: str, seed: int, kept: Kept) -> Perturbed | None:
    """The row under one perturbation, the same for the same seed; None where there is nothing to change."""
    text = question(example)
    if kind in OF_LABELS and not example.tags.get("label"):
        return None
    draw = Random(f"{kind} {seed} {example.id}")
    edits = sorted(KINDS[kind].edits(text, draw, kept.free(example, text)))
    edits = [(start, end, new) for start, end, new in edits if text[start:end] != new]
    if not text or not edits:
        return None
    parts, at = [], 0
    for start, end, new in edits:
        parts += [text[at:start], new]
        at = end
    changed = "".join([*parts, text[at:]])
    changes = tuple((start, text[start:end], new) for start, end, new in edits)
    return Perturbed(replace(example, context=with_question(example, changed)), changes)


def _typos(text: str, draw: Random, free: Free) -> list[Edit]:
    words = [match for match in _LONG_WORD.finditer(text) if free(*match.span())]
    chosen = draw.sample(words, min(len(words), max(1, len(words) // WORDS_A_TYPO)))
    return [(*match.span(), _mistyped(match.group(), draw)) for match in chosen]


def _mistyped(word: str, draw: Random) -> str:
    """The word with one slip between its first and its last letter."""
    at = draw.randrange(1, len(word) - 1)
    before, letter, after = word[:at], word[at], word[at + 1 :]
    near = _NEAR.get(letter.lower(), "")
    slips = [before + after, before + letter + letter + after]
    slips += [before + after[0] + letter + after[1:]] * (len(after) > 1 and after[0] != letter)
    slips += [before + draw.choice(near) + after] * bool(near)
    return draw.choice(slips)


def _case(text: str, draw: Random, free: Free) -> list[Edit]:
    lower = text != text.lower() and draw.random() < 0.5
    words = [match for match in re.finditer(r"\S+", text) if free(*match.span())]
    return [(*one.span(), one.group().lower() if lower else one.group().upper()) for one in words]


def _punctuation(text: str, draw: Random, free: Free) -> list[Edit]:
    edits = [(*match.span(), "") for match in _MARKS.finditer(text) if free(*match.span())]
    end = len(text.rstrip())
    adds = not edits and text[end - 1 : end].isalnum() and free(end - 1, end)
    return [(end, end, ".")] if adds else edits


def _contractions(text: str, draw: Random, free: Free) -> list[Edit]:
    """Contractions written out, or long forms shortened where there is none."""
    plain = text.replace("’", "'")
    for table in (LONG, SHORT):
        edits: list[Edit] = []
        for pattern, becomes in table:
            for match in pattern.finditer(plain):
                apart = all(match.end() <= start or end <= match.start() for start, end, _ in edits)
                if apart and free(*match.span()):
                    edits.append((*match.span(), match.expand(becomes)))
        if edits:
            return edits
    return []


def _whitespace(text: str, draw: Random, free: Free) -> list[Edit]:
    spaces = [match.span() for match in re.finditer(r"(?<=\S) (?=\S)", text) if free(*match.span())]
    chosen = draw.sample(spaces, min(len(spaces), max(1, len(spaces) // SPACES_A_CHANGE)))
    edits: list[Edit] = [(start, end, draw.choice(["  ", "   ", "\n"])) for start, end in chosen]
    if free(0, 1):
        edits.append((0, 0, " "))
    return (
        [*edits, (len(text), len(text), draw.choice([" ", "\n"]))]
        if free(len(text) - 1, len(text))
        else edits
    )


def _names(text: str, draw: Random, free: Free) -> list[Edit]:
    """First names for others; the same name gets the same one throughout the question."""
    known = {name: [other for other in names if other not in text] for names in NAMES for name in names}
    instead: dict[str, str] = {}
    edits: list[Edit] = []
    for match in re.finditer(r"\b[A-Z][a-z]+\b", text):
        name = match.group()
        if known.get(name) and free(*match.span()):
            instead.setdefault(name, draw.choice(known[name]))
            edits.append((*match.span(), instead[name]))
    return edits


def _numbers(text: str, draw: Random, free: Free) -> list[Edit]:
    """Numbers for others of the same length and magnitude; 0 and 1 stay, since words around them agree."""
    edits: list[Edit] = []
    for match in _NUMBER.finditer(text):
        number = match.group()
        if number in ("0", "1") or not free(*match.span()):
            continue
        if len(number) == 1:
            new = draw.choice([digit for digit in "23456789" if digit != number])
        else:
            new = number[0] + "".join(draw.choice("0123456789") if c.isdigit() else c for c in number[1:])
        edits.append((*match.span(), new))
    return edits


@dataclass(frozen=True, slots=True)
class Kind:
    """One perturbation. words: what it does, for the report."""

    edits: Callable[[str, Random, Free], list[Edit]]
    words: str


KINDS = {
    "typos": Kind(_typos, "a slip in one of eight longer words"),
    "case": Kind(_case, "all letters small, or all capital"),
    "punctuation": Kind(_punctuation, "without punctuation marks; where there are none, with one at the end"),
    "contractions": Kind(_contractions, "“don't” for “do not”, or the reverse"),
    "whitespace": Kind(_whitespace, "double spaces and line breaks, also at both ends"),
    "names": Kind(_names, "other first names"),
    "numbers": Kind(_numbers, "other numbers of the same length"),
}
OF_LABELS = ("names", "numbers")


def added_rows(rows: Sequence[Example], train: Sequence[Example], seed: int, kept: Kept) -> list[Perturbed]:
    """Each row with a training question of the same label behind its own: its label should stay as likely.

    Rows that end with a template, options or code are left out: what is added would stand in the wrong place.
    """
    by_label: dict[str, list[str]] = {}
    for row in train:
        if row.tags.get("label") and (text := question(row).strip()):
            by_label.setdefault(row.target, []).append(text)
    result = []
    for row in rows:
        text, texts = question(row), by_label.get(row.target) if row.tags.get("label") else None
        if texts and text.strip() and kept.free(row, text)(len(text) - 1, len(text)):
            more = "\n" + Random(f"addition {seed} {row.id}").choice(texts)
            changed = replace(row, context=with_question(row, text + more))
            result.append(Perturbed(changed, ((len(text), "", more),)))
    return result
