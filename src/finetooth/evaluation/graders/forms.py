"""The forms in which one content is written: characters that look alike, quotes, emphasis, fences, prefixes.

`fold` makes equal what a reader cannot tell apart. `readings` are the texts that an answer may stand for once
what is written around it is taken off. Neither changes letters, case or inner punctuation.
"""

from __future__ import annotations

import re

from finetooth.data.unicode_forms import normal_form

_ALIKE = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\u300c\u300d\u300e\u300f", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-")
    | {"\u2026": "...", "\u3000": " "}
    | {chr(wide): chr(wide - 0xFEE0) for wide in range(0xFF01, 0xFF5F)}  # full-width ASCII
    | {chr(0xFB00 + at): text for at, text in enumerate(("ff", "fi", "fl", "ffi", "ffl", "st", "st"))}
    # Zero width: space, word joiner, BOM, soft hyphen, and the marks of writing direction.
    | dict.fromkeys("\u200b\u2060\ufeff\u00ad\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e", "")
)
# Joiners mean nothing between Latin letters; other scripts and emoji are spelled with them.
_JOINER = re.compile(r"(?<![^\x00-\u024f])[\u200c\u200d]+(?![^\x00-\u024f])")

# A line that begins the reasons of an answer.
EXPLAINED = re.compile(r"(?im)^[^\w\n]*(?:explanation|reasoning|reason|note|because|erklärung|begründung)\b")
ROUNDS = 8  # wrappers that are taken off an answer, one inside the other
_FENCE = re.compile(r"\s*(```|~~~)[^\n`~]*\n")
# What an answer is called where it is announced, as part of a regular expression.
ANSWER_WORDS = (
    "answer|label|labels|category|categories|class|classes|sentiment|intent|topic|topics|tag|tags|prediction|"
    "result|output|choice|option|antwort|réponse|respuesta|resposta|risposta|ответ|答案|回答|答え"
)
_PREFIX = re.compile(
    rf"[*_]*(?:the\s+)?(?:final\s+|correct\s+|right\s+)?(?:{ANSWER_WORDS})[*_]*"
    r"(?:\s*[:=]|\s+(?:is|are|ist|est|es)\b:?)[*_]*\s*(?=\S)",
    re.IGNORECASE,
)
_ITEM = re.compile(r"(?:[-*•+]|\d{1,3}[.)])\s+(?=\S)")
_PAIRS = ("***", "**", "*", "``", "`", '"', "'")
_END = re.compile(r"(?<=[^.!。\s])[.。]$")
_LABEL_END = re.compile(r"(?<=[^.!。\s])[.!。,;:]$")
_CHOICE = re.compile(r"\(?(\w{1,2})\)")


def normalise_text(text: str) -> str:
    """The text in NFC, with runs of white space as one space and none at its ends."""
    return " ".join(normal_form("NFC", text).split())


def fold(text: str) -> str:
    """NFC, with typographic quotes, hyphens and minus signs, full-width ASCII and ligatures as in ASCII, and
    without characters of no width. Superscripts, fractions and white space stay as they are.
    """
    if text.isascii():
        return text
    return _JOINER.sub("", normal_form("NFC", text).translate(_ALIKE))


def folded(text: str) -> str:
    """`normalise_text` of `fold`."""
    return normalise_text(fold(text))


def unfenced(text: str) -> str:
    """What a code fence around the whole text holds, whether it is closed or not; else the text."""
    opened = _FENCE.match(text)
    if not opened:
        return text
    inside = text[opened.end() :].rstrip()
    if not inside.endswith(opened[1]):
        return inside
    return inside.removesuffix(opened[1]).rstrip(" \t").removesuffix("\n")


def without_prefix(text: str) -> str:
    """The text without a leading "Answer:", "The label is" and the like."""
    found = _PREFIX.match(text)
    return text[found.end() :] if found else text


def readings(text: str, label: bool = False) -> list[str]:
    """The folded text, then what it is inside a fence, prefix, list mark, quotes or emphasis, without a last
    full stop. label: also without other final punctuation, and a choice such as "(A)" without parentheses.
    """
    found = [folded(text)]
    text = unfenced(fold(text))
    if (reasons := EXPLAINED.search(text)) and text[: reasons.start()].strip():
        text = text[: reasons.start()]
    text = folded(text)
    for _ in range(ROUNDS):
        found.append(text)
        text = _taken_off(text, label)
        if text == found[-1]:
            break
    return list(dict.fromkeys(found))


def expected_readings(text: str) -> list[str]:
    """The folded expected text, also without a last full stop or quotes around all of it."""
    whole = folded(text)
    inner = _END.sub("", whole)
    for quote in "\"'":
        if len(inner) > 2 and inner[0] == inner[-1] == quote and quote not in inner[1:-1]:
            inner = inner[1:-1]
    return [whole, inner]


def _taken_off(text: str, label: bool) -> str:
    """The text without one wrapper."""
    for pair in _PAIRS:
        inner = text[len(pair) : -len(pair)]
        if inner.strip() and text.startswith(pair) and text.endswith(pair) and pair not in inner:
            return inner.strip()
    shorter = (_LABEL_END if label else _END).sub("", text)
    if shorter == text:
        shorter = without_prefix(text)
    if shorter == text and (item := _ITEM.match(text)):
        shorter = text[item.end() :]
    if shorter == text and label and (choice := _CHOICE.fullmatch(text)):
        return choice[1]
    return shorter
