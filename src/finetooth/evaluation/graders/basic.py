"""Graders of right or wrong answers: exact, contains, label, labels, number, regex."""

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

Grader = Callable[[Example, str], Score]
SHOWN = 5  # missing or unexpected items that a reason lists

# A minus after a digit or a letter is a hyphen ("2024-05-06", "A-3"); thousands come in groups of three.
NUMBER = re.compile(
    r"(?:(?<![\w.])(?P<sign>[-−]))?[$€£]?"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3}(?!\w))?|(?<!\d)\.\d+)"
)
# A letter or digit of a script with spaces between words (East Asian scripts begin at U+2E80).
IN_WORD = r"[^\W\u2e80-\U0010ffff]"


def expected_answers(example: Example) -> list[str]:
    """The expected answers of a row, any of which is right."""
    return [answer.text for answer in example.answers if answer.role in ("target", "chosen", "reference")]


def no_expected_answer() -> Score:
    """The score of a row without an expected answer, which is an error."""
    return Score(None, error="the row has no expected answer")


def normalise_text(text: str) -> str:
    """The text in NFC, with runs of white space as one space and none at its ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def exact(example: Example, text: str) -> Score:
    """1 when the answer equals an expected one. Case matters, the amount of white space does not."""
    expected = [normalise_text(answer) for answer in expected_answers(example)]
    if not expected:
        return no_expected_answer()
    got = normalise_text(text)
    right = got in expected
    return Score(float(right), "" if right else "differs", got, expected[0])


def contains(example: Example, text: str) -> Score:
    """1 when the answer contains an expected one as whole words. Ignores case and white space."""
    expected = [normalise_text(answer) for answer in expected_answers(example)]
    if not expected:
        return no_expected_answer()
    got = normalise_text(text)
    right = any(_contains_words(got.casefold(), answer.casefold()) for answer in expected)
    return Score(float(right), "" if right else "is not in the answer", got, expected[0])


def _contains_words(text: str, part: str) -> bool:
    """Whether the part occurs in the text as whole words and numbers ("7" is not in "7.5" or "-7")."""
    if not part:
        return not text
    before = rf"(?<!{IN_WORD})" if re.match(IN_WORD, part) else ""
    after = rf"(?!{IN_WORD})" if re.match(IN_WORD, part[-1]) else ""
    before += r"(?<!\d[.,])(?<!(?<![\w.])[-−])" if part[0].isdigit() else ""
    after += r"(?![.,]\d)" if part[-1].isdigit() else ""
    return re.search(before + re.escape(part) + after, text) is not None


def label(example: Example, text: str) -> Score:
    """1 when the answer is the row's label. Ignores case and surrounding white space."""
    expected = expected_answers(example)
    if not expected:
        return no_expected_answer()
    got = normalise_text(text)
    right = got.casefold() in {normalise_text(answer).casefold() for answer in expected}
    return Score(float(right), "" if right else "another label", got, normalise_text(expected[0]))


def labels(example: Example, text: str) -> Score:
    """F1 of the set of labels in the answer against the expected set. Ignores order and case.

    Labels are separated by commas, semicolons or line ends, or are a JSON list.
    """
    got = _label_set(text)
    scores = []
    for want in map(_label_set, expected_answers(example)):
        shared = len(got.keys() & want.keys())
        value = 2 * shared / (len(got) + len(want)) if got or want else 1.0
        missing = [want[key] for key in want if key not in got]
        wrong = [got[key] for key in got if key not in want]
        reason = difference(missing, wrong, "not expected")
        scores.append(Score(value, reason, ", ".join(got.values()), ", ".join(want.values())))
    return max(scores, key=lambda score: score.value or 0.0) if scores else no_expected_answer()


def _label_set(text: str) -> dict[str, str]:
    """Casefolded label -> label as written, in order."""
    parts = re.split(r"[,;\n]", text)
    try:
        listed = json.loads(text)
        parts = [str(part) for part in listed] if isinstance(listed, list) else parts
    except (ValueError, RecursionError):
        pass  # not JSON, or nested too deeply
    found = (normalise_text(part).strip(" \"'[]") for part in parts)
    return {part.casefold(): part for part in found if part}


def label_names(answers: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels of answers with several labels each, sorted."""
    return tuple(sorted({label for answer in answers for label in _label_set(answer).values()}))


def difference(missing: Sequence[str], wrong: Sequence[str], wrong_name: str) -> str:
    """The missing and the wrong items of an answer as a reason, at most five of each."""
    parts = []
    for name, items in (("missing", missing), (wrong_name, wrong)):
        if items:
            more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
            parts.append(f"{name}: {', '.join(items[:SHOWN])}{more}")
    return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The allowed deviation of a number: `amount`, or that share of the expected number."""

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
                "evaluate.grader: number: tolerance must be a number such as 0.01 or a share such as 1%, "
                f"found {value!r}."
            )
        return cls(amount / 100, True) if text.endswith("%") else cls(amount)

    def allows(self, got: Decimal, want: Decimal) -> bool:
        """Whether the deviation is within the tolerance."""
        return got == want or abs(got - want) <= (self.amount * abs(want) if self.relative else self.amount)


EXACTLY = Tolerance()


def number(example: Example, text: str, tolerance: Tolerance = EXACTLY) -> Score:
    """1 when the answer's last number equals that of the expected answer (after `####` where used).

    Parses signs, decimals, exponents, thousands separators ("1,234.5") and currency signs; "50%" is 50.
    """
    expected = expected_answers(example)
    if not expected:
        return no_expected_answer()
    wants = []
    for answer in expected:
        if (want := last_number(answer.rsplit("####", 1)[-1])) is None:
            return Score(None, error=f"the expected answer has no number: {answer[:80]!r}")
        wants.append(want)
    got = last_number(text)
    if got is None:
        return Score(0.0, "no number in the answer", "", _plain(wants[0]))
    right = any(tolerance.allows(got, want) for want in wants)
    return Score(float(right), "" if right else "another number", _plain(got), _plain(wants[0]))


def last_number(text: str) -> Decimal | None:
    """The last number in the text, None without one."""
    found = list(NUMBER.finditer(text))
    if not found:
        return None
    value = Decimal(found[-1]["digits"].replace(",", ""))
    return -value if found[-1]["sign"] else value


def _plain(value: Decimal) -> str:
    return format(value.normalize(), "f") if abs(value.adjusted()) < 40 else str(value)


def regex_grader(pattern: Any) -> Callable[[Example, str], Score]:
    """A grader by a regular expression. GradeError for an invalid one.

    Without a group: 1 when the pattern matches in the answer, whatever is expected. With one: 1 when the
    group of its last match equals an expected answer, or the group of the pattern's last match there.
    """
    try:
        compiled = re.compile(pattern)
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
        expected = [
            normalise_text(_last_group(compiled, answer) or answer) for answer in expected_answers(example)
        ]
        if got is None:
            return Score(0.0, f"{pattern} is not found", "", expected[0])
        right = got in expected
        return Score(float(right), "" if right else "differs", got, expected[0])

    return grade


def _last_group(compiled: re.Pattern[str], text: str) -> str | None:
    """The first group that took part in the pattern's last match, else all of it; None without a match."""
    matches = list(compiled.finditer(text))
    if not matches:
        return None
    groups = matches[-1].groups() or (matches[-1][0],)
    return normalise_text(next((group for group in groups if group is not None), ""))
