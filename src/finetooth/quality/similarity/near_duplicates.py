"""The near-duplicate pairs of all rows, found once and asked for by several rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from finetooth.quality.findings import View, question
from finetooth.quality.similarity.near import SimilarPair, find_similar_pairs, rank
from finetooth.types import Example

Row = tuple[str, Example]


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """All rows of a view and their near-duplicate pairs, by position in `rows`."""

    rows: list[Row]
    pairs: list[SimilarPair]


def find_near_duplicates(view: View) -> NearDuplicates:
    """The rows and pairs of a view, found once."""
    return view.once("pairs", lambda: _looked(view))


def reuse_near_duplicates(view: View, pairs: Iterable[tuple[str, str, SimilarPair]]) -> None:
    """Have `find_near_duplicates` give pairs that were found already, each with the ids of its two rows."""
    rows = list(view.rows())
    at = {row.id: position for position, (_, row) in enumerate(rows)}

    def placed(one: str, other: str, pair: SimilarPair) -> SimilarPair:
        low, high = sorted((at[one], at[other]))
        return replace(pair, one=low, other=high)

    view.once("pairs", lambda: NearDuplicates(rows, sorted((placed(*pair) for pair in pairs), key=rank)))


def _looked(view: View) -> NearDuplicates:
    rows = list(view.rows())
    number = {side: position for position, side in enumerate(view.sides)}
    texts = [question(example) for _, example in rows]
    return NearDuplicates(rows, find_similar_pairs(texts, [number[side] for side, _ in rows], view.progress))
