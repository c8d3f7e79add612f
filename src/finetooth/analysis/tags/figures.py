"""The tag of numbers that the input does not support.

A number is supported if the input has it in any form: with thousands separators, as a word, a percentage,
part of a date or a time, rounded. Where the words around it speak of a calculation, sums, differences and
shares of numbers of the input are supported too. Ordinals of lists are no numbers.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.tags.base import Evidence, Tag, TagContext, free_text, shorten, source_text

MOST = 16  # numbers of the input whose sums and shares are looked at
AROUND = 80  # characters in front of and behind a number in which a calculation is spoken of
_ONES_TEXT = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_ONES = _ONES_TEXT.split()
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORDS = {word: float(at) for at, word in enumerate(_ONES)}
_WORDS |= {word: 10.0 * at for at, word in enumerate(_TENS, 2)}
_WORDS |= {"half": 0.5, "quarter": 0.25, "dozen": 12.0, "once": 1.0, "twice": 2.0, "thrice": 3.0, "a": 1.0}
_ORDINALS_TEXT = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth"
)
_ORDINALS = _ORDINALS_TEXT.split()
_WORDS |= {word: float(at) for at, word in enumerate(_ORDINALS, 1)}
_WORDS |= {word[:-1] + "ieth": 10.0 * at for at, word in enumerate(_TENS, 2)}
_SIZES = {
    "hundred": 1e2,
    "thousand": 1e3,
    "million": 1e6,
    "billion": 1e9,
    "trillion": 1e12,
    "bn": 1e9,
    "k": 1e3,
}
_MONTHS_TEXT = "january february march april may june july august september october november december"
_MONTHS = _MONTHS_TEXT.split()
_WORD_RUN = "|".join(sorted(_WORDS.keys() - {"a"}, key=len, reverse=True))
_NUMBER = re.compile(
    r"(?<![\w.])(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(?:st|nd|rd|th)?"
    r"(?P<size>[ -]?(?:hundred|thousand|million|billion|trillion|bn)\b|k\b)?"
    r"(?P<percent>\s?(?:%|percent\b|per cent\b))?"
    rf"|\b(?P<words>(?:{_WORD_RUN})(?:[ -](?:and )?(?:{_WORD_RUN}|hundred|thousand|million|billion))*)\b",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"\d+(?:\.\d+)?")
_DIGITS = re.compile(r"(?<![\d.])(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\d,]\d)")
_LIST_MARK = re.compile(r"(?m)^\s*(?:[-*•]\s*)?(?:step\s+|#)?\(?\d{1,3}[.):]\s", re.IGNORECASE)
_TIME = re.compile(r"\b(?P<hour>[01]?\d|2[0-4])(?:(?P<sign>[:.h])(?P<minute>[0-5]\d))(?!\d|\.\d)")
_HOUR = re.compile(
    r"\b(?:(?P<part>half|quarter) (?P<side>past|to|after|before) )?(?P<hour>\d{1,2}|"
    + "|".join(_ONES[1:13])
    + r")\b(?!:?\d)"
)
_CALCULATION = re.compile(
    r"\b(?:total\w*|sum|combined|altogether|in all|difference|increas\w+|decreas\w+|more than|less than|fewer"
    r"|rose|fell|grew|dropp\w*|average|mean|share|times|twice|remain\w*|left over|older|younger|later|earlier"
    r"|both|plus|minus|ratio|net|gain\w*|lost|loss)\b|[=+×*]",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a text. value: with its size word. digits: it is written in digits. percent: it is one.

    start, end: where it stands.
    """

    value: float
    digits: bool
    percent: bool
    start: int
    end: int


def figures(text: str) -> Iterator[Figure]:
    """The numbers of a text in order, parts of dates, times and ranges one by one; no ordinals of lists."""
    marks = {at for match in _LIST_MARK.finditer(text) for at in range(*match.span())}
    for match in _NUMBER.finditer(_apart(text)):
        if match.start() in marks:
            continue
        if match["words"]:
            value = _spelled(match["words"])
        else:
            size = (match["size"] or "").strip(" -").lower()
            value = float(match["digits"].replace(",", "")) * _SIZES.get(size, 1.0)
        yield Figure(value, not match["words"], bool(match["percent"]), *match.span())


def _apart(text: str) -> str:
    """The text with what joins the digits of dates, times, ranges and ids as spaces, place by place."""
    text = re.sub(r"(?<=\d)[:/–—-](?=\d)|(?<=\d)\.(?=\d+\.\d)|(?<=\.\d)\.(?=\d)", " ", text)
    text = re.sub(r"[$€£¥#(\[](?=\d)|(?<=[^\W\d_])[-_/.:](?=\d)", " ", text)
    return re.sub(r"(?<=\d)(?=[^\W\d_]{3,})", "", text)


def _spelled(words: str) -> float:
    """The number of "twenty-five", "two hundred and six", "half"."""
    total, part = 0.0, 0.0
    for word in re.split(r"[ -]+", words.lower()):
        if word in ("hundred",):
            part = max(part, 1.0) * 100
        elif word in _SIZES:
            total, part = total + max(part, 1.0) * _SIZES[word], 0.0
        elif word != "and":
            part += _WORDS.get(word, 0.0)
    return total + part


def supported_values(source: str) -> set[float]:
    """All numbers that a text supports as they are."""
    values: set[float] = set()
    for figure in figures(source):
        values.add(figure.value)
    for match in _PLAIN.finditer(source):  # also inside ids, and list marks
        values.add(float(match[0]))
    lower = source.casefold()
    values |= {float(at) for at, month in enumerate(_MONTHS, 1) if month[:3] in lower}
    for hour, minute in re.findall(r"\b(\d{1,2})(?::(\d\d))?\s?(?:[ap]\.?m\b|(?<=:\d\d))", lower):
        values |= {float(hour) + 12, float(hour) - 12, float(minute or 0)}
    for hour in re.findall(r"\b(\d{1,2}):\d\d", lower):
        values |= {float(hour) + 12, float(hour) - 12}
    if "noon" in lower:
        values.add(12.0)
    return values


def clock_times(text: str) -> set[int]:
    """The times of day that a text may tell, in minutes of half a day."""
    lower = text.casefold()
    found = {int(one["hour"]) * 60 + int(one["minute"]) for one in _TIME.finditer(lower)}
    for one in _HOUR.finditer(lower):
        minutes = 60 * int(_WORDS.get(one["hour"]) or float(one["hour"]))
        part = {"half": 30, "quarter": 15}.get(one["part"] or "", 0)
        found.add(minutes - part if one["side"] in ("to", "before") else minutes + part)
    return {minutes % 720 for minutes in found}


def supports(value: float, values: set[float], percent: bool = False) -> bool:
    """Whether a number is one of these, the percentage of one, or one of them rounded."""
    if value in values or ((percent or value < 1) and (value / 100 in values or value * 100 in values)):
        return True
    for one in values:
        if one != round(one) and any(_half_up(one, digits) == value for digits in (0, 1, 2)):
            return True
        if one >= 1000 and value >= 100 and abs(one - value) <= 0.005 * one and value == _rounded(one, value):
            return True
        if one > 31 and value < 100 and int(one) % 100 == value and 1000 <= one <= 2100:
            return True  # '98 of 1998
    return False


def _half_up(one: float, digits: int) -> float:
    """A number rounded as people do: 12.5 is 13."""
    size = 10.0**digits
    return math.floor(one * size + 0.5) / size


def _rounded(one: float, like: float) -> float:
    """A number rounded to the digits of another that end in zeros: 12,345 like 12,300 is 12,300."""
    zeros = len(f"{like:.0f}") - len(f"{like:.0f}".rstrip("0"))
    return float(round(one, -zeros)) if zeros else one


def calculated(value: float, values: set[float], percent: bool = False) -> bool:
    """Whether a number is the sum, difference or product of two of these, the sum of all, or a percentage."""
    if abs(sum(values) - value) < 1e-6:
        return True
    if len(values) > MOST:
        return False  # some pair of so many gives any number
    for one, other in combinations(sorted(values), 2):
        if any(abs(value - made) < 1e-6 for made in (one + other, other - one, one * other)):
            return True
        if one and other and percent:
            shares = [
                100 * one / other,
                100 * other / one,
                100 * (other - one) / one,
                100 * (other - one) / other,
            ]
            if any(value in (round(share), round(share, 1), round(share, 2)) for share in shares):
                return True
        if one and value in (other / one, (one + other) / 2):
            return True
    return False


class _Source:
    """The numbers of an input, read no further than they are asked for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.digits = {float(one.replace(",", "")) for one in _DIGITS.findall(text)}

    @functools.cached_property
    def values(self) -> set[float]:
        """All that the input supports."""
        return supported_values(self._text)

    @functools.cached_property
    def times(self) -> set[int]:
        """Its times of day."""
        return clock_times(self._text)

    @functools.cached_property
    def amounts(self) -> set[float]:
        """What can be calculated with: no parts of times."""
        return {figure.value for figure in figures(_TIME.sub("", self._text))}


def _unsupported(row: AnsweredRow, context: TagContext) -> Evidence | None:
    text = row.text
    if not free_text(row, context) or not row.example.context:
        return None
    source: _Source | None = None
    clock: set[int] = set()  # characters of times, which are looked at as a whole
    for match in _TIME.finditer(text) if ":" in text else ():
        if match["sign"] != ":":
            continue
        source = source or _Source(source_text(row.example))
        if (int(match["hour"]) * 60 + int(match["minute"])) % 720 not in source.times:
            return Evidence(f"the input has no {match[0]}", *match.span())
        clock.update(range(*match.span()))
    for figure in figures(text):
        words = text[figure.start : figure.end]
        if figure.start in clock or (not figure.digits and figure.value <= 3):
            continue  # "one of them", "both of the two": no figures of a text
        if context.common(words.casefold()):
            continue
        source = source or _Source(source_text(row.example))
        if figure.value in source.digits:
            continue
        if (not source.values and not figure.digits) or supports(figure.value, source.values, figure.percent):
            continue
        around = text[max(0, figure.start - AROUND) : figure.end + AROUND]
        spoken_of = figure.percent or _CALCULATION.search(around)
        if spoken_of and calculated(figure.value, source.amounts, figure.percent):
            continue
        return Evidence(f"the input has no {shorten(words)}", figure.start, figure.end)
    return None


TAGS = (
    Tag(
        "unsupported-number",
        "number that the input does not support",
        "A number that is neither in the input, nor a sum, difference or share of numbers that are.",
        _unsupported,
    ),
)
