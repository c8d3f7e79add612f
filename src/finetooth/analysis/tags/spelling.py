"""The tag of misspelt words: unknown ones that are one slip away from a word of the dictionary.

A dictionary alone is of no use: of correct technical prose most paragraphs hold a word that it lacks. A word is
known here if the dictionary, the training rows, the row's input or its expected answers have it, or if it is
built of known words. An unknown word is misspelt only if one slip of the pen turns a known word into it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.tags.base import (
    Evidence,
    Tag,
    TagContext,
    folded_words,
    free_text,
    gold_text,
    source_text,
)
from finetooth.quality.rules.language import language

FEWEST = 4  # letters of a word that is judged
KNOWN = 50  # times that the dictionary's texts have a word, for it to be the one that was meant
MOST_WORDS = 5_000  # words of an answer that are read
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
# What is no prose: code, addresses, paths, mark-up, LaTeX.
_SKIPPED = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|\w+://\S+|www\.\S+|\S+@\S+|<[^<>\n]{1,200}>|\$[^$\n]{1,200}\$|\\\w+(?:\{[^{}]*\})?"
    r"|[\w.-]*[/\\_=#@]\S*|\S*\w[.:_]\w\S*",
    re.DOTALL,
)
_WORD = re.compile(r"(?<![\w'’-])[A-Za-z]?[a-z]{3,}(?![\w'’-])")
_PREFIXES = ("anti", "auto", "bi", "co", "counter", "de", "dis", "hyper", "inter", "macro", "mega", "meta", "micro",
             "mini", "mis", "mono", "multi", "non", "out", "over", "photo", "poly", "post", "pre", "pro", "pseudo",
             "re", "self", "semi", "sub", "super", "tele", "trans", "tri", "ultra", "un", "under", "uni")  # fmt: skip
_SUFFIXES = ("s", "es", "d", "ed", "r", "er", "ers", "ing", "ings", "ly", "ness", "less", "like", "able", "ish", "y",
             "ful", "ism", "ist", "ists", "ity", "ize", "ized", "izes", "izing", "ise", "ised", "ises", "ising",
             "ization", "isation", "al", "ally", "ic", "ian", "ians", "wise", "ship", "hood")  # fmt: skip


@functools.cache
def _dictionary() -> dict[str, int]:
    """English word -> how often it occurs in the dictionary's texts."""
    from spellchecker import SpellChecker  # here: it takes a third of a second to load

    words = SpellChecker(language="en").word_frequency
    return {str(word): int(words[word]) for word in words.words()}


def _slips(word: str) -> Iterator[str]:
    """All words of which a word is one slip: a letter left out, doubled or put in, two swapped, one replaced."""
    splits = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    for left, right in splits:
        if right:
            yield left + right[1:]
        if len(right) > 1:
            yield left + right[1] + right[0] + right[2:]
        for letter in _LETTERS:
            if right:
                yield left + letter + right[1:]
            yield left + letter + right


@functools.lru_cache(100_000)
def _meant(word: str) -> str:
    """The word that a lower-case word is a slip of; "" for a word that the dictionary knows, or that is built
    of known ones, or that is near none."""
    known = _dictionary()
    if word in known or _built(word):
        return ""
    near = [one for one in _slips(word) if known.get(one, 0) >= KNOWN and len(one) >= FEWEST]
    near = [one for one in near if not _inflected(word, one)]
    return max(near, key=lambda one: known[one], default="")


def _built(word: str) -> bool:
    """Whether known words make up a word: a prefix or a suffix at one, or two of them."""
    known = _dictionary()

    def stem(part: str) -> bool:
        return len(part) > 3 and known.get(part, 0) >= KNOWN

    for prefix in _PREFIXES:
        if word.startswith(prefix) and len(prefix) > 2 and stem(word[len(prefix) :]):
            return True
    for suffix in _SUFFIXES:
        root = word.removesuffix(suffix)
        if len(suffix) > 2 and root != word and (stem(root) or stem(root + "e") or stem(root[:-1] + "y")):
            return True
    return any(stem(word[:at]) and stem(word[at:]) for at in range(4, len(word) - 3))


def _inflected(word: str, other: str) -> bool:
    """Whether a word is another with a usual ending, which no list has of all words."""
    longer, shorter = (word, other) if len(word) > len(other) else (other, word)
    return word == longer and longer in (shorter + "s", shorter + "d", shorter + "r", shorter + "y")


def _misspelling(row: AnsweredRow, context: TagContext) -> Evidence | None:
    text = row.text
    if not free_text(row, context) or context.wants_json:
        return None
    prose = _SKIPPED.sub(lambda match: " " * len(match[0]), text)
    own: set[str] | None = None
    for at, match in enumerate(_WORD.finditer(prose)):
        word = match[0]
        if at >= MOST_WORDS:
            break
        lower = word.lower()
        if lower in context.vocabulary or len(word) < FEWEST or not (meant := _meant(lower)):
            continue
        if word != lower and not (_begins(prose, match.start()) and _dictionary()[meant] >= 100 * KNOWN):
            continue  # a name
        if own is None:
            own = set(folded_words(source_text(row.example))) | set(folded_words(gold_text(row.example)))
            if not _english(text, context):
                return None
        if lower not in own:
            return Evidence(f"{word!r} is not a known word; meant may be {meant!r}", *match.span())
    return None


def _begins(text: str, at: int) -> bool:
    """Whether a sentence begins here."""
    before = text[:at].rstrip()
    return not before or before[-1] in ".!?:\n"


def _english(text: str, context: TagContext) -> bool:
    """Whether the answer is English; where that is not known, whether the training answers are."""
    given = language(text)
    if not given and context.languages:
        return max(context.languages, key=lambda name: context.languages[name]) == "English"
    return given in ("English", "")


TAGS = (
    Tag(
        "misspelling",
        "misspelling",
        "An unknown English word that is one slip away from a known one.",
        _misspelling,
    ),
)
