"""The near-duplicate pairs of all rows, found once and asked for by several rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from finetooth.quality.findings import View, question
from finetooth.quality.similarity.near import Pair, pairs_of, rank
from finetooth.types import Example

Row = tuple[str, Example]


@dataclass(frozen=True, slots=True)
class Looked:
    """All rows of a view and their near-duplicate pairs, by position in `rows`."""

    rows: list[Row]
    pairs: list[Pair]


def looked(view: View) -> Looked:
    """The rows and pairs of a view, found once."""
    return view.once("pairs", lambda: _looked(view))


def known(view: View, pairs: Iterable[tuple[str, str, Pair]]) -> None:
    """Have `looked` give pairs that were found already, each with the ids of its two rows."""
    rows = list(view.rows())
    at = {row.id: position for position, (_, row) in enumerate(rows)}

    def placed(one: str, other: str, pair: Pair) -> Pair:
        low, high = sorted((at[one], at[other]))
        return replace(pair, one=low, other=high)

    view.once("pairs", lambda: Looked(rows, sorted((placed(*pair) for pair in pairs), key=rank)))


def _looked(view: View) -> Looked:
    rows = list(view.rows())
    number = {side: position for position, side in enumerate(view.sides)}
    texts = [question(example) for _, example in rows]
    return Looked(rows, pairs_of(texts, [number[side] for side, _ in rows], view.step))
