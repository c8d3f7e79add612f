"""Language identification with py3langid's byte n-gram model, and the rule `language-mix`.

A language is reported only if the model is confident; short texts, names, numbers and code stay unknown.
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
SURE = 0.95  # minimum probability of a language
KNOWN = 50  # minimum rows of known language for shares to be reported
MAIN = 0.98  # share of the main language from which all others count as rare
FEWEST, LEAST = 3, 0.002  # minimum rows of a language and their share; fewer are mostly titles and names
RARE = 0.1  # maximum share of mistakes; more answers in another language is a task, such as translation

# Language codes of the model and their names. Similar languages share a name, as short texts cannot
# distinguish them. Galician, Latin, Esperanto and dialects are left out: they lower the confidence in others.
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
    """English name of a text's language ("Devanagari" for languages in that script); "" if unknown."""
    return _language(text[:TEXT])


def language_code(name: str) -> str:
    """The code of a language by its name; "" where languages share the name, or it is not known."""
    codes = [code for code, known in _NAMES.items() if known == name]
    return codes[0] if name and len(codes) == 1 else ""


@functools.lru_cache(1024)
def _language(read: str) -> str:
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
    """`language-mix`: info if the questions are in several languages; review if some answers, at most a tenth
    of those whose language is known, are in another language than their question."""
    rows = list(view.rows())
    asked_in = [language(question(row)) for _, row in rows]
    known = Counter(name for name in asked_in if name)
    for name in list(known):
        if known[name] < max(FEWEST, LEAST * known.total()):
            del known[name]
    if known.total() >= KNOWN and len(known) > 1:
        yield from _mix(rows, asked_in, known)
    if view.labelled or view.format == "text":
        return
    answered_in = [language(row.target) for _, row in rows]
    both = [at for at in range(len(rows)) if asked_in[at] and answered_in[at]]
    other = [
        at
        for at in both
        if asked_in[at] != answered_in[at] and not _requested(question(rows[at][1]), answered_in[at])
    ]
    if len(both) < KNOWN or not 0 < len(other) <= RARE * len(both):
        return
    yield Finding(
        "language-mix",
        "review",
        f"{format_count_of(len(other), len(both), 'answer')} {plural(len(other), 'is', 'are')} not in the "
        f"language of {plural(len(other), 'its', 'their')} question.",
        hits=tuple(
            Hit.of(rows[at][1], rows[at][0], f"question in {asked_in[at]}, answer in {answered_in[at]}")
            for at in other
        ),
        fix="Look at the rows. If an answer should be in the language of its question, rewrite it.",
        facts={"other": len(other), "rows": len(both)},
    )


def _requested(question_text: str, language_name: str) -> bool:
    """Whether a question asks for a translation or names the language of the answer."""
    folded = question_text.casefold()
    return bool(_TRANSLATE.search(folded)) or any(
        name.casefold() in folded for name in language_name.split(" or ") if name
    )


def _mix(rows: list[tuple[str, Example]], asked_in: list[str], known: Counter[str]) -> Iterator[Finding]:
    """The shares of the languages; with hits for rare languages if one language dominates."""
    names = sorted(known, key=lambda name: (-known[name], name))
    shares = ", ".join(f"{name} {known[name]:,} ({known[name] / known.total():.1%})" for name in names[:6])
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    rare = known[names[0]] >= MAIN * known.total()
    yield Finding(
        "language-mix",
        "info",
        f"Languages of the {known.total():,} rows whose language could be identified: {shares}{more}."
        + (" The model will learn little of the rare languages." if rare else ""),
        hits=tuple(
            Hit.of(row, side, f"in {name}")
            for (side, row), name in zip(rows, asked_in, strict=True)
            if rare and name in names[1:]
        ),
        fix="Look at the rows if texts in these languages are not intended." if rare else "",
        facts={"rows": {name: known[name] for name in names}, "unknown": len(rows) - known.total()},
    )
