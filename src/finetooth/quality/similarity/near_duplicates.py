"""Near-duplicate pairs of all rows of a view, computed once for several rules."""

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
    """Rows and near-duplicate pairs of a view, computed once."""
    return view.once("pairs", lambda: _search(view))


def reuse_near_duplicates(view: View, pairs: Iterable[tuple[str, str, SimilarPair]]) -> None:
    """Make `find_near_duplicates` return pairs found earlier, each with the ids of its two rows."""
    rows = list(view.rows())
    at = {row.id: position for position, (_, row) in enumerate(rows)}

    def placed(one: str, other: str, pair: SimilarPair) -> SimilarPair:
        low, high = sorted((at[one], at[other]))
        return replace(pair, one=low, other=high)

    view.once("pairs", lambda: NearDuplicates(rows, sorted((placed(*pair) for pair in pairs), key=rank)))


def _search(view: View) -> NearDuplicates:
    rows = list(view.rows())
    number = {side: position for position, side in enumerate(view.sides)}
    texts = [question(example) for _, example in rows]
    return NearDuplicates(rows, find_similar_pairs(texts, [number[side] for side, _ in rows], view.progress))
