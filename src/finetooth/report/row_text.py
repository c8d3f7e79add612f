"""A row as readable terminal text: scored tokens, special tokens and significant whitespace are marked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from finetooth.quality.survey import Sample, TokenText

if TYPE_CHECKING:
    from rich.text import Text

SHOWN_CHARACTERS = 700  # of a context, and of an answer; a longer one is elided in the middle
MARKS = {"\n": "↵\n", "\t": "⇥", "\u00a0": "⍽"}
INVISIBLE = "\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
# Data and model output may hold control characters, which a terminal would execute.
VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
VISIBLE |= {127: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
SCORED = ("green underline", "cyan underline")  # alternating, token by token

Run = tuple[str, str]  # a text and its style


def row_text(sample: Sample) -> Text:
    """A row with its scored tokens between ⟦ and ⟧, underlined in green and cyan alternately.

    Line breaks are shown as ↵, tabs as ⇥, and a space as · where it is easily missed: at the end of a line or
    of the context, or next to other whitespace. Special tokens are magenta, and bold where they are scored.
    """
    from rich.text import Text

    about = f": {sample.about}" if sample.about else ""
    title = f"Row {sample.where}, scored between ⟦ ⟧{about}\n"
    text = Text(title.translate(VISIBLE), style="bold")
    unit = "tokens" if sample.pieces else "words"
    pieces = sample.pieces or (*_words(sample.context, False), *_words(sample.scored, True))
    context = [piece for piece in pieces if not piece.scored]
    scored = [piece for piece in pieces if piece.scored]
    line = Text()
    for shown, style in _visible(_folded(context, unit)):
        line.append(shown, style)
    line.append("⟦", "bold green")
    for shown, style in _visible(_folded(scored, unit)):
        line.append(shown, style)
    line.append("⟧", "bold green")
    return Text.assemble(text, line)


def _words(text: str, scored: bool) -> list[TokenText]:
    return [TokenText(word, scored, False) for word in re.findall(r"\s*\S+|\s+", text)]


def _folded(pieces: Sequence[TokenText], unit: str) -> list[Run]:
    """The pieces with their styles; only the beginning and the end of a long text."""
    runs = [(piece.text, _style(piece, number)) for number, piece in enumerate(pieces)]
    if sum(len(text) for text, _ in runs) <= SHOWN_CHARACTERS:
        return runs

    def half(runs: Sequence[Run]) -> int:
        """How many runs from the start fill half of the shown text."""
        size = 0
        for count, (text, _) in enumerate(runs):
            size += len(text)
            if size > SHOWN_CHARACTERS // 2:
                return count
        return len(runs)

    first, last = half(runs), half(runs[::-1])
    hidden = sum(piece.tokens for piece in pieces[first : len(pieces) - last])
    gap = (f"[… {hidden:,} {unit} …]", "italic yellow")
    return [*runs[:first], gap, *runs[len(runs) - last :]]


def _style(piece: TokenText, number: int) -> str:
    if piece.scored:
        return f"bold {SCORED[number % 2]}" if piece.special else SCORED[number % 2]
    return "magenta" if piece.special else "dim"


def _visible(runs: Sequence[Run]) -> list[Run]:
    """The runs with visible marks in place of invisible characters."""
    whole = "".join(text for text, _ in runs)
    found, at = [], 0
    for text, style in runs:
        found.append(("".join(_mark(whole, at + index) for index in range(len(text))), style))
        at += len(text)
    return found


def _mark(text: str, at: int) -> str:
    character = text[at]
    if character == " ":
        before, after = text[at - 1 : at] or "\n", text[at + 1 : at + 2] or "\n"
        return "·" if before.isspace() or after.isspace() else " "
    if character in MARKS:
        return MARKS[character]
    return f"‹{ord(character):04x}›" if character in INVISIBLE else character.translate(VISIBLE)
