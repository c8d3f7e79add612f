"""The rows of a preflight check: which are taken, and how they are shown."""

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
SHOWN = 100  # characters of a context's end


@dataclass(frozen=True, slots=True)
class PreflightRow:
    """A row to learn. example: what evaluation would ask; None for plain text and rows that were cut."""

    row: Row
    example: Example | None

    @property
    def messages(self) -> tuple[Message, ...]:
        """What evaluation sends for it."""
        return Prompt("preflight").messages(self.example) if self.example else ()


def pick(
    rows: Sequence[Row], examples: Sequence[Example], most: int, uncut: int | None
) -> list[PreflightRow]:
    """Up to 8 of the shortest rows with different contexts: as many as hold `most` tokens, at least two.

    Of a conversation the last turn that is learned. Rows that evaluation can ask for go first: not those
    whose last turn is context alone, nor rows of `uncut` tokens, which may have been cut.
    """
    by_id = {example.id: example for example in examples}
    last: dict[str, Row] = {}
    for row in rows:
        last[row.example_id] = row
    found: list[PreflightRow] = []
    for id, row in last.items():
        example = by_id.get(id)
        asked = (
            example is not None
            and bool(example.context)
            and answer_turn(example).weight > 0
            and (uncut is None or len(row) < uncut)
        )
        found.append(PreflightRow(row, example if asked else None))
    if any(one.example for one in found):
        found = [one for one in found if one.example]
    found.sort(key=lambda one: (len(one.row), one.row.id))
    picked: list[PreflightRow] = []
    seen: set[str | bytes] = set()
    tokens = 0
    for one in found:
        key = normalised_context(one.example) if one.example else one.row.tokens.tobytes()
        tokens += len(one.row)
        if len(picked) == ROWS or (len(picked) >= FEWEST and tokens > most):
            break
        if key not in seen:
            seen.add(key)
            picked.append(one)
    return picked


def floor(rows: Sequence[Row]) -> float:
    """The least loss that rows can have, nats a token: from one beginning they may go on differently."""
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


def all_scored(row: Row) -> Row:
    """The row with its context scored too: where a model is sure, a small change of weights hardly shows."""
    return Row(row.tokens, [0.0] + [1.0] * (len(row) - 1), id=row.id)


def shown(one: PreflightRow, tokenizer: Tokenizer) -> Text:
    """A row for a person: the end of its context, and what is scored in brackets and in green."""
    scored = np.flatnonzero(one.row.weight)
    at = int(scored[0]) if scored.size else len(one.row)
    tokens = one.row.tokens.tolist()
    context = tokenizer.decode(tokens[:at])
    cut = "..." if len(context) > SHOWN else ""
    answer = tokenizer.decode(tokens[at:])
    end = "..." if len(answer) > 3 * SHOWN else ""
    return Text.assemble(
        f"preflight: {one.row.id}: ",
        (f"{cut}{context[-SHOWN:]}".replace("\n", "\\n"), "dim"),
        (f"[{answer[: 3 * SHOWN]}{end}]".replace("\n", "\\n"), "green"),
    )
