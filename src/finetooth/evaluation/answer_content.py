"""What an answer says, apart from how it is written: the texts that it stands for when form is forgiven.

Form is characters of one meaning, quotes, list marks, emphasis, fences, a sentence around the answer, and a
remark behind it. Nothing is taken out of a text that doubts, denies or offers a second answer: "not 8",
"8 or 9" and "8. Actually, 9" stay what they are.
"""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

from finetooth.evaluation.graders.forms import ANSWER_WORDS, fold, readings
from finetooth.evaluation.graders.structured import parse

MOST_FORMS = 16  # of one answer
ROUNDS = 4  # parts that are taken out of a text, one from the other
LONGEST = 20_000  # characters; in a longer text nothing is looked for
# Compatibility forms that change what is said: 10², H₂O, ½.
_MEANINGFUL = ("<super>", "<sub>", "<fraction>")

# Words in what is left out of an answer that could change what it says.
_DOUBT = re.compile(
    r"\b(?:not|cannot|\w+n['’]t|never|no|nor|neither|none|or|either|wrong|incorrect|false|unless|except"
    r"|instead|actually|however|but|although|correction|wait|rather|maybe|perhaps|possibly|might|may|could"
    r"|also|unsure|unclear|alternatively|oder|nicht|kein\w*|nein|aber|falsch|sondern|vielleicht|doch|auch)\b",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"(?:\b(?:the|my|your|so|thus|therefore)\s+)*\b(?:(?:final|correct|right|best)\s+)?"
    rf"(?:{ANSWER_WORDS})\b[*_\"]*"
    r"(?:\s*[:=]|\s+(?:is|are|would\s+be|ist)\b:?)[*_]*\s*(?=\S)",
    re.IGNORECASE,
)
_OPENER = re.compile(
    r"(?:(?:sure|certainly|of course|okay|ok|absolutely)\b(?:\s+thing)?[!,.:]?\s+)?"
    r"(?:here(?:['’]s|\s+is|\s+are|\s+you\s+go)?\b[^:\n]{0,80}:\s*|(?:it|this|that)(?:['’]s|\s+is)\s+)?",
    re.IGNORECASE,
)
_LINE_OPENER = re.compile(
    r"[^\n]{0,120}\b(?:answer|result|output|translation|summary|json|following|below|as follows)\b"
    r"[^\n]{0,40}:[*_]*\s*\n+",
    re.IGNORECASE,
)
_CLOSER = re.compile(
    r"\n+\s*(?:i hope|hope this|let me know|feel free|is there anything|if you (?:need|have))[^\n]*\s*$",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"(?:(?<=[.!])[^\S\n]+|\n+)(?=(?:it|this|that|because|since|as|the reason|i chose|explanation|note)\b)",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    r"\s*[(\[](?:see|as|because|since|from|cf\.?|ref\.?|source|according|steps?|notes?|pages?|sections?"
    r"|lines?|rows?|confidence|siehe|weil|aus|schritt)\b[^()\[\]\n]*[)\]]\s*[.]?$",
    re.IGNORECASE,
)
_FENCED = re.compile(r"(?:```|~~~)[^\n`~]*\n(.*?)\n?[^\S\n]*(?:```|~~~)", re.DOTALL)


def contents(text: str) -> list[str]:
    """The texts that an answer stands for when its form is forgiven, at most MOST_FORMS, the nearest first.

    The text itself is not among them. None of them says anything that the text does not say.
    """
    if len(text) > LONGEST:
        return []
    known = [compatible(text)]
    for start in range(ROUNDS):
        for one in known[start:]:
            known += [part for part in _parts(one) if part not in known]
    found = (form for one in known for form in (one, *readings(one, label=True)))
    forms = [*found, *(_as_json(one) for one in known)]
    return [form for form in dict.fromkeys(forms) if form and form != text][:MOST_FORMS]


def compatible(text: str) -> str:
    """The text folded and in NFKC, except for superscripts, subscripts and fractions: 10² is not 102."""
    text = fold(text)
    if text.isascii():
        return text
    return "".join(
        char
        if unicodedata.decomposition(char).startswith(_MEANINGFUL)
        else unicodedata.normalize("NFKC", char)
        for char in text
    )


def _parts(text: str) -> Iterator[str]:
    """Parts of a text that are its answer, if what is left out casts no doubt on it."""
    for find in (
        _in_fence,
        _after_statement,
        _without_opener,
        _without_closer,
        _before_reason,
        _without_aside,
    ):
        part = find(text)
        if part and part.strip() and part != text:
            left_out = text.replace(part, " ", 1)
            if not _DOUBT.search(left_out):
                yield part.strip()


def _in_fence(text: str) -> str | None:
    """What the only code fence of a text holds."""
    found = _FENCED.findall(text)
    return found[0] if len(found) == 1 else None


def _after_statement(text: str) -> str | None:
    """What follows "the answer is", to the end of its line; None where two statements differ."""
    found = [text[match.end() :].split("\n")[0] for match in _STATED.finditer(text)]
    same = {readings(one, label=True)[-1].casefold() for one in found}
    return found[0] if len(same) == 1 else None


def _without_opener(text: str) -> str | None:
    for opener in (_LINE_OPENER, _OPENER):
        match = opener.match(text)
        if match and match.end():
            return text[match.end() :]
    return None


def _without_closer(text: str) -> str | None:
    match = _CLOSER.search(text)
    return text[: match.start()] if match else None


def _before_reason(text: str) -> str | None:
    """What stands before a sentence that explains it."""
    match = _REASON.search(text)
    return text[: match.start()] if match and text[: match.start()].strip() else None


def _without_aside(text: str) -> str | None:
    """The text without a last remark in parentheses that refers to a place or gives a reason."""
    match = _ASIDE.search(text)
    return text[: match.start()] if match else None


def _as_json(text: str) -> str | None:
    """The one JSON value of a text in compact form; also of one that Python writes, or with a last comma."""
    if not ("{" in text or "[" in text):
        return None
    for read in _READERS:
        try:
            value = read(text)
            return (
                json.dumps(value, ensure_ascii=False, allow_nan=False)
                if isinstance(value, dict | list)
                else None
            )
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return None


def _python(text: str) -> Any:
    """A dict or list as Python writes it: single quotes, True, None, a comma before the last bracket."""
    text = text.strip()
    if not (text[:1] in "{[" and text[-1:] in "}]"):
        raise ValueError("no literal")
    value = ast.literal_eval(text)
    if json.loads(json.dumps(value, allow_nan=False)) != value:
        raise ValueError("not what JSON can hold")
    return value


_READERS: tuple[Callable[[str], Any], ...] = (parse, _python)
