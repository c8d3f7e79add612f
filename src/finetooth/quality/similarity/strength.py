"""How strongly one text repeats another: identical, normalised, edited, partial, or only similar.

Words are aligned in order (longest common subsequence), unlike the comparison in `near`, which finds the
pairs and weights words by their rarity. It tells an edited copy from two texts with the same vocabulary.
"""

from __future__ import annotations

from typing import Literal

from rapidfuzz.distance import LCSseq

from finetooth.quality.findings import question
from finetooth.quality.similarity.anchors import split_words
from finetooth.quality.similarity.near import CONTAINED, SimilarPair
from finetooth.types import Example

Strength = Literal["identical", "normalised", "edited", "partial", "similar"]
STRENGTHS: tuple[Strength, ...] = ("identical", "normalised", "edited", "partial", "similar")
# Minimum share of the longer text's words that an edited copy keeps in order; less from WORDY words on.
EDITED, EDITED_WORDY, WORDY = 0.8, 0.7, 8
SIMILAR = 0.6  # minimum share of the shorter text's words in order in the other one
PARTIAL = 0.9  # minimum share of the shorter text's words in order in the other one,
ANYWHERE = 24  # which must be in one piece if the shorter text has fewer words than this
LEAST = 5  # words of the shorter text
LONGEST = 4_000  # words of a text that is aligned: the time grows with the product of both lengths


def exact_strength(one: Example, other: Example) -> Strength:
    """`identical` or `normalised` (case, spaces, punctuation differ), for rows known to be the same."""
    return "identical" if one.context == other.context and question(one) == question(other) else "normalised"


def pair_strength(pair: SimilarPair, one: Example, other: Example) -> tuple[Strength, float] | None:
    """The strength of a near-duplicate pair, and the share of words that it is judged by. None if the texts
    share rare words, but neither most words in the same order nor nearly all of them.

    The share is of the longer text for `edited`, of the shorter one for `partial`; otherwise `pair.share`.
    """
    if pair.tier in ("copy", "words"):
        return exact_strength(one, other), 1.0
    short, long = sorted((split_words(question(one)), split_words(question(other))), key=len)
    if len(long) > LONGEST:
        if pair.reverse_containment >= CONTAINED:
            return "edited", pair.reverse_containment
        return ("partial" if pair.containment >= PARTIAL else "similar"), pair.containment
    if len(short) < LEAST:
        return "similar", pair.share
    kept = LCSseq.similarity(short, long)
    if kept >= EDITED * len(long):
        return "edited", kept / len(long)
    if kept >= PARTIAL * len(short) and (len(short) >= ANYWHERE or _in_one_piece(short, long)):
        return "partial", kept / len(short)
    if kept >= EDITED_WORDY * len(long) and len(short) >= WORDY:
        return "edited", kept / len(long)
    if kept >= SIMILAR * len(short) or pair.containment >= CONTAINED:
        return "similar", pair.share
    return None


def _in_one_piece(short: list[str], long: list[str]) -> bool:
    """Whether the shorter text, but for up to a tenth of its words at the ends, is a passage of the other."""
    passage = f" {' '.join(long)} "
    ends = int((1 - PARTIAL) * len(short) + 1e-9)
    return any(f" {' '.join(short[cut : len(short) - ends + cut])} " in passage for cut in range(ends + 1))
