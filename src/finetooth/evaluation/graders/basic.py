"""Graders that compare an answer with the expected one and say right or wrong, or which labels are right."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from finetooth.errors import GradeError
from finetooth.types import Example, Score

SHOWN = 5  # how many missing or wrong things a reason names

# A minus that follows a digit or a letter is a dash ("2024-05-06", "A-3"); thousands come in full groups.
NUMBER = re.compile(
    r"(?:(?<![\w.])(?P<sign>[-−]))?[$€£]?"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3}(?!\w))?|(?<!\d)\.\d+)"
)
# A letter or digit of a script that puts spaces between words (from U+2E80 on are those of East Asia).
IN_WORD = r"[^\W\u2e80-\U0010ffff]"


def expected_answers(example: Example) -> list[str]:
    """The expected answers of a row: any of them is right."""
    return [answer.text for answer in example.answers if answer.role in ("target", "chosen", "reference")]


def no_expected_answer() -> Score:
    """The score of a row without an expected answer: an error."""
    return Score(None, error="the row has no expected answer")


def normalise_text(text: str) -> str:
    """The text with single spaces and none at its ends; a letter and its accent are one sign (NFC)."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def exact(example: Example, text: str) -> Score:
    """1 when the answer is an expected one. Case counts, the amount of white space does not."""
    expected = [normalise_text(answer) for answer in expected_answers(example)]
    if not expected:
        return no_expected_answer()
    got = normalise_text(text)
    right = got in expected
    return Score(float(right), "" if right else "differs", got, expected[0])


def contains(example: Example, text: str) -> Score:
    """1 when an expected answer stands in the answer, as whole words. Case and white space do not count."""
    expected = [normalise_text(answer) for answer in expected_answers(example)]
    if not expected:
        return no_expected_answer()
    got = normalise_text(text)
    right = any(_stands_in(got.casefold(), answer.casefold()) for answer in expected)
    return Score(float(right), "" if right else "is not in the answer", got, expected[0])


def _stands_in(text: str, part: str) -> bool:
    """Whether the part is in the text without cutting a word or a number ("7" is not in "7.5" or "-7")."""
    if not part:
        return not text
    before = rf"(?<!{IN_WORD})" if re.match(IN_WORD, part) else ""
    after = rf"(?!{IN_WORD})" if re.match(IN_WORD, part[-1]) else ""
    before += r"(?<!\d[.,])(?<!(?<![\w.])[-−])" if part[0].isdigit() else ""
    after += r"(?![.,]\d)" if part[-1].isdigit() else ""
    return re.search(before + re.escape(part) + after, text) is not None


def label(example: Example, text: str) -> Score:
    """1 when the answer is the row's label; upper and lower case and white space around it do not count."""
    expected = expected_answers(example)
    if not expected:
        return no_expected_answer()
    got = normalise_text(text)
    right = got.casefold() in {normalise_text(answer).casefold() for answer in expected}
    return Score(float(right), "" if right else "another label", got, normalise_text(expected[0]))


def labels(example: Example, text: str) -> Score:
    """F1 of the set of labels in the answer against the expected set; order and case do not count.

    Labels stand between commas, semicolons or line ends, or in a JSON list.
    """
    expected = expected_answers(example)
    if not expected:
        return no_expected_answer()
    return max((_compared(text, answer) for answer in expected), key=lambda score: score.value or 0.0)


def _compared(text: str, answer: str) -> Score:
    got, want = _label_set(text), _label_set(answer)
    shared = len(got.keys() & want.keys())
    value = 2 * shared / (len(got) + len(want)) if got or want else 1.0
    missing = [want[key] for key in want if key not in got]
    wrong = [got[key] for key in got if key not in want]
    return Score(
        value, difference(missing, wrong, "not expected"), ", ".join(got.values()), ", ".join(want.values())
    )


def _label_set(text: str) -> dict[str, str]:
    """Labels by their folded form, as written, in their order."""
    parts = re.split(r"[,;\n]", text)
    try:
        listed = json.loads(text)
        parts = [str(part) for part in listed] if isinstance(listed, list) else parts
    except (ValueError, RecursionError):
        pass  # no JSON, or lists in lists
    found = (normalise_text(part).strip(" \"'[]") for part in parts)
    return {part.casefold(): part for part in found if part}


def label_names(answers: Iterable[str]) -> tuple[str, ...]:
    """The single labels of answers that hold several each, sorted."""
    return tuple(sorted({label for answer in answers for label in _label_set(answer).values()}))


def difference(missing: Sequence[str], wrong: Sequence[str], called: str) -> str:
    """What an answer lacks and what it should not have, in words; at most five of each are named."""
    said = []
    for what, items in (("missing", missing), (called, wrong)):
        if items:
            more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
            said.append(f"{what}: {', '.join(items[:SHOWN])}{more}")
    return "; ".join(said)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a number may be off: by `amount`, or by that share of the expected number."""

    amount: Decimal = Decimal(0)
    relative: bool = False

    @classmethod
    def of(cls, value: object) -> Tolerance:
        """From 0.01, or from "1%" of the expected number. GradeError for anything else."""
        text = str(value).strip()
        try:
            amount = Decimal(text.removesuffix("%"))
        except InvalidOperation:
            amount = Decimal("nan")
        if isinstance(value, bool) or not (amount.is_finite() and amount >= 0):
            raise GradeError(
                f"evaluate.grader: number: tolerance is a number such as 0.01, or a share such as 1%, found "
                f"{value!r}."
            )
        return cls(amount / 100, True) if text.endswith("%") else cls(amount)

    def allows(self, got: Decimal, want: Decimal) -> bool:
        """Whether got is near enough."""
        return got == want or abs(got - want) <= (self.amount * abs(want) if self.relative else self.amount)


EXACTLY = Tolerance()


def number(example: Example, text: str, tolerance: Tolerance = EXACTLY) -> Score:
    """1 when the answer's last number equals that of the expected answer (after `####` where used).

    Understood are signs, decimals, exponents, thousands ("1,234.5") and a currency sign; "50%" is 50.
    """
    expected = expected_answers(example)
    if not expected:
        return no_expected_answer()
    wants = []
    for answer in expected:
        if (want := last_number(answer.rsplit("####", 1)[-1])) is None:
            return Score(None, error=f"the expected answer holds no number: {answer[:80]!r}")
        wants.append(want)
    got = last_number(text)
    if got is None:
        return Score(0.0, "no number in the answer", "", _plain(wants[0]))
    right = any(tolerance.allows(got, want) for want in wants)
    return Score(float(right), "" if right else "another number", _plain(got), _plain(wants[0]))


def last_number(text: str) -> Decimal | None:
    """The last number written in the text, None when there is none."""
    found = list(NUMBER.finditer(text))
    if not found:
        return None
    value = Decimal(found[-1]["digits"].replace(",", ""))
    return -value if found[-1]["sign"] else value


def _plain(value: Decimal) -> str:
    return format(value.normalize(), "f") if abs(value.adjusted()) < 40 else str(value)


def regex_grader(pattern: Any) -> Callable[[Example, str], Score]:
    """A grader by a regular expression. GradeError when it is none.

    Without a group: 1 when it is found in the answer, whatever is expected. With one: 1 when what the group
    holds in its last match equals an expected answer, or what the pattern takes out of that.
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise GradeError(f"evaluate.grader: regex: {pattern!r} is no regular expression: {error}.") from None

    def grade(example: Example, text: str) -> Score:
        got = _taken(compiled, text)
        if not compiled.groups:
            return Score(float(got is not None), "" if got is not None else "not found", got or "", pattern)
        if not expected_answers(example):
            return no_expected_answer()
        expected = [
            normalise_text(_taken(compiled, answer) or answer) for answer in expected_answers(example)
        ]
        if got is None:
            return Score(0.0, f"{pattern} is not found", "", expected[0])
        right = got in expected
        return Score(float(right), "" if right else "differs", got, expected[0])

    return grade


def _taken(compiled: re.Pattern[str], text: str) -> str | None:
    """What the pattern's last match holds, of its first group that took part; None without a match."""
    found = list(compiled.finditer(text))
    if not found:
        return None
    held = found[-1].groups() or (found[-1][0],)
    return normalise_text(next((part for part in held if part is not None), ""))
