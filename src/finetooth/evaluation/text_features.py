"""Features of a question's text, as conditions of slices: its form, script and language, and frequent words.

All are chosen by how many rows have them, and never by whether the answers are right: a search for weak
slices that chose them by errors would accuse slices by chance.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from finetooth.quality.rules.language import language

WORDS, FIRST_WORDS = 60, 12  # at most, of those with support
MOST_READ = 4_000  # characters of a text
SAMPLE, MAIN = 200, 0.95  # rows; from this share of one language on the others have no group

Mask = np.ndarray  # bool [R]

_LINK = re.compile(r"https?://|www\.|[\w.+-]+@[\w-]+\.\w")
_CAPITALS = re.compile(r"\b[A-Z]{2,}\b")
_SENTENCE_END = re.compile(r"[.!?…]+[\"')\]]*\s+\S|[。！？]\S")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_LATIN_LETTERS = re.compile(r"[A-Za-z]")

FORMS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("a number in the question", lambda text: any(char.isdigit() for char in text)),
    ("a question mark in the question", lambda text: any(char in "?？؟" for char in text)),
    ("a link or e-mail address in the question", lambda text: bool(_LINK.search(text))),
    ("a word in capitals in the question", lambda text: bool(_CAPITALS.search(text))),
    ("no capital letters in the question", lambda text: text == text.lower() and text != text.upper()),
    ("several sentences in the question", lambda text: bool(_SENTENCE_END.search(text))),
    ("several lines in the question", lambda text: "\n" in text.strip()),
    ("accented letters in the question", lambda text: any(map(_accented, text))),
)

# Words that only join others. Interrogatives and negations are not among them: they say what is asked.
_JOINING = (
    "a an the and or but if then than so as at by for from in into of off on onto out over to up with about "
    "is are was were be been being am do does did done has have had having will would shall should may might "
    "must can could i me my mine we us our ours you your yours he him his she her hers it its they them "
    "their theirs this that these those there here i'm i've it's"
)
FUNCTION_WORDS = frozenset(_JOINING.split())


def text_conditions(texts: Sequence[str], support: int) -> Iterator[tuple[str, Mask]]:
    """(words, rows) of each feature that at least `support` rows have, and as many lack."""
    read = [text[:MOST_READ] for text in texts]
    found: list[tuple[str, Mask]] = [
        (words, np.fromiter(map(has, read), bool, len(read))) for words, has in FORMS
    ]
    found += _scripts(read) + _languages(read, support)
    words = [[word.replace("’", "'") for word in _WORD.findall(text.casefold())] for text in read]
    firsts = [row[:1] for row in words]
    found += _frequent(firsts, FIRST_WORDS, support, 'the question begins with "{}"')
    content = [[word for word in row if len(word) > 1 and word not in FUNCTION_WORDS] for row in words]
    found += _frequent(content, WORDS, support, '"{}" in the question')
    for name, mask in found:
        if support <= mask.sum() <= mask.size - support:
            yield name, mask


def script(text: str) -> str:
    """The script of most letters of a text: Latin, Cyrillic, Cjk, ...; "" without letters."""
    if text.isascii():
        return "Latin" if _LATIN_LETTERS.search(text) else ""
    letters = [char for char in text if char.isalpha()]
    counts = Counter(unicodedata.name(char, "").split(" ")[0].capitalize() for char in letters)
    return counts.most_common(1)[0][0] if counts else ""


def _accented(char: str) -> bool:
    return not char.isascii() and char.isalpha() and unicodedata.name(char, "").startswith("LATIN")


def _scripts(texts: Sequence[str]) -> list[tuple[str, Mask]]:
    script_R = np.array([script(text) for text in texts], dtype=object)
    names = sorted({*script_R} - {""})
    if len(names) < 2:
        return []
    return [(f"{name} script", script_R == name) for name in names]


def _languages(texts: Sequence[str], support: int) -> list[tuple[str, Mask]]:
    """The languages of several that rows are in; not looked up where a sample of rows has one alone."""
    sample = [language(text) for text in texts[:: max(1, len(texts) // SAMPLE)]]
    known = Counter(filter(None, sample))
    if not known or known.most_common(1)[0][1] > MAIN * known.total():
        return []
    language_R = np.array([language(text) for text in texts], dtype=object)
    often = [name for name, rows in Counter(language_R).most_common() if name and rows >= support]
    return [(f"in {name}", language_R == name) for name in often] if len(often) > 1 else []


def _frequent(
    words_R: Sequence[Sequence[str]], most: int, support: int, words: str
) -> list[tuple[str, Mask]]:
    """The most frequent words that at least `support` rows have and lack, by the number of rows."""
    rows_of: dict[str, list[int]] = {}
    for row, here in enumerate(words_R):
        for word in dict.fromkeys(here):
            rows_of.setdefault(word, []).append(row)
    often = [word for word, rows in rows_of.items() if support <= len(rows) <= len(words_R) - support]
    found = []
    for word in sorted(often, key=lambda word: (-len(rows_of[word]), word))[:most]:
        mask = np.zeros(len(words_R), bool)
        mask[rows_of[word]] = True
        found.append((words.format(word), mask))
    return found
