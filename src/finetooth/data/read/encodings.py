"""Recognises the encoding of text that is not UTF-8, to name it: the user decides, nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Encodings of one byte per letter, the most frequent first, and what people call them.
NAMES = {
    "cp1252": "Windows-1252",
    "cp1250": "Windows-1250, Central European",
    "cp1251": "Windows-1251, Cyrillic",
    "cp1253": "Windows-1253, Greek",
    "koi8-r": "KOI8-R, Cyrillic",
    "cp850": "DOS, Western European",
    "mac_roman": "Mac Roman",
}
# Letters of Western and Central European languages, and signs that stand in ordinary text.
_LETTERS = set("äöüßàâçéèêëîïôûùœæñáíóúãõåøìòýąćęłńśźżčďěňřšťůžăâîşţőűđ")
_SIGNS = set("–—„“”‘’‚…€§°«»·•¡¿´`£©®²³½ \xa0")
_WORD = re.compile(rb"[A-Za-z\x80-\xff]+")
FEWEST = 3  # lines
LEAST = 0.9  # share of words that an encoding must read well
CLOSE = 0.05  # a share within this of the best one is another possible reading
WORDS = 2000  # at most, of a file
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """An encoding with which a text reads well, and some of its words read so."""

    encoding: str
    words: tuple[str, ...]

    def text(self) -> str:
        """As in: cp1252 (Windows-1252): “Grüße”, “für”."""
        shown = ", ".join(f"“{word}”" for word in self.words)
        return f"{self.encoding} ({NAMES[self.encoding]}): {shown}"


def readings(content: bytes) -> list[Reading]:
    """The encodings with which text reads well whose bytes are not UTF-8, the best first.

    Several only where they read different words. [] where only a few lines are not UTF-8 (these are broken,
    unless the header is one of them), where others hold letters in UTF-8, and where no encoding fits.
    """
    lines = content.split(b"\n")
    others = [line for line in lines if not line.isascii()]
    broken = [line for line in others if not _is_utf8(line)]
    header = lines[0] in broken and any(mark in lines[0] for mark in b",;\t")
    fewest = 1 if header else max(FEWEST, 0.01 * len(lines))
    if len(broken) < max(fewest, 0.9 * len(others)):
        return []
    found = dict.fromkeys(word for line in broken for word in _WORD.findall(line) if not word.isascii())
    decoded = list(_decoded(list(found)[:WORDS]))
    share = {name: sum(map(_reads_well, words)) / len(words) for name, words in decoded}
    best = max(share.values(), default=0.0)
    close = [(name, words) for name, words in decoded if share[name] >= max(LEAST, best - CLOSE)]
    close.sort(key=lambda entry: -share[entry[0]])
    if not close:
        return []
    # Words that the encodings read differently say most, then long ones.
    versions = [[words[at] for _, words in close] for at in range(len(close[0][1]))]
    order = sorted(range(len(versions)), key=lambda at: (-len({*versions[at]}), -len(versions[at][0])))
    result: list[Reading] = []
    for name, words in close:
        shown = tuple(words[at] for at in order[:SHOWN])
        if shown not in [one.words for one in result]:
            result.append(Reading(name, shown))
    return result[:SHOWN]


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _decoded(words: list[bytes]) -> Iterator[tuple[str, list[str]]]:
    """Every encoding that can read all the words, with the words."""
    for name in NAMES:
        try:
            yield name, [word.decode(name) for word in words]
        except UnicodeDecodeError:
            continue


def _reads_well(word: str) -> bool:
    """Whether this can be a word: letters of one script, a usual case, and no sign that text has not."""
    for part in re.findall(r"[^\W\d_]+|\W", word):
        if not part.isalpha():
            if part not in _SIGNS:
                return False
            continue
        if not (part.islower() or part.isupper() or part[1:].islower()):
            return False
        strange = [letter for letter in part.lower() if not letter.isascii()]
        latin = all(letter in _LETTERS for letter in strange) and 2 * len(strange) <= len(part) + 1
        other_script = len(strange) == len(part) and not any(
            "\xaa" <= letter <= "\u024f" for letter in strange
        )
        if strange and not (latin or other_script):
            return False
    return True
