"""Near-duplicate texts: copies, the same words, one contained in the other, similar spelling.

Tiers, the most certain first. `copy`: equal after examples.normalise. `words`: equal except for punctuation.
`inside`: at least INSIDE of the smaller text's information is in the other: a text after an instruction, half
a text, a text with words replaced. `letters`: short texts whose character n-gram TF-IDF cosine is at least
COSINE: variant spellings and endings. Words and word pairs are weighted in bits, by their rarity among all
texts, so that a template in every row counts for nothing; what a pair shares must exceed chance by the factor
BEYOND. Paraphrases are not found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from finetooth.data.examples import normalise
from finetooth.data.unicode_forms import normal_form
from finetooth.quality.similarity.anchors import (
    Floats,
    Ints,
    Words,
    bits,
    candidates,
    counter,
    counters,
    distinct,
    numbered,
    runs,
    split_words,
)

Tier = Literal["copy", "words", "inside", "letters"]
TIERS: tuple[Tier, ...] = ("copy", "words", "inside", "letters")
INSIDE, WHOLE, BEYOND = 0.45, 0.3, 2.5  # minimum overlaps of a near-duplicate; or, if one contains the other:
CONTAINED, BEYOND_CONTAINED = 0.8, 2.0
CLOSE, BEYOND_CLOSE = 0.6, 3.0  # minimum overlaps of texts kept together
COSINE = 0.6
SHORT, SHORT_CHARACTERS = 40, 2_000  # maximum size of a text compared by letters
BLOCK = 20_000  # pairs compared at a time
_PROSE = re.compile(r"[.,;:!?\"“”„«»()…—–‐-](?!\d)|[\"“”„«»]")
_APOSTROPHES = re.compile("['’ʼ`´]")


@dataclass(frozen=True, slots=True)
class SimilarPair:
    """Two near-duplicate texts, by their indices, one < other.

    containment: share of the smaller text, in bits, that is in the other; reverse_containment: the same for
    the larger one. chance_ratio: shared bits over 2 log2(texts), the overlap expected by chance of the best
    of all pairs. words: of the smaller text. cosine: of character n-grams, 0 if not compared.
    """

    one: int
    other: int
    tier: Tier
    containment: float = 1.0
    reverse_containment: float = 1.0
    chance_ratio: float = 0.0
    words: int = 0
    cosine: float = 0.0

    @property
    def share(self) -> float:
        """Similarity, 0 to 1: by words or, for short texts, by letters."""
        return max(self.containment, self.cosine)

    @property
    def close(self) -> bool:
        """Whether the texts are similar enough to act on it rather than only to report it."""
        sure = (
            self.containment >= CLOSE
            and self.reverse_containment >= WHOLE
            and self.chance_ratio >= BEYOND_CLOSE
        )
        return sure or self.tier in ("copy", "words")


def prose(text: str) -> str:
    """A text case-folded, without apostrophes and without punctuation except before a digit."""
    folded = _APOSTROPHES.sub("", normal_form("NFKC", text).casefold())
    return " ".join(_PROSE.sub(" ", folded).split()) or folded


def find_similar_pairs(
    texts: Sequence[str],
    sides: Sequence[int] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[SimilarPair]:
    """Near-duplicate pairs of texts, the most certain tier and largest share first; empty texts have none.

    sides: a small number per text (default: 0 for all). Not all pairs are listed, but enough for clustering:
    within a side, copies are paired with the first of them; across sides, every text of the higher side that
    has a near-duplicate on the lower one is listed with at least one.
    """
    side = [0] * len(texts) if sides is None else list(sides)
    members: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        if key := prose(text):
            members.setdefault(key, []).append(index)
    groups = list(members.values())
    found = [pair for group in groups for pair in _copies(group, texts, side)]
    words = numbered([texts[group[0]] for group in groups])
    on = np.array([sum({1 << side[index] for index in group}) for group in groups], dtype=np.int64)
    first = [_firsts(group, side) for group in groups]
    expanded: set[tuple[int, int]] = set()
    scored = _scored(words, [texts[group[0]] for group in groups], candidates(words, on, progress))
    for pair in sorted(scored, key=rank):
        found += _spread(pair, groups, first, side, expanded)
    return sorted(found, key=rank)


def rank(pair: SimilarPair) -> tuple[int, float, int, int]:
    """Sort key of pairs: the most certain tier and the largest share first."""
    return TIERS.index(pair.tier), -pair.share, pair.one, pair.other


def _firsts(group: Sequence[int], side: Sequence[int]) -> dict[int, int]:
    """The first text of a group on each side."""
    firsts: dict[int, int] = {}
    for index in group:
        firsts.setdefault(side[index], index)
    return firsts


def _copies(group: Sequence[int], texts: Sequence[str], side: Sequence[int]) -> Iterator[SimilarPair]:
    """Pairs within a group of equal prose: each text with the first one on every side that is not higher."""
    if len(group) < 2:
        return
    firsts = [
        (where, first, normalise(texts[first]), len(split_words(texts[first])))
        for where, first in sorted(_firsts(group, side).items())
    ]
    for index in group:
        text = normalise(texts[index])
        for where, first, other, words in firsts:
            if where <= side[index] and first != index:
                low, high = sorted((first, index))
                yield SimilarPair(low, high, "copy" if text == other else "words", words=words)


def _spread(
    pair: SimilarPair,
    groups: Sequence[Sequence[int]],
    first: Sequence[dict[int, int]],
    side: Sequence[int],
    expanded: set[tuple[int, int]],
) -> Iterator[SimilarPair]:
    """Expands a pair of groups into pairs of texts: the first of each side and, once, all on a higher side.

    expanded: (group, side) whose texts above that side already have a pair on it.
    """
    for low, high in ((pair.one, pair.other), (pair.other, pair.one)):
        for where, index in sorted(first[low].items()):
            met = [at for beyond, at in first[high].items() if beyond > where]
            if met and (high, where) not in expanded:
                expanded.add((high, where))
                met = [at for at in groups[high] if side[at] > where]
            if low == pair.one and where in first[high]:
                met.append(first[high][where])
            for at in met:
                yield replace(pair, one=min(index, at), other=max(index, at))


def _features(words: Words) -> Any:
    """Sparse matrix with a row per text and a column per word and word pair; values in bits."""
    from scipy.sparse import csr_matrix

    text, table = words.text, counters(words)
    width = words.known + table
    parts = [distinct(text * np.int64(width) + words.id)]
    for hash, where in runs(words, 2):
        parts.append(distinct(text[where] * np.int64(width) + words.known + counter(hash, table)))
    keys = distinct(np.concatenate(parts))
    del parts
    column = (keys % width).astype(np.int32)
    starts = np.searchsorted(keys, np.arange(words.texts + 1, dtype=np.int64) * width)
    weight = bits(np.bincount(column, minlength=width), words.texts)[column]
    return csr_matrix((weight, column, starts), shape=(words.texts, width))


def _scored(words: Words, texts: Sequence[str], pairs: Ints) -> list[SimilarPair]:
    """The candidates that are near-duplicates, of tier `inside` or else `letters`."""
    from scipy.sparse import csr_matrix

    if not len(pairs):
        return []
    features = _features(words)
    total = np.asarray(features.sum(axis=1)).ravel()
    present = csr_matrix(
        (np.ones_like(features.data), features.indices, features.indptr), shape=features.shape
    )
    shared = np.concatenate(
        [
            np.asarray(features[block[:, 0]].multiply(present[block[:, 1]]).sum(axis=1)).ravel()
            for block in np.array_split(pairs, -(-len(pairs) // BLOCK))
        ]
    )
    lengths = np.diff(words.starts)
    one, other = pairs.T
    inside = shared / np.maximum(np.minimum(total[one], total[other]), 1e-6)
    whole = shared / np.maximum(np.maximum(total[one], total[other]), 1e-6)
    beyond = shared / (2 * np.log2(max(words.texts, 2)))
    small = (lengths <= SHORT) & (np.array(list(map(len, texts))) <= SHORT_CHARACTERS)
    short = small[one] & small[other]
    cosine = np.zeros(len(pairs))
    cosine[short] = _cosines(texts, pairs[short])
    least = np.minimum(lengths[one], lengths[other])
    alike = ((inside >= INSIDE) | (cosine >= COSINE)) & (whole >= WHOLE) & (beyond >= BEYOND)
    alike |= (inside >= CONTAINED) & (beyond >= BEYOND_CONTAINED)
    return [
        SimilarPair(
            one=int(one[k]),
            other=int(other[k]),
            tier="inside" if inside[k] >= INSIDE else "letters",
            containment=float(inside[k]),
            reverse_containment=float(whole[k]),
            chance_ratio=float(beyond[k]),
            words=int(least[k]),
            cosine=float(cosine[k]),
        )
        for k in np.flatnonzero(alike)
    ]


def _cosines(texts: Sequence[str], pairs: Ints) -> Floats:
    """TF-IDF cosine of each pair over 3- to 5-grams of characters within words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not len(pairs):
        return np.zeros(0, dtype=np.float32)
    used, index = np.unique(pairs, return_inverse=True)
    index = index.reshape(pairs.shape)
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), dtype=np.float32)
    vectors = vectorizer.fit_transform([texts[k] for k in used])
    parts = np.array_split(index, -(-len(index) // BLOCK))
    return np.concatenate(
        [np.asarray(vectors[part[:, 0]].multiply(vectors[part[:, 1]]).sum(axis=1)).ravel() for part in parts]
    )
