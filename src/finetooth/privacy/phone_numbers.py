"""Phone number detection; form and context exclude order numbers, dates, sums and ISBNs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

_MAY_BE_PHONE = re.compile(r"\d(?:[ ()./-]{0,4}\d){6}")
_START = r"(?<![\w.,$€£%#=/+-])(?<!\d{3}[ -])"  # not within a longer group of digits
_END = r"(?![\w@%]|[-.,/:]\d| ?[€$£])"
# Forms that are phone numbers in any context.
_FORMS = (
    r"(?:"
    r"(?:\+|00)[1-9]\d{0,2}[ .-]?(?:\(0\) ?)?\d{2,5} ?/ ?\d{2,8}(?:[ -]\d{2,6}){0,4}"  # +49 (0)171 / 55 5521
    r"|\+[1-9]\d{0,14}(?:[ .-]?\(\d{1,5}\)\d{0,11})?(?:[ ./-]\d{1,11}){0,6}"  # +49 30 1234567
    r"|00[1-9]\d{0,2}(?:[ ./-]\d{2,8}){2,5}"  # 0049 30 1234567
    r"|(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}([-.]))\d{3}(?(1)\1|[-. ])\d{4}"  # (212) 555-0123
    r"|1?[2-9]\d{2}-\d{7}"
    r"|0[1-9](?:([ .-])\d{2})(?:\2\d{2}){3}"  # 06 12 34 56 78
    r"|0[1-9] \d{4} \d{4}"  # 02 1234 5678
    r"|\(0[1-9]\d{0,4}\) ?(?:/ ?)?\d{2,8}(?:[ -]\d{2,6}){0,4}"  # (030) 1234567, (0171) / 55 55 21
    r"|0[1-9]\d{1,4}[ /-]\d{3,8}(?:[ -]\d{2,6}){0,3}"  # 020 7946 0958
    r"|0[1-9]\d{1,4} ?/ ?\d{2,8}(?:[ -]\d{2,6}){0,4}"  # 0171 / 55 5521
    r"|0[1-9]\d{2,3}(?: \d{2}){3,4}"  # 0171 55 55 21
    r"|0[1-9]\d{8,9}"  # 07700900123
    r")" + _END
)
_SURE, _NEXT = re.compile(_START + _FORMS), re.compile(_FORMS)
# Digits that are a phone number only if the words before say so.
_NAMED = re.compile(_START + r"\(?\d(?:[ ().-]{0,2}\d){6,14}" + _END)
_PHONE_WORD = re.compile(
    r"(?:phone|\btel\b|\bmobile|\bmob\b|\bcall\b|\bcalling\b|\bfax|whatsapp|\bring\b|\bdial\b|\bcell[:#]|"
    r"\bcell (?:is|no)|landline|hotline|helpline|\bsms\b|\btext (?:me|us)|\breach (?:me|us|him|her|them)|"
    r"\bhandy\b|t[ée]l[ée]fon)[^\d\n.;$€£]{0,20}[.:]? ?\(?$",
    re.IGNORECASE,
)
_OTHER_WORD = re.compile(
    r"\b(?:order|invoice|ref|reference|isbn(?:-1[03])?|issn|id|code|ticket|account|acct|serial|tracking|"
    r"version|model|part|sku|case|item|batch|pmid|doi|zip|ean|upc|imei|vat|policy|booking|parcel|barcode|"
    r"population|patent|isrc|oclc|lccn|asin|"
    r"(?:rechnung|bestell|auftrag|artikel|sendung|vorgang|vertrag|aktenzeichen|kundenn|konton)\w*)"
    r"\W{0,3}(?:(?:number|nummer|no|nr|code|id|is|was|ist|lautet)\W{0,3}){0,3}$",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"\d{4}[-/. ]\d{4}|\d{4}[-/.]\d{1,2}[-/.]\d{1,2}.*|\d{1,2}[-/. ]\d{1,2}[-/. ]\d{4}.*|\d{8}"
)
# Signs of arithmetic; a lone sign may be a bullet or a dash, and ` / ` may separate two numbers.
_SUM_BEFORE = re.compile(r"(?:[\d)] ?[+*×·÷^/−]|\w ?=) ?$")
_SUM_AFTER = re.compile(r" ?(?:=|[×÷^] ?\d|\+ \d|\*(?!\*) ?\d|/ ?\d{1,4}(?![\d /-])|[-−–] [\d.,]+ ?=)")
_BEFORE = 40  # characters of context before and after a number


def phones(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of every phone number in a text."""
    if not _MAY_BE_PHONE.search(text):
        return
    at, is_list = 0, False
    while match := (_NEXT.match(text, at + 1) if is_list else None) or _SURE.search(text, at):
        at, is_list = match.end(), False
        before = text[max(0, match.start() - _BEFORE) : match.start()]
        value = _shortened(match[0])
        if len(_digits(value)) < 8 or _DATE.fullmatch(value):
            continue
        named = _PHONE_WORD.search(before) is not None
        end = match.start() + len(value)
        after = text[end : end + _BEFORE]
        other = _OTHER_WORD.search(before) or _SUM_BEFORE.search(before) or _SUM_AFTER.match(after)
        if named or not (other or _is_isbn(value) or _is_series(value)):
            yield match.start(), end
            is_list = end == at and text[at : at + 1] == " "  # another number may follow: a list of them
    for match in _NAMED.finditer(text):
        before = text[max(0, match.start() - _BEFORE) : match.start()]
        digits = _digits(match[0])
        long = len(digits) > 9 or (
            len(digits) < len(match[0]) and not re.search(r"(?<!\d)\d(?!\d)", match[0])
        )
        if 7 <= len(digits) <= 15 and long and not _DATE.fullmatch(match[0]) and _PHONE_WORD.search(before):
            yield match.span()


def _digits(value: str) -> str:
    return re.sub(r"\D", "", value)


def _shortened(value: str) -> str:
    """The value without surplus groups at its end: a number has at most 15 digits (E.164)."""
    while len(_digits(value)) > 15 and (cut := re.search(r"[ ./-]\d+$", value)):
        value = value[: cut.start()]
    return value if len(_digits(value)) <= 15 else ""


def _is_isbn(value: str) -> bool:
    """Ten digits with a valid ISBN-10 checksum: weights 10 to 1, modulo 11."""
    if not re.fullmatch(r"\d{10}", value):
        return False
    return sum(weight * int(digit) for weight, digit in zip(range(10, 0, -1), value, strict=True)) % 11 == 0


def _is_series(value: str) -> bool:
    """Numbers in equal steps (01 02 03 04 05), binary digits, or hundreds (800-200-1000)."""
    parts = re.findall(r"\d+", value)
    steps = {b - a for a, b in pairwise(map(int, parts))}
    binary = set(_digits(value)) <= {"0", "1"}
    hundreds = len(parts) > 2 and all(part[-2:] == "00" for part in parts)
    return binary or hundreds or (len(parts) > 3 and len(steps) == 1)
