"""Which languages the rows are in, by py3langid's model of byte n-grams.

A language is named only where the model is sure of it; a text that is short, all names and numbers,
or code stays unknown.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from finetooth.config.values import format_count_of, plural
from finetooth.quality.findings import Finding, Hit, View, question
from finetooth.types import Example

TEXT = 250  # characters that are read
LETTERS = 12  # bytes of letters in UTF-8, at least: 12 letters of English, 4 of Chinese
SURE = 0.95  # least probability of a language
KNOWN = 50  # rows of which the language is known, before shares are told
MAIN = 0.98  # of them, from which on all else is rare
FEWEST, LEAST = 3, 0.002  # rows of a language, and their share of the known: fewer are titles and names
RARE = 0.1  # answers in another language, up to which they look like mistakes; more is a task, as translation

# The model's codes and their names. Close languages share one, as short texts do not tell them apart.
# Galician, Latin, Esperanto and dialects, which the model also knows, would make others less sure.
# zxx: no language, such as code and numbers.
_LANGUAGES = (
    "af:Afrikaans, sq:Albanian, ar:Arabic, hy:Armenian, eu:Basque, be:Belarusian, bn:Bengali, "
    "bg:Bulgarian, ca:Catalan, zh:Chinese, hr sr bs:Croatian or Serbian, cs sk:Czech or Slovak, "
    "da no nn:Danish or Norwegian, hi mr ne:Devanagari, nl:Dutch, en:English, et:Estonian, tl:Filipino, "
    "fi:Finnish, fr:French, ka:Georgian, de:German, el:Greek, gu:Gujarati, he:Hebrew, hu:Hungarian, "
    "is:Icelandic, id ms:Indonesian or Malay, ga:Irish, it:Italian, ja:Japanese, kn:Kannada, ko:Korean, "
    "lv:Latvian, lt:Lithuanian, mk:Macedonian, ml:Malayalam, fa:Persian, pl:Polish, pt:Portuguese, "
    "pa:Punjabi, ro:Romanian, ru:Russian, sl:Slovenian, es:Spanish, sw:Swahili, sv:Swedish, ta:Tamil, "
    "te:Telugu, th:Thai, tr:Turkish, uk:Ukrainian, ur:Urdu, vi:Vietnamese, cy:Welsh, zxx:"
)
_NAMES = {
    code: name
    for codes, name in (entry.split(":") for entry in _LANGUAGES.split(", "))
    for code in codes.split()
}
_TRANSLATE = re.compile("translat|übersetz|traduc|tradu[iz]|tradurre|vertaal|przetłum|перев[её]|переклад")


def language(text: str) -> str:
    """The language of a text by its English name, or its script for those in Devanagari; "" is unknown."""
    read = text[:TEXT]
    if len("".join(filter(str.isalpha, read)).encode()) < LETTERS:
        return ""
    shares: Counter[str] = Counter()
    for code, share in _identifier().rank(read):
        shares[_NAMES[code]] += share
    name, share = shares.most_common(1)[0]
    return name if share >= SURE else ""


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # here: its model takes a second to load

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(_NAMES)
    return identifier


def language_mix(view: View) -> Iterator[Finding]:
    """`language-mix`: info where the questions are in several languages; review where single answers are in
    another language than their question, in at most a tenth of the rows in which both are known."""
    rows = list(view.rows())
    asked = [language(question(row)) for _, row in rows]
    known = Counter(name for name in asked if name)
    for name in list(known):
        if known[name] < max(FEWEST, LEAST * known.total()):
            del known[name]
    if known.total() >= KNOWN and len(known) > 1:
        yield from _mix(rows, asked, known)
    if view.labelled or view.format == "text":
        return
    answered = [language(row.target) for _, row in rows]
    both = [at for at in range(len(rows)) if asked[at] and answered[at]]
    other = [
        at for at in both if asked[at] != answered[at] and not _wanted(question(rows[at][1]), answered[at])
    ]
    if len(both) < KNOWN or not 0 < len(other) <= RARE * len(both):
        return
    yield Finding(
        "language-mix",
        "review",
        f"{format_count_of(len(other), len(both), 'answer')} {plural(len(other), 'is', 'are')} in another "
        "language "
        f"than {plural(len(other), 'its', 'their')} question.",
        hits=tuple(
            Hit.of(rows[at][1], rows[at][0], f"asked in {asked[at]}, answered in {answered[at]}")
            for at in other
        ),
        fix="Look at the rows: if the answer should be in the language of the question, rewrite it.",
        facts={"other": len(other), "rows": len(both)},
    )


def _wanted(asked: str, answered: str) -> bool:
    """Whether a question asks for another language: by its name, or for a translation."""
    folded = asked.casefold()
    return bool(_TRANSLATE.search(folded)) or any(
        name.casefold() in folded for name in answered.split(" or ") if name
    )


def _mix(rows: list[tuple[str, Example]], asked: list[str], known: Counter[str]) -> Iterator[Finding]:
    """The shares of the languages; rows of the rare ones where one language has nearly all."""
    names = sorted(known, key=lambda name: (-known[name], name))
    shares = ", ".join(f"{name} {known[name]:,} ({known[name] / known.total():.1%})" for name in names[:6])
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    rare = known[names[0]] >= MAIN * known.total()
    yield Finding(
        "language-mix",
        "info",
        f"Of {known.total():,} rows whose language can be told, {shares}{more}."
        + (" The model learns little of the rare ones." if rare else ""),
        hits=tuple(
            Hit.of(row, side, f"in {name}")
            for (side, row), name in zip(rows, asked, strict=True)
            if rare and name in names[1:]
        ),
        fix="Look at the rows, if texts in these languages were not meant to be here." if rare else "",
        facts={"rows": {name: known[name] for name in names}, "unknown": len(rows) - known.total()},
    )
