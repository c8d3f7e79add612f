"""The rows of a preflight check: selection, the lowest possible loss, and display."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.text import Text

from finetooth.data.examples import normalised_context
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.data.render.turns import answer_turn
from finetooth.evaluation.prompts import Prompt
from finetooth.tree import Row
from finetooth.types import Example, Message

ROWS, FEWEST = 8, 2
SHOWN = 100  # characters of the end of a context


@dataclass(frozen=True, slots=True)
class PreflightRow:
    """A row to memorise. example: what evaluation would ask; None for plain text and truncated rows."""

    row: Row
    example: Example | None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages that evaluation sends for it."""
        return Prompt("preflight").messages(self.example) if self.example else ()


def select_rows(
    rows: Sequence[Row], examples: Sequence[Example], most: int, truncation_limit: int | None
) -> list[PreflightRow]:
    """Up to 8 of the shortest rows with different contexts, of at most `most` tokens in total, at least two.

    A conversation contributes its last trained turn. Rows that evaluation can ask for are preferred: not
    those whose last turn is only context, nor rows of `truncation_limit` or more tokens, which may have been
    truncated.
    """
    by_id = {example.id: example for example in examples}
    last: dict[str, Row] = {}
    for row in rows:
        last[row.example_id] = row
    candidates: list[PreflightRow] = []
    for id, row in last.items():
        example = by_id.get(id)
        answerable = (
            example is not None
            and bool(example.context)
            and answer_turn(example).weight > 0
            and (truncation_limit is None or len(row) < truncation_limit)
        )
        candidates.append(PreflightRow(row, example if answerable else None))
    if any(one.example for one in candidates):
        candidates = [one for one in candidates if one.example]
    candidates.sort(key=lambda one: (len(one.row), one.row.id))
    selected: list[PreflightRow] = []
    seen: set[str | bytes] = set()
    tokens = 0
    for one in candidates:
        key = normalised_context(one.example) if one.example else one.row.tokens.tobytes()
        tokens += len(one.row)
        if len(selected) == ROWS or (len(selected) >= FEWEST and tokens > most):
            break
        if key not in seen:
            seen.add(key)
            selected.append(one)
    return selected


def lowest_loss(rows: Sequence[Row]) -> float:
    """The lowest loss that the rows allow, nats per token: equal prefixes may continue differently."""
    seen: Counter[bytes] = Counter()
    for row in rows:
        seen.update(row.tokens[: at + 1].tobytes() for at in range(len(row)))
    least = units = 0.0
    for row in rows:
        for at in np.flatnonzero(row.weight):
            tokens, weight = row.tokens, float(row.weight[at])
            least += weight * math.log(seen[tokens[:at].tobytes()] / seen[tokens[: at + 1].tobytes()])
            units += weight
    return least / units if units else 0.0


def format_row(one: PreflightRow, tokenizer: Tokenizer) -> Text:
    """A row for the console: the end of its context, then the scored text between ⟦ and ⟧, green."""
    scored = np.flatnonzero(one.row.weight)
    at = int(scored[0]) if scored.size else len(one.row)
    tokens = one.row.tokens.tolist()
    context = tokenizer.decode(tokens[:at])
    start = "..." if len(context) > SHOWN else ""
    answer = tokenizer.decode(tokens[at:])
    end = "..." if len(answer) > 3 * SHOWN else ""
    return Text.assemble(
        f"preflight: {one.row.id}: ",
        (f"{start}{context[-SHOWN:]}".replace("\n", "↵"), "dim"),
        (f"⟦{answer[: 3 * SHOWN]}{end}⟧".replace("\n", "↵"), "green"),
    )
