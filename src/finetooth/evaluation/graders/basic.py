"""Graders of right or wrong answers: exact, contains, label, regex."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from finetooth.data.unicode_forms import normal_form
from finetooth.errors import GradeError
from finetooth.evaluation.graders.forms import expected_readings, folded, normalise_text, readings
from finetooth.evaluation.graders.shared import expected_answers, no_expected_answer
from finetooth.types import Example, Score

# A letter or digit of a script with spaces between words. Thai, Lao, Burmese and Khmer have none, nor have
# the East Asian scripts from U+2E80 on.
IN_WORD = r"[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\U0010ffff]"
EMPHASIS = re.compile(rf"(?<!{IN_WORD})_([^_\n]+)_(?!{IN_WORD})")


def exact(example: Example, text: str, strict: bool = False) -> Score:
    """1 when the answer equals an expected one. Case matters, the amount of white space does not.

    A fence, quotes, emphasis, a list mark or "Answer:" around the answer do not matter, nor do a final full
    stop and the typographic form of quotes, hyphens and widths. strict: all of these do.
    """
    return _one_of(example, text, strict, lambda text: text, readings, "differs")


def label(example: Example, text: str, strict: bool = False) -> Score:
    """1 when the answer is the row's label. Ignores case, and what `exact` ignores.

    strict: only case and surrounding white space do not matter.
    """
    return _one_of(example, text, strict, str.casefold, lambda text: readings(text, True), "another label")


def _one_of(
    example: Example,
    text: str,
    strict: bool,
    case: Callable[[str], str],
    read: Callable[[str], list[str]],
    reason: str,
) -> Score:
    """1 when a reading of the answer is one of an expected answer, compared by `case` of both."""
    expected = expected_answers(example)
    if not expected:
        return no_expected_answer()
    plain = [[normalise_text(answer)] if strict else expected_readings(answer) for answer in expected]
    wants = {case(one) for ones in plain for one in ones}
    right = any(case(got) in wants for got in ([normalise_text(text)] if strict else read(text)))
    return Score(float(right), "" if right else reason, normalise_text(text), normalise_text(expected[0]))


def contains(example: Example, text: str, strict: bool = False) -> Score:
    """1 when the answer contains an expected one as whole words. Ignores case, white space, and the
    typographic form of characters. "C" is not in "C++", nor "Node" in "Node.js". strict: the typographic
    form matters.
    """
    expected = expected_answers(example)
    if not expected:
        return no_expected_answer()
    form = normalise_text if strict else folded
    got = form(text).casefold()
    texts = {got} if strict else {got, EMPHASIS.sub(r" \1 ", got)}
    right = any(_contains_words(one, form(answer).casefold()) for answer in expected for one in texts)
    reason = "" if right else "is not in the answer"
    return Score(float(right), reason, normalise_text(text), normalise_text(expected[0]))


def _contains_words(text: str, part: str) -> bool:
    """Whether the part occurs in the text as whole words and numbers ("7" is not in "7.5" or "-7")."""
    if not part:
        return not text
    before = rf"(?<!{IN_WORD})" if re.match(rf"{IN_WORD}|\.|-\d", part) else ""
    after = rf"(?!{IN_WORD})" if re.match(rf"{IN_WORD}|[+#]", part[-1]) else ""
    before += r"(?<!\d[.,])(?<!(?<![\w.])[-−])" if part[0].isdigit() else ""
    after += r"(?![.,]\d)" if part[-1].isdigit() else ""
    if re.match(IN_WORD, part[-1]):
        after += r"(?![+#]|\.[^\W\d])"  # C is neither C++ nor C#, Node is not Node.js
    if len(part) == 1 and part.isalpha():  # nor is it Objective-C, or B in B-12
        before, after = before + r"(?<!\w-)", after + r"(?!-\w)"
    return re.search(before + re.escape(part) + after, text) is not None


def regex_grader(pattern: Any) -> Callable[[Example, str], Score]:
    """A grader by a regular expression. GradeError for an invalid one.

    Without a group: 1 when the pattern matches in the answer, whatever is expected. With one: 1 when the
    group of its last match equals an expected answer, or the group of the pattern's last match there.
    """
    try:
        compiled = re.compile(normal_form("NFC", pattern))
    except (re.error, TypeError) as error:
        raise GradeError(
            f"evaluate.grader: regex: {pattern!r} is not a regular expression: {error}."
        ) from None

    def grade(example: Example, text: str) -> Score:
        got = _last_group(compiled, text)
        if not compiled.groups:
            return Score(float(got is not None), "" if got is not None else "not found", got or "", pattern)
        if not expected_answers(example):
            return no_expected_answer()
        expected = [_last_group(compiled, answer) or answer for answer in expected_answers(example)]
        want = normalise_text(expected[0])
        if got is None:
            return Score(0.0, f"{pattern} is not found", "", want)
        right = folded(got) in map(folded, expected)
        return Score(float(right), "" if right else "differs", got, want)

    return grade


def _last_group(compiled: re.Pattern[str], text: str) -> str | None:
    """The first group of the pattern's last match that took part, else all of it; None without a match."""
    text = normal_form("NFC", text)
    matches = list(compiled.finditer(text))
    if not matches:
        return None
    groups = matches[-1].groups() or (matches[-1][0],)
    return normalise_text(next((group for group in groups if group is not None), ""))
