"""Detection of personal data and secrets by patterns, checksums and number ranges."""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from finetooth.privacy.phone_numbers import phones

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value. tag: its replacement by `mask`; secret: a key or password, not personal data."""

    one: str
    many: str
    tag: str
    secret: bool = False


@dataclass(frozen=True, slots=True)
class SensitiveSpan:
    """A value found at text[start:end]; kind: a key of KINDS."""

    kind: str
    start: int
    end: int


KINDS = {
    "pem": Kind("private key", "private keys", "[PRIVATE_KEY]", True),
    "jwt": Kind("signed token (JWT)", "signed tokens (JWT)", "[TOKEN]", True),
    "password": Kind("password in an address", "passwords in addresses", "[PASSWORD]", True),
    "key": Kind("API key or token", "API keys or tokens", "[API_KEY]", True),
    "email": Kind("e-mail address", "e-mail addresses", "[EMAIL]"),
    "iban": Kind("bank account (IBAN)", "bank accounts (IBAN)", "[IBAN]"),
    "card": Kind("card number", "card numbers", "[CARD]"),
    "ssn": Kind("social security number", "social security numbers", "[SSN]"),
    "birth": Kind("date of birth", "dates of birth", "[BIRTH_DATE]"),
    "ip": Kind("IP address", "IP addresses", "[IP]"),
    "phone": Kind("phone number", "phone numbers", "[PHONE]"),
}

_MAY_BE_NUMBER = re.compile(r"\d(?:[ ()./-]{0,2}\d){5}")

_EMAIL = re.compile(
    r"(?<![\w.%+@-])(?<!\w')[A-Za-z0-9][\w.%+'-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w@-])",
    re.ASCII,
)
# Domains reserved for examples (RFC 2606, RFC 6761), and what only looks like an address: a high-resolution
# image (icon@2x.png), a repository.
_NOT_EMAIL = re.compile(
    r"[@.](?:example\.(?:com|net|org)|example|test|invalid|localhost)$"
    r"|@[\dx.]{1,4}\.(?:png|jpe?g|gif|webp|svg)$|^git@"
)

_PEM = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?!-----BEGIN).)*?(?:-----END [A-Z0-9 ]{0,40}-----|(?=-----BEGIN)|\Z)",
    re.DOTALL,
)
_JWT = re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}", re.ASCII)
_PASSWORD = re.compile(
    r"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s:/@\[\]]{0,64}:([^\s/@\[\]<>{}$*]{1,128})@(?=[\w\[-])"
)
_KEY = re.compile(
    r"(?<![A-Za-z0-9_])(?:"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}(?<!EXAMPLE)"  # AWS; the key in its documentation ends with EXAMPLE
    r"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}"
    r"|glpat-[\w-]{20,64}|xox[abeoprs]-[A-Za-z0-9-]{10,255}"
    r"|AIza[\w-]{35}|ya29\.[\w-]{20,255}"
    r"|hf_[A-Za-z0-9]{34}|npm_[A-Za-z0-9]{36}|SG\.[\w-]{22}\.[\w-]{43}"
    r"|[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}"
    r"|sk-(?:[a-z]+\d{0,2}-){0,2}(?=[\w-]{0,99}\d)(?=[\w-]{0,99}[A-Za-z0-9_]{16})[\w-]{20,255}"
    r")(?![A-Za-z0-9_])",
    re.ASCII,
)
_KEY_HINT = re.compile(
    r"AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|xox|AIza|ya29|hf_|npm_|SG\.|k_live_|k_test_|sk-"
)
_AWS_SECRET = re.compile(
    r"aws_?secret_?(?:access_?)?key[\"']?\s*[=:]\s*[\"']?([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])", re.I
)

_SSN = re.compile(r"(?<![\w.-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-]|\.\d)")
_SSN_NAMED = re.compile(
    r"\b(?:ssn|social security)\b[^\d\n]{0,25}((?!000|666|9)\d{3}[ -]?(?!00)\d{2}[ -]?(?!0000)\d{4})(?!\d)",
    re.I,
)

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_DIGITS = r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.] ?\d{1,2}[-/.] ?(?:\d{4}|\d{2})"
_WORDS = rf"{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}|\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH},? \d{{4}}"
# A date alone is no evidence, and "was born on May 4, 1970" is how encyclopedias describe public figures.
_BIRTH = re.compile(
    rf"\b(?:(?:d\.?o\.?b\b|date of birth|birth ?date|birthday)[^\d\n]{{0,15}}?({_DIGITS}|{_WORDS})"
    rf"|born\b[^\d\n]{{0,6}}?({_DIGITS})|\bi(?: was|'m| am) born\b[^\d\n]{{0,6}}?({_WORDS}))(?!\d)",
    re.IGNORECASE,
)

_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_NOT_IP = re.compile(
    r"(?:\bv|\bver|version|release|firmware|build|section|chapter|fig(?:ure)?|§|clause|update)\W{0,3}$", re.I
)

_CARD = re.compile(
    r"(?<![\w.,$€£-])"
    r"(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{4}([ -])\d{6}\2\d{4,5})"
    r"(?![\w-]|[.,]\d)"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}[ -]?[A-Z0-9]{4}")
# IBAN lengths by country (registry of ISO 13616).
_IBAN_COUNTRIES = {
    **{15: "NO", 16: "BE", 18: "DK FI FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK"},
    **{21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL"},
    **{24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR"},
    **{27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV", 29: "BR EG PS QA UA"},
    **{30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU"},
}
_IBAN_LENGTHS = {
    country: length for length, countries in _IBAN_COUNTRIES.items() for country in countries.split()
}


def find(text: str, secrets_only: bool = False) -> list[SensitiveSpan]:
    """The values in a text, in order, without overlaps; of two overlapping candidates, the more certain kind.

    secrets_only: only keys, tokens and passwords, which is much faster.
    """
    found: list[SensitiveSpan] = []
    for kind, spans in _DETECTORS.items():  # secrets come first
        if secrets_only and not KINDS[kind].secret:
            break
        for start, end in spans(text):
            at = bisect_left(found, start, key=lambda one: one.end - 1)  # the first that ends after the start
            if at == len(found) or found[at].start >= end:
                found.insert(at, SensitiveSpan(kind, start, end))
    return found


def _group(pattern: re.Pattern[str], text: str) -> Iterator[Span]:
    """Spans of the captured group of each match, or of the whole match if there is none."""
    for match in pattern.finditer(text):
        yield match.span(match.lastindex or 0)


def _pem(text: str) -> Iterator[Span]:
    return _group(_PEM, text) if "PRIVATE KEY" in text else iter(())


def _jwt(text: str) -> Iterator[Span]:
    return _group(_JWT, text) if "eyJ" in text else iter(())


def _password(text: str) -> Iterator[Span]:
    return _group(_PASSWORD, text) if "://" in text and "@" in text else iter(())


def _key(text: str) -> Iterator[Span]:
    if _KEY_HINT.search(text):
        yield from _group(_KEY, text)
    if "ecret" in text or "SECRET" in text:
        yield from _group(_AWS_SECRET, text)


def _email(text: str) -> Iterator[Span]:
    if "@" in text:
        for match in _EMAIL.finditer(text):
            if not _NOT_EMAIL.search(match[0].lower()):
                yield match.span()


def _ssn(text: str) -> Iterator[Span]:
    if _MAY_BE_NUMBER.search(text):
        yield from _group(_SSN_NAMED, text)
        yield from _group(_SSN, text)


def _birth(text: str) -> Iterator[Span]:
    lower = text.lower()
    if "birth" in lower or "born" in lower or "dob" in lower or "d.o.b" in lower:
        yield from _group(_BIRTH, text)


def _ip(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text) if text.count(".") > 2 else ():
        long = sum(len(part) > 1 for part in match[0].split("."))
        if (
            long > 1
            and _is_global(match[0])
            and not _NOT_IP.search(text[max(0, match.start() - 14) : match.start()])
        ):
            yield match.span()
    for match in _IPV6.finditer(text) if text.count(":") > 2 else ():
        if sum(map(bool, match[0].split(":"))) > 3 and _is_global(match[0]):
            yield match.span()


def _is_global(value: str) -> bool:
    """Whether an address is publicly routable, not private or reserved for documentation."""
    try:
        return ipaddress.ip_address(value).is_global
    except ValueError:
        return False


def _card(text: str) -> Iterator[Span]:
    for match in _CARD.finditer(text) if _MAY_BE_NUMBER.search(text) else ():
        for value in (match[0], match[0].rstrip("0123456789")[:-1] if match[1] else ""):
            if is_card(value):
                yield match.start(), match.start() + len(value)
                break


def is_card(value: str) -> bool:
    """Whether digits are a card number: a known issuer's prefix and length, and a valid Luhn checksum."""
    digits = [int(char) for char in value if char.isdecimal()]
    if not 13 <= len(digits) <= 19 or not _issued("".join(map(str, digits))):
        return False
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _issued(digits: str) -> bool:
    """Prefix and length of Visa, Mastercard, American Express, Discover, Diners Club, JCB or UnionPay."""
    two, three, four, size = int(digits[:2]), int(digits[:3]), int(digits[:4]), len(digits)
    if digits[0] == "4":
        return size in (13, 16, 19)
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return size == 16
    if two in (34, 37):
        return size == 15
    if two in (36, 38, 39) or 300 <= three <= 305:
        return size == 14
    return size >= 16 and (four == 6011 or 644 <= three <= 659 or 3528 <= four <= 3589 or two == 62)


def _iban(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[0][:2], 0)
        at, seen = match.start(), ""
        while len(seen) < length and at < len(text):
            if text[at].isascii() and text[at].isalnum():
                seen += text[at]
            elif text[at] not in " -" or text[at - 1] in " -":
                break
            at += 1
        if length and len(seen) == length and not text[at : at + 1].isalnum() and is_iban(seen):
            yield match.start(), at


def is_iban(value: str) -> bool:
    """Whether an IBAN without spaces has valid check digits (ISO 7064, modulo 97)."""
    moved = value[4:] + value[:4]
    return (
        moved.isalnum() and moved.isascii() and int("".join(str(int(char, 36)) for char in moved)) % 97 == 1
    )


_DETECTORS: dict[str, Callable[[str], Iterator[Span]]] = {
    "pem": _pem,
    "jwt": _jwt,
    "password": _password,
    "key": _key,
    "email": _email,
    "iban": _iban,
    "card": _card,
    "ssn": _ssn,
    "birth": _birth,
    "ip": _ip,
    "phone": phones,
}
