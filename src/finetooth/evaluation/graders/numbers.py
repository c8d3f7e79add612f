"""The grader of numbers: how a number is written, and which number of an answer counts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, DivisionByZero, InvalidOperation
from typing import Literal

from finetooth.errors import GradeError
from finetooth.evaluation.graders.forms import EXPLAINED, fold
from finetooth.evaluation.graders.shared import expected_answers, no_expected_answer
from finetooth.types import Example, Score

Mark = Literal[".", ","]
Kind = Literal["number", "percentage", "time", "date", "range", "series"]

# Digits and what may join them to one number, date, time or version; an exponent; or powers of ten.
_SIGN = r"(?:(?<![\w.)])(?P<sign>[-+])\s?(?=[\d.$€£¥₹¼-¾⅐-⅞])|(?<=[=(:])\s?(?P<spaced>-)\s)?"
_DIGITS = r"(?:\d{1,3}(?: \d{3})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,:/'-]\d+)*|(?<![\d\w])[.,]\d+)"
_TOKEN = re.compile(
    rf"{_SIGN}[$€£¥₹]?\s?(?P<negative>-(?=[\d.]))?"
    r"(?:\\[dt]?frac\{(?P<over>\d+)\}\{(?P<under>\d+)\}"
    rf"|(?P<whole>\d+)[ -](?P<mixed>\d+/\d+)(?![\d/])"
    rf"|(?P<digits>{_DIGITS})(?P<exponent>[eE][+-]?\d{{1,3}}(?!\w))?|(?=[¼-¾⅐-⅞]))"
    r"(?P<vulgar>[¼-¾⅐-⅞])?"
    r"(?P<times>\s?(?:[x×*·]|\\times|\\cdot)\s?10(?=[\^⁰¹²³⁴-⁹⁻]))?"
    r"(?:\^\s?\{?(?P<power>[-+]?\d{1,3})\}?|(?P<raised>[⁻⁺]?[⁰¹²³⁴-⁹]{1,3}))?"
    r"(?P<percent>\s?(?:\\?%|percent\b|per cent\b|pct\b|Prozent\b))?"
    r"(?P<size>\s?(?:thousand|million|billion|trillion|Mio\.?|Mrd\.?|Millionen|Milliarden)\b|(?:[kKM]|bn)\b)?"
)
_SIZES = {"th": 3, "mil": 6, "bil": 9, "tri": 12, "mio": 6, "mrd": 9, "k": 3, "m": 6, "bn": 9}
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_STATED = re.compile(
    r"(?:answer|antwort|result|ergebnis)\b[*_]*(?:\s+(?:is|ist)\b|\s*[:=])[*_:\s]*", re.IGNORECASE
)
_SENTENCE = re.compile(r".*?(?=[.;!?]\s|$)", re.MULTILINE)
_BOLD = re.compile(r"\*\*([$€£¥₹]?\s?[-+]?[\d.,¼-¾][^*\n]*)\*\*")
_MINUS = re.compile(r"(?i)(?<![\d)]\s)\b(?:minus|negative)\s(?=[\d.])")
_ASIDE = re.compile(r"\([^()\n]*\)")
_WORD = re.compile(r"[^\W\d_]{2}")
_REFERENCE = re.compile(
    r"\b(?:steps?|notes?|parts?|sections?|pages?|figures?|tables?|questions?|examples?|equations?"
    r"|eq\.|see|ref\.?)\s*#?\d+\b",
    re.IGNORECASE,
)
DENIAL = 12  # characters in front of a number in which it may be denied
_DENIED = re.compile(r"(?:\bnot|n't|\bnever|\bnicht)\s*$", re.IGNORECASE)  # before a number that is no answer
_SPACES = re.compile(r"[^\S\n]+")
_CHOICE = re.compile(r"\s*(?:or|oder|ou|o)\s*", re.IGNORECASE)
_SPAN = re.compile(r"\s*(?:-|to|and|bis|und)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a text of digits says. values: one for a number or a percentage, else its parts in order.

    mark: the decimal mark that its form shows, None where there is none or it could be a thousands separator.
    ambiguous: it could be either, as in 1.234.
    """

    kind: Kind
    values: tuple[Decimal, ...]
    mark: Mark | None = None
    ambiguous: bool = False


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


def number(example: Example, text: str, tolerance: Tolerance = EXACTLY, decimal: Mark = ".") -> Score:
    """1 when the number that the answer comes to equals that of the expected answer.

    The number that counts follows `####`, stands in `\\boxed{}` or bold, follows "the answer is", or else is
    the last one outside of remarks in parentheses; "not 8" is none. It is read whole: signs, thousands in any
    usual grouping, either decimal mark, fractions, percentages, powers of ten. Dates, times, ranges and other
    series of digits are equal when all their parts are. decimal: the decimal mark where the form does not
    show it (1.234).
    """
    expected = expected_answers(example)
    if not expected:
        return no_expected_answer()
    wants = []
    for answer in expected:
        if (want := final_quantity(answer, decimal)) is None:
            return Score(None, error=f"the expected answer has no number: {answer[:80]!r}")
        wants.append(want)
    gots = [final_quantity(text, want.mark or decimal) for want in wants]
    if gots[0] is None:
        return Score(0.0, "no number in the answer", "", shown(wants[0]))
    right = any(
        got is not None and _equal(got, want, tolerance) for got, want in zip(gots, wants, strict=True)
    )
    return Score(float(right), "" if right else "another number", shown(gots[0]), shown(wants[0]))


def _equal(got: Quantity, want: Quantity, tolerance: Tolerance) -> bool:
    if {got.kind, want.kind} == {"number", "percentage"}:  # 50% is 50 or 0.5, and 0.5 is not 0.5%
        percent, plain = (got, want) if got.kind == "percentage" else (want, got)
        share = Quantity("number", (percent.values[0] / 100,))
        whole = Quantity("number", percent.values)
        readings = (share,) if abs(plain.values[0]) < 1 and plain.values[0] else (share, whole)
        pairs = [(one, want) if percent is got else (plain, one) for one in readings]
        return any(_equal(left, right, tolerance) for left, right in pairs)
    if got.kind != want.kind or len(got.values) != len(want.values):
        return False
    if got.kind in ("number", "percentage", "range"):
        return all(map(tolerance.allows, got.values, want.values))
    return got.values == want.values


def last_number(text: str, decimal: Mark = ".") -> Decimal | None:
    """The last number in the text, of a date, time or series its last part; None without one."""
    found = [quantity for quantity, *_ in quantities(_plain(text), decimal)]
    return found[-1].values[-1] if found else None


def final_quantity(text: str, decimal: Mark = ".") -> Quantity | None:
    """The quantity that a text comes to, see `number`; None without one."""
    text = _plain(text)
    marked = [text.rsplit("####", 1)[1].strip().split("\n")[0]] if "####" in text else []
    marked += [boxed[1] for boxed in [*_BOXED.finditer(text)][-1:]]
    for stated in [*_STATED.finditer(text)][-1:]:
        sentence = _SENTENCE.match(text, stated.end())
        marked.append(sentence[0] if sentence else "")
    marked += [bold[1] for bold in [*_BOLD.finditer(text)][-1:]]
    before = text[: explained.start()] if (explained := EXPLAINED.search(text)) else ""
    bare = [_REFERENCE.sub(" ", _ASIDE.sub(_without_words, part)) for part in (*marked, before, text)]
    for part in (*bare, *marked, text):
        if found := _last(part, decimal):
            return found
    return None


def _without_words(aside: re.Match[str]) -> str:
    """Nothing of a remark in parentheses; a number in them stays."""
    return " " if _WORD.search(aside[0]) else aside[0]


def _last(text: str, decimal: Mark) -> Quantity | None:
    """The last quantity that is not denied; two joined by "or" or "between" are a range and no number."""
    every = quantities(text, decimal)
    found = [one for one in every if not _DENIED.search(text[max(0, one[1] - DENIAL) : one[1]])]
    if not found:
        return None
    last, start, _ = found[-1]
    if len(found) > 1 and not re.search(r"[^\d\s()+]", text):  # a telephone number, a row of numbers
        return Quantity("series", tuple(value for quantity, *_ in found for value in quantity.values))
    if len(found) > 1 and last.kind == "number" == found[-2][0].kind:
        other, other_start, end = found[-2]
        joined = text[end:start]
        whole = not text[:other_start].strip() and not text[found[-1][2] :].strip()
        between = re.search(r"(?:between|zwischen)\s*$", text[:other_start], re.IGNORECASE)
        if (_CHOICE.fullmatch(joined) and other.values != last.values) or (
            (whole or between) and _SPAN.fullmatch(joined)
        ):
            return Quantity("range", other.values + last.values)
    return last


def _plain(text: str) -> str:
    """Folded, with ASCII digits and spaces; a list mark before a number is none of its sign."""
    text = "".join(
        str(unicodedata.digit(char)) if char.isdecimal() else char for char in _SPACES.sub(" ", fold(text))
    )
    if re.fullmatch(r"\s*- \d[^\n]*", text):  # one line: a sign, and no list
        text = text.replace("- ", "-", 1)
    return _MINUS.sub("-", re.sub(r"(?<=\d)_(?=\d{3})", "", text))


def quantities(text: str, decimal: Mark) -> Iterator[tuple[Quantity, int, int]]:
    """The quantities of a plain text with their start and end, in order."""
    for match in _TOKEN.finditer(text):
        if match["digits"] or match["vulgar"] or match["over"] or match["whole"]:
            yield _read(match, decimal), match.start(), match.end()


def _read(match: re.Match[str], decimal: Mark) -> Quantity:
    if match["over"]:
        quantity = Quantity("number", (_ratio(f"{match['over']}/{match['under']}"),))
    elif match["whole"]:
        quantity = Quantity("number", (Decimal(match["whole"]) + _ratio(match["mixed"]),))
    else:
        quantity = _digits(match["digits"], decimal) if match["digits"] else Quantity("number", (Decimal(0),))
    if quantity.kind != "number":
        return quantity
    value = quantity.values[0]
    if match["vulgar"]:
        value += _ratio(unicodedata.normalize("NFKC", match["vulgar"]).replace("\u2044", "/"))
    power = match["power"] or unicodedata.normalize("NFKC", match["raised"] or "").replace("−", "-")
    if match["times"]:
        value = value.scaleb(int(power or 1))
    elif power and value == 10:
        value = Decimal(1).scaleb(int(power))
    elif power and abs(int(power)) < 100 and value:
        value = value ** int(power)
    if match["exponent"]:
        value = value.scaleb(int(match["exponent"][1:]))
    for name, zeros in _SIZES.items():
        if (match["size"] or "").strip().lower().startswith(name):
            value = value.scaleb(zeros)
            break
    if match["sign"] == "-" or match["spaced"] or match["negative"]:
        value = -value
    kind: Kind = "percentage" if match["percent"] else "number"
    return Quantity(kind, (value,), quantity.mark, quantity.ambiguous)


def _ratio(text: str) -> Decimal:
    over, under = text.split("/")
    try:
        return Decimal(over) / Decimal(under)
    except (DivisionByZero, InvalidOperation):
        return Decimal(0)


def _digits(text: str, decimal: Mark) -> Quantity:
    """What digits with separators between them are."""
    parts = tuple(Decimal(part) for part in re.split(r"\D+", text) if part)
    used = set(text) - set("0123456789")
    if "/" in used and len(parts) == 2 and used == {"/"}:
        return Quantity("number", (_ratio(text),))
    if used == {":"} and re.fullmatch(r"\d{1,2}:[0-5]\d(:[0-5]\d)?", text):
        return Quantity("time", parts)
    if re.fullmatch(r"\d{4}([-/.])\d{1,2}\1\d{1,2}", text):
        return Quantity("date", parts)
    if re.fullmatch(r"[0-3]?\d([-/.])[0-3]?\d\1(\d{4}|\d\d)", text):
        return Quantity("date", parts[::-1])
    if used == {"-"} and len(parts) == 2:
        return Quantity("range", parts)
    if used & set(":/-"):
        return Quantity("series", parts)
    return _grouped(text.replace(" ", "'"), decimal) or Quantity("series", parts)


def _grouped(text: str, decimal: Mark) -> Quantity | None:
    """A number with thousands separators and a decimal mark; None for digits that are no number."""
    separators = [char for char in text if not char.isdigit()]
    last = separators[-1] if separators else ""
    if last in ("", "'") or separators.count(last) > 1:
        if last and not _thousands(text, last):
            return None
        other: Mark | None = {".": _mark(","), ",": _mark(".")}.get(last)
        return Quantity("number", (_value(text, ""),), other)
    whole, _, fraction = text.rpartition(last)
    if len(separators) > 1:
        fits = _thousands(whole, separators[0])
        return Quantity("number", (_value(whole, fraction),), _mark(last)) if fits else None
    if len(fraction) != 3 or len(whole) > 3 or whole.startswith("0") or not whole:
        return Quantity("number", (_value(whole, fraction),), _mark(last))
    value = _value(whole, fraction) if last == decimal else _value(text, "")
    return Quantity("number", (value,), None, True)


def _mark(text: str) -> Mark:
    return "," if text == "," else "."


def _thousands(text: str, separator: str) -> bool:
    """Whether the digits stand in groups of three, or, as in India, of two before the last three."""
    one = re.escape(separator)
    return (
        re.fullmatch(rf"\d{{1,3}}(?:{one}\d{{3}})+|\d{{1,2}}(?:{one}\d{{2}})*{one}\d{{3}}", text) is not None
    )


def _value(whole: str, fraction: str) -> Decimal:
    return Decimal(f"{re.sub(r'[^0-9]', '', whole) or '0'}.{fraction or '0'}")


def found_mark(texts: Iterable[str]) -> Mark | None:
    """The decimal mark that expected answers show; "." where none does, None where both are shown."""
    marks = {found.mark for text in texts if (found := final_quantity(text)) and found.mark}
    return next(iter(marks), ".") if len(marks) < 2 else None


def decimal_mark(value: object) -> Mark | None:
    """The option `decimal`: a mark, or None for auto. GradeError for anything else."""
    if value == "." or value == ",":
        return "," if value == "," else "."
    if value != "auto":
        raise GradeError(
            f'evaluate.grader: number: decimal must be ".", "," or auto, the decimal mark; found {value!r}.'
        )
    return None


def shown(quantity: Quantity) -> str:
    """The quantity in plain digits, its parts joined as its kind writes them."""
    joint = {"time": ":", "date": "-", "range": " to "}.get(quantity.kind, " ")
    digits = joint.join(map(_shown, quantity.values))
    return f"{digits}%" if quantity.kind == "percentage" else digits


def _shown(value: Decimal) -> str:
    return format(value.normalize(), "f") if abs(value.adjusted()) < 40 else str(value)
