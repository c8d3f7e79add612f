"""Rows longer than the model or the user allows: refused, dropped or cut, never silently."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from finetooth.config.values import first_few
from finetooth.data.examples import source_location
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import DataError
from finetooth.tree import Row
from finetooth.types import Example

Overlong = Literal["raise", "drop", "cut"]
SHOWN = 5


@dataclass(frozen=True, slots=True)
class FittedRows:
    """Rows that fit, in the caller's order, and the ids of those cut or dropped."""

    rows: list[Row]
    cut: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def row_limit(max_tokens: int | Literal["auto"], positions: int | None, tokenizer: Tokenizer) -> int | None:
    """Maximum row length in tokens: the least of max_tokens, positions and the tokenizer's limit, or None."""
    limits = [positions, tokenizer.model_max_length, None if max_tokens == "auto" else max_tokens]
    return min((limit for limit in limits if limit is not None), default=None)


def fit_rows(  # long: the three policies, one after the other
    rows: Sequence[Row], max_tokens: int | None, overlong: Overlong, examples: Sequence[Example] = ()
) -> FittedRows:
    """Rows of at most `max_tokens` tokens; None is no limit.

    raise: a longer row is an error. drop: it is left out. cut: tokens of its context are removed, oldest
    first, but never its beginning (BOS, system), the answer's opening or a scored token; a row that is still
    too long is an error. Rows of one unit (a pair) are dropped together, or lose the same context tokens.
    examples: to name file and line in messages. Raises DataError.
    """
    if max_tokens is None:
        return FittedRows(list(rows))
    excess: dict[Hashable, int] = {}  # tokens to remove, by unit
    for index, row in enumerate(rows):
        excess[row.unit_key(index)] = max(excess.get(row.unit_key(index), 0), len(row) - max_tokens)
    long = [row for row in rows if len(row) > max_tokens]
    if not long:
        return FittedRows(list(rows))
    places = {example.id: source_location(example) for example in examples}
    if overlong == "raise":
        worst = max(len(row) for row in long)
        raise DataError(
            f"{len(long)} of {len(rows)} rows are longer than {max_tokens} tokens (the longest: {worst}): "
            f"{_listed(long, places)}. Set data.overlong: cut (shortens contexts from the left) or drop, "
            "or raise data.max_tokens if the model allows it."
        )
    if overlong == "drop":
        kept = [row for index, row in enumerate(rows) if not excess[row.unit_key(index)]]
        if not kept:
            raise DataError(
                f"All {len(rows)} rows are longer than {max_tokens} tokens: data.overlong: drop leaves none."
            )
        return FittedRows(kept, dropped=list(dict.fromkeys(row.id for row in long)))
    uncuttable = [row for index, row in enumerate(rows) if cuttable(row) < excess[row.unit_key(index)]]
    if uncuttable:
        raise DataError(
            f"{len(uncuttable)} rows do not fit {max_tokens} tokens even without their context: "
            f"{_listed(uncuttable, places)}. Set data.overlong: drop to leave them out, or raise "
            "data.max_tokens."
        )
    fitted = list(rows)
    for index, row in enumerate(rows):
        if count := excess[row.unit_key(index)]:
            start = _removable(row)[0]
            removed = np.s_[start : start + count]
            signals = {
                name: np.delete(value, removed)
                if np.shape(value) == row.tokens.shape and len(row) > 1
                else value
                for name, value in row.signals.items()
            }
            fitted[index] = replace(
                row,
                tokens=np.delete(row.tokens, removed),
                weight=np.delete(row.weight, removed),
                signals=signals,
            )
    return FittedRows(fitted, cut=list(dict.fromkeys(row.id for row in long)))


def cuttable(row: Row) -> int:
    """How many tokens of a row `overlong: cut` can remove."""
    start, end = _removable(row)
    return end - start


def _removable(row: Row) -> tuple[int, int]:
    """Start and end of the part of the context that may be removed."""
    scored = np.flatnonzero(row.weight)
    answer = int(scored[0]) if scored.size else len(row)
    head, tail = row.kept
    return min(head, answer), max(answer - tail, min(head, answer))


def _listed(rows: Sequence[Row], places: Mapping[str, str]) -> str:
    """The first few ids, each once, with file and line if known."""
    names = [places.get(row.example_id) or row.id or "?" for row in rows]
    return first_few(list(dict.fromkeys(names)), SHOWN)  # rows of a pair or conversation share one
