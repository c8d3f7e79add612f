"""Groups of rows by the text of their question, as pages claim them: for measured_claims.py.

Rows in several languages or scripts are not made up there, so these have no groups here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

WORDS = """
    a an the and or but if then than so as at by for from in into of off on onto out over to up with about is
    are was were be been being am do does did done has have had having will would shall should may might must
    can could i me my mine we us our ours you your yours he him his she her hers it its they them their theirs
    this that these those there here i'm i've it's"""
JOINING = WORDS.split()
FORMS = {
    "a number in the question": r"\d",
    "a question mark in the question": r"[?]",
    "a link or e-mail address in the question": r"https?://|www\.|\S@\S+\.\w",
    "a word in capitals in the question": r"\b[A-Z][A-Z]+\b",
    "no capital letters in the question": r"\A(?=[\s\S]*[a-z])[^A-Z]*\Z",
    "several sentences in the question": r"[.!?][\"')]*\s+\S",
    "several lines in the question": r"\S\s*\n\s*\S",
}


def text_groups(texts: Sequence[str], least: int) -> dict[tuple[str, str], frozenset[int]]:
    """(kind, words) -> places of rows: forms, then first words, then words, the most frequent first."""
    found = {words: {at for at, text in enumerate(texts) if re.search(form, text)}
             for words, form in FORMS.items()}  # fmt: skip
    said = [re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower()) for text in texts]
    content = [[word for word in row if len(word) > 1 and word not in JOINING] for row in said]
    for rows, most, words in (
        ([row[:1] for row in said], 12, 'the question begins with "{}"'),
        (content, 60, '"{}" in the question'),
    ):
        counts = Counter(word for row in rows for word in set(row))
        often = [word for word, n in counts.items() if least <= n <= len(texts) - least]
        for word in sorted(often, key=lambda word: (-counts[word], word))[:most]:
            found[words.format(word)] = {at for at, row in enumerate(rows) if word in row}
    return {("text", words): frozenset(places) for words, places in found.items()
            if least <= len(places) <= len(texts) - least}  # fmt: skip
