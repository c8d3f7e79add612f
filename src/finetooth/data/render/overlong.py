"""Rows that are longer than the model, or than the user allows: never cut silently."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from finetooth.data.examples import source_location
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import DataError
from finetooth.tree import Row
from finetooth.types import Example

Overlong = Literal["raise", "drop", "cut"]
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Fitted:
    """Rows that fit, in the caller's order, and the ids of those that were cut or dropped to get there."""

    rows: list[Row]
    cut: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def row_limit(wanted: int | Literal["auto"], positions: int | None, tokenizer: Tokenizer) -> int | None:
    """The longest row in tokens that is wanted and that model and tokenizer allow; None without a limit."""
    limits = [positions, tokenizer.model_max_length, None if wanted == "auto" else wanted]
    return min((limit for limit in limits if limit is not None), default=None)


def fit_rows(
    rows: Sequence[Row], max_tokens: int | None, overlong: Overlong, examples: Sequence[Example] = ()
) -> Fitted:
    """Rows of at most `max_tokens` tokens.

    raise: a longer row is an error. drop: it is left out. cut: tokens of its context go, oldest first, but
    never its beginning (BOS, system), the answer's opening or a scored token; a row that is still too long is
    an error. Rows of one unit (a pair) are dropped together, or lose the same tokens of their context.
    None means no limit. `examples` let the messages name file and line. Raises DataError.
    """
    if max_tokens is None:
        return Fitted(list(rows))
    over: dict[Hashable, int] = {}  # unit, or row -> tokens that have to go
    for index, row in enumerate(rows):
        over[row.unit_key(index)] = max(over.get(row.unit_key(index), 0), len(row) - max_tokens)
    long = [row for row in rows if len(row) > max_tokens]
    if not long:
        return Fitted(list(rows))
    places = {example.id: source_location(example) for example in examples}
    if overlong == "raise":
        worst = max(len(row) for row in long)
        raise DataError(
            f"{len(long)} of {len(rows)} rows are longer than {max_tokens} tokens (the longest: {worst}): "
            f"{_listed(long, places)}. Set data.overlong: cut (shortens contexts from the left) or drop, "
            "or raise data.max_tokens if the model allows it."
        )
    if overlong == "drop":
        kept = [row for index, row in enumerate(rows) if not over[row.unit_key(index)]]
        if not kept:
            raise DataError(
                f"All {len(rows)} rows are longer than {max_tokens} tokens: data.overlong: drop leaves none."
            )
        return Fitted(kept, dropped=list(dict.fromkeys(row.id for row in long)))
    hopeless = [row for index, row in enumerate(rows) if cuttable(row) < over[row.unit_key(index)]]
    if hopeless:
        raise DataError(
            f"{len(hopeless)} rows do not fit {max_tokens} tokens even without their context: "
            f"{_listed(hopeless, places)}. Set data.overlong: drop to leave them out, or raise "
            "data.max_tokens."
        )
    return Fitted(
        [_cut(row, gone) if (gone := over[row.unit_key(index)]) else row for index, row in enumerate(rows)],
        cut=list(dict.fromkeys(row.id for row in long)),
    )


def _frame(row: Row) -> tuple[int, int]:
    """Where the part of the context that may go starts and ends."""
    scored = np.flatnonzero(row.weight)
    answer = int(scored[0]) if scored.size else len(row)
    head, tail = row.kept
    return min(head, answer), max(answer - tail, min(head, answer))


def cuttable(row: Row) -> int:
    """How many tokens of a row `overlong: cut` may take."""
    start, end = _frame(row)
    return end - start


def _cut(row: Row, count: int) -> Row:
    start = _frame(row)[0]
    gone = np.s_[start : start + count]
    signals = {
        name: np.delete(value, gone) if np.shape(value) == row.tokens.shape and len(row) > 1 else value
        for name, value in row.signals.items()
    }
    return replace(
        row, tokens=np.delete(row.tokens, gone), weight=np.delete(row.weight, gone), signals=signals
    )


def _listed(rows: Sequence[Row], places: Mapping[str, str]) -> str:
    """The first few ids, each once, with file and line where they are known."""
    named = [places.get(row.example_id) or row.id or "?" for row in rows]
    names = list(dict.fromkeys(named))  # a pair, and the turns of a conversation, share one
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
