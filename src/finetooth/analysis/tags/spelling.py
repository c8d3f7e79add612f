"""The tag of misspelt words: unknown ones that are one slip away from a known word.

A dictionary alone is of no use: of correct technical prose most paragraphs hold a word that it lacks. A word
is known here if the dictionary, the training rows, the row's input or its expected answers have it, or if it
is built of known words. An unknown word is misspelt only if one slip of the pen turns a known word into it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator

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
KNOWN = 50  # times that the dictionary's texts have a word, for it to be part of another
# Letters of the word that was meant -> times that the dictionary's texts have it, at least: short words are
# one slip away from many.
OFTEN = {4: 1_000_000, 5: 200_000, 6: 10_000, 7: 500}
TAUGHT = 3  # training rows with a word for it to be the one that was meant
MOST_WORDS = 5_000  # words of an answer that are read
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
# What is no prose: code, addresses, paths, mark-up, LaTeX.
_SKIPPED = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|<[^<>\n]{1,200}>|\$[^$\n]{1,200}\$|\\\w+(?:\{[^{}]{0,200}\})?"
    r"|(?<!\S)\S*[/\\_=#@]\S*|(?<!\S)\S*\w[.:_]\w\S*",
    re.DOTALL,
)
# ASCII words that touch no other letter, apostrophe or hyphen; names in capitals are left out.
_WORD = re.compile(
    r"(?<![\w'’´`-])(?<![^\x00-\x7f“”‘…–—])(?:[a-z]{4,24}|[A-Z][a-z]{6,23})(?![\w'’´`-]|[^\x00-\x7f“”’…–—])"
)
# British endings and the American ones that the dictionary has.
_BRITISH = tuple((re.compile(one), other) for one, other in (
    ("our", "or"), ("tre(?=s?$|d$)", "ter"), ("is(?=e|ing|ation)", "iz"), ("ys(?=e|ing)", "yz"),
    ("ll(?=ed|ing|er|or)", "l"), ("ogue", "og"), ("ence$", "ense"), ("programme", "program"),
    ("mould", "mold"), ("grey", "gray"), ("l(?=ful|ment)", "ll"),
    ("que(?=s?$)", "ck"), ("ey(?=s?$)", "y")))  # fmt: skip
_PREFIXES_TEXT = (
    "anti auto bi co counter de dis hyper inter macro mega meta micro mini mis mono multi non out over "
    "photo poly post pre pro pseudo re self semi sub super tele trans tri ultra un under uni"
)
_PREFIXES = _PREFIXES_TEXT.split()
_SUFFIXES_TEXT = (
    "s es d ed r er ers ing ings ly ness less like able ish y ful ism ist ists ity ize ized izes izing "
    "ise ised ises ising ization isation al ally ic ian ians wise ship hood"
)
_SUFFIXES = _SUFFIXES_TEXT.split()


@functools.cache
def _dictionary() -> dict[str, int]:
    """English word -> how often it occurs in the dictionary's texts."""
    from spellchecker import SpellChecker  # here: it takes a third of a second to load

    words = SpellChecker(language="en").word_frequency
    return {str(word): int(words[word]) for word in words.words()}


def _slips(word: str) -> Iterator[str]:
    """All words of which a word is one slip: a letter left out, put in or replaced, or two swapped."""
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
def _meant(word: str) -> tuple[str, ...]:
    """The words that a lower-case word may be a slip of, the commonest first; () for a word that is known."""
    known = _dictionary()
    if _known(word):
        return ()
    near = {one for one in _slips(word) if len(one) >= FEWEST and not _inflected(word, one)}
    return tuple(sorted(near & known.keys(), key=lambda one: -known[one]))


def _known(word: str) -> bool:
    """Whether the dictionary has a word, its American form, or the words that make it up."""
    known = _dictionary()

    def stem(part: str) -> bool:
        return len(part) > 3 and known.get(part, 0) >= KNOWN

    if word in known or any(known.get(there.sub(here, word), 0) >= KNOWN for there, here in _BRITISH):
        return True
    for prefix in _PREFIXES:
        if word.startswith(prefix) and len(prefix) > 2 and stem(word[len(prefix) :]):
            return True
    for suffix in _SUFFIXES:
        root = word.removesuffix(suffix)
        if len(suffix) > 2 and root != word and (stem(root) or stem(root + "e") or stem(root[:-1] + "y")):
            return True
    return False


def _compound(word: str) -> bool:
    """Whether two common words make up a word."""
    known = _dictionary()
    return any(
        min(known.get(word[:at], 0), known.get(word[at:], 0)) >= OFTEN[6] for at in range(3, len(word) - 2)
    )


def _wanted(word: str, context: TagContext) -> str:
    """The word that was meant; "" where a word is right, or nothing is near enough."""
    known = _dictionary()
    for one in _meant(word):
        often = OFTEN.get(len(one), KNOWN)
        if known[one] >= often and not (_compound(word) and known[one] < 30 * often):
            return one
    return _near(word, lambda one: context.vocabulary.get(one, 0) >= TAUGHT)


def _near(word: str, taught: Callable[[str], bool]) -> str:
    """The first taught word that an unknown one is a slip of; "" without one."""
    if len(word) < 5 or _known(word):
        return ""
    near = (one for one in _slips(word) if len(one) >= 6 and taught(one) and not _inflected(word, one))
    return next(near, "")


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
        if lower in context.vocabulary or lower in _dictionary():
            continue
        if word != lower and not _begins(prose, match.start()):
            continue  # a name
        if own is None:
            own = set(folded_words(source_text(row.example))) | set(folded_words(gold_text(row.example)))
            if not _english(text, context):
                return None
        if lower in own or not (meant := _wanted(lower, context) or _near(lower, own.__contains__)):
            continue
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
