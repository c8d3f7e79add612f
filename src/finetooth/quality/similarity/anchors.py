"""Candidate pairs for near-duplicate search: texts that share rare word n-grams. Linear in the total words.

Each word of a text starts an anchor: the shortest n-gram of 1 to RUN words from there that is rare among all
texts. The threshold for "rare" depends on the amount of text, so that the work stays bounded. An n-gram that
is common even at RUN words (a template that many rows share) pairs each text with only a few others; one in
more than every eighth text pairs none.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

RUN = 6  # maximum words of an anchor
WORK = 30_000_000  # approximate limit of text pairs matched; sets how frequent a rare anchor is
RARE = 16  # an anchor in this many texts is always rare
NEAREST = 8  # candidates kept per text
LEAST = 0.15  # minimum share, in bits, of the smaller text's anchors that a candidate pair shares
BUCKETS = 24  # log2 of the largest n-gram count table
COMMON = 8  # an n-gram in more than 1 of this many texts is not an anchor
OUTPUT = 8_000_000  # matches in memory at a time
BLOCK = 2_000_000  # words processed at a time

# Scripts written without spaces: each character counts as a word (kana, Han, Thai to Lao).
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W{_UNSPACED}]+")


def split_words(text: str) -> list[str]:
    """The words of a text, case folded; apostrophes do not split words."""
    return _WORD.findall(text.casefold().replace("'", "").replace("’", ""))


@dataclass(frozen=True, slots=True)
class Words:
    """Texts as word ids. id: of each word, text after text; starts: offset of each text, then the total."""

    id: npt.NDArray[np.int32]
    starts: Ints
    known: int

    @property
    def texts(self) -> int:
        """Number of texts."""
        return len(self.starts) - 1

    @property
    def text(self) -> npt.NDArray[np.int32]:
        """Index of the text that each word belongs to."""
        return np.repeat(np.arange(self.texts, dtype=np.int32), np.diff(self.starts))


def numbered(texts: Sequence[str]) -> Words:
    """The words of texts as ids, numbered in order of first occurrence."""
    known: defaultdict[str, int] = defaultdict()
    known.default_factory = known.__len__
    ids, starts = array("i"), [0]
    for text in texts:
        ids.extend([known[word] for word in split_words(text)])
        starts.append(len(ids))
    return Words(np.array(ids, dtype=np.int32), np.array(starts, dtype=np.int64), len(known))


def runs(words: Words, length: int) -> Iterator[tuple[npt.NDArray[np.uint64], Ints]]:
    """(hash, where) of the n-grams of this length within a text, in blocks; where: its first word."""
    text, size = words.text, max(len(words.id) - length + 1, 0)
    for begin in range(0, size, BLOCK):
        end = min(begin + BLOCK, size)
        where = begin + np.flatnonzero(text[begin:end] == text[begin + length - 1 : end + length - 1])
        hash = np.zeros(len(where), dtype=np.uint64)
        for step in range(length):
            hash = (hash ^ (words.id[where + step].astype(np.uint64) + 1)) * np.uint64(0x9E3779B97F4A7C15)
            hash ^= hash >> np.uint64(29)
        yield hash, where


def counter(hash: npt.NDArray[np.uint64], table: int) -> Ints:
    """Index of each n-gram in the count table."""
    return (hash & np.uint64(table - 1)).astype(np.int64)


def counters(words: Words) -> int:
    """Size of the count table for n-grams of these words: a power of two, with few collisions."""
    return 1 << min(BUCKETS, max(10, int(2 * len(words.id)).bit_length()))


def bits(counts: npt.NDArray[np.integer], texts: int) -> Floats:
    """Information in bits of a feature that `counts` of all texts have: -log2 of its share, at least 0."""
    return np.asarray(np.maximum(np.log2(texts / np.maximum(counts, 1)), 0), dtype=np.float32)


def _anchors(words: Words) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint64], Floats]:
    """(text, hash) of anchors that several texts may have, and the total anchor bits of each text.

    Hash collisions can make counts too high.
    """
    text = words.text
    rare = int(np.clip(WORK // max(len(words.id), 1), RARE, max(words.texts, RARE)))
    table = counters(words)
    open = np.ones(len(words.id), dtype=bool)
    total = np.zeros(words.texts)
    texts, hashes = [np.zeros(0, dtype=np.int32)], [np.zeros(0, dtype=np.uint64)]
    for length in range(1, RUN + 1):
        counts = np.zeros(table, dtype=np.int32)
        for hash, _ in runs(words, length):
            np.add(counts, np.bincount(counter(hash, table), minlength=table), out=counts, casting="unsafe")
        for hash, where in runs(words, length):
            count = counts[counter(hash, table)]
            common = count > rare if length < RUN else count.astype(np.int64) * COMMON > words.texts
            keep = open[where] & (~common | (count <= rare))
            where, hash, count = where[keep], hash[keep], count[keep]
            open[where] = False
            total += np.bincount(text[where], weights=bits(count, words.texts), minlength=words.texts)
            texts.append(text[where[count > 1]])
            hashes.append(hash[count > 1] ^ np.uint64(length))
    return np.concatenate(texts), np.concatenate(hashes), total.astype(np.float32)


def _shared(words: Words) -> tuple[npt.NDArray[np.int32], Ints, Floats, Floats]:
    """(text, feature, bits) of anchors that several texts have, and the total anchor bits of each text.

    Features that are not rare are split: see _split_common.
    """
    text, hash, total = _anchors(words)
    _, feature, count = np.unique(hash, return_inverse=True, return_counts=True)
    several = count[feature] > 1
    text, feature = text[several], feature[several]
    weight = bits(count, words.texts)[feature]
    rare = max(WORK // max(len(words.id), 1), RARE)
    return text, _split_common(text, feature, count, rare), weight, total


def _split_common(text: npt.NDArray[np.int32], feature: Ints, count: Ints, most: int) -> Ints:
    """Splits features that occur more than `most` times into several of about `most` texts each.

    Texts are assigned by a fixed hash, so that every part holds texts from everywhere.
    """
    parts = -(-count // most)
    first = np.concatenate([[0], np.cumsum(parts)[:-1]])
    dealt = (text.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)).astype(np.int64)
    return np.asarray(first[feature] + dealt % parts[feature], dtype=np.int64)


def candidates(
    words: Words,
    sides: npt.NDArray[np.int64],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Ints:
    """(P, 2) pairs of texts that share enough anchors, the lower index first, sorted.

    sides: bit mask of the sides that each text is on. For each text, the NEAREST candidates on a common side
    and the NEAREST on another side are kept.
    """
    from scipy.sparse import csr_matrix

    text, feature, weight, total = _shared(words)
    if not len(text):
        return np.zeros((0, 2), dtype=np.int64)
    shape = (words.texts, int(feature.max()) + 1)
    has = csr_matrix((np.ones(len(text), dtype=np.float32), (text, feature)), shape=shape)
    has.data[:] = 1  # repeated anchors count once
    value = np.zeros(shape[1], dtype=np.float32)
    value[feature] = weight
    places = np.bincount(has.indices, minlength=shape[1])
    matches = np.cumsum(has @ places.astype(np.float32), dtype=np.float64)
    weighted = has.copy()
    weighted.data *= value[has.indices]
    weighted = weighted.T.tocsr()
    kept, begin = [], 0
    while begin < words.texts:
        limit = (matches[begin - 1] if begin else 0.0) + OUTPUT
        end = max(int(np.searchsorted(matches, limit)), begin + 1)
        kept.append(_nearest((has[begin:end] @ weighted).tocoo(), begin, total, sides))
        progress(end, words.texts)
        begin = end
    pairs = distinct(np.concatenate(kept))
    return np.stack([pairs >> 32, pairs & 0xFFFFFFFF], axis=1)


def distinct(values: Ints) -> Ints:
    """Sorted unique values; sorts in place."""
    values.sort()
    return values[np.concatenate([[True], values[1:] != values[:-1]])] if len(values) else values


def _nearest(met: Any, begin: int, total: Floats, sides: npt.NDArray[np.int64]) -> Ints:
    """The best pairs of each row of a block of shared bits, encoded as lower text << 32 | higher text."""
    smaller = np.minimum(total[begin + met.row], total[met.col])
    keep = (met.data >= LEAST * smaller) & (met.row + begin != met.col)
    one, other = met.row[keep].astype(np.int64) + begin, met.col[keep].astype(np.int64)
    share = met.data[keep] / smaller[keep]
    picked = []
    apart = (sides[one] != sides[other]) | (sides[one] & (sides[one] - 1) != 0)
    for wanted in ((sides[one] & sides[other]) != 0, apart):
        at = np.flatnonzero(wanted)
        order = at[np.lexsort((other[at], -share[at], one[at]))]
        start = np.searchsorted(one[order], one[order], side="left")
        picked.append(order[np.arange(len(order)) - start < NEAREST])
    at = np.concatenate(picked)
    return np.asarray(np.minimum(one[at], other[at]) << 32 | np.maximum(one[at], other[at]))
