"""What training will really see of the rows: lengths in tokens, what does not fit, and a few rows in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from finetooth.data.examples import place
from finetooth.data.render import Renderer
from finetooth.errors import DataError
from finetooth.tree import Row
from finetooth.types import Example


@dataclass(frozen=True, slots=True)
class Sample:
    """One row as text: what the model is given, and what it has to write, its stop token last."""

    id: str
    where: str
    context: str
    scored: str


@dataclass(frozen=True, slots=True)
class Lengths:
    """Median, 95th percentile and maximum of a count of tokens."""

    p50: int
    p95: int
    max: int

    @classmethod
    def of(cls, counts: Sequence[int]) -> Lengths:
        """Of at least one count; percentiles are observed values."""
        p50, p95 = np.percentile(counts, [50, 95], method="lower")
        return cls(int(p50), int(p95), max(counts))


@dataclass(frozen=True, slots=True)
class Survey:
    """Rows in tokens. overlong: places of examples longer than `limit`; unusable: (place, reason)."""

    template: str
    stop: str
    rows: int
    context: Lengths
    scored: Lengths
    scored_tokens: int
    row_tokens: int
    boundary_merges: int
    limit: int | None
    overlong: list[str]
    unusable: list[tuple[str, str]]
    samples: list[Sample]
    notes: list[str]


def survey(renderer: Renderer, sides: Mapping[str, Sequence[Example]], limit: int | None) -> Survey:
    """Render every example and count; the samples are of the training rows.

    Raises DataError when not a single example can be rendered.
    """
    rows: list[Row] = []
    samples: list[Sample] = []
    overlong: list[str] = []
    unusable: list[tuple[str, str]] = []
    shown = _spread(sides["train"])
    for example in (example for examples in sides.values() for example in examples):
        try:
            own = renderer.rows(example)
        except DataError as error:
            unusable.append((place(example), str(error)))
            continue
        rows.extend(own)
        if limit is not None and max(map(len, own)) > limit:
            overlong.append(place(example))
        if example.id in shown:
            samples.append(_sample(renderer, example, own[-1]))
    if not rows:
        raise DataError(f"No row can be rendered. The first: {unusable[0][1]}")
    scored = [int(np.count_nonzero(row.weight)) for row in rows]
    return Survey(
        template=renderer.kind,
        stop=renderer.tokenizer.text_of(renderer.stop_id),
        rows=len(rows),
        context=Lengths.of([len(row) - count for row, count in zip(rows, scored, strict=True)]),
        scored=Lengths.of(scored),
        scored_tokens=sum(scored),
        row_tokens=sum(map(len, rows)),
        boundary_merges=renderer.boundary_merges,
        limit=limit,
        overlong=overlong,
        unusable=unusable,
        samples=samples,
        notes=list(renderer.notes),
    )


def plain_samples(examples: Sequence[Example]) -> list[Sample]:
    """The same rows without a tokenizer: messages by role, and the answer."""
    shown = _spread(examples)
    return [
        Sample(
            example.id,
            place(example),
            "".join(f"{message.role}: {message.content}\n" for message in example.context),
            example.target,
        )
        for example in examples
        if example.id in shown
    ]


def _spread(examples: Sequence[Example]) -> set[str]:
    """Ids of three examples from the start, the middle and the end."""
    last = len(examples) - 1
    return {examples[index].id for index in (0, last // 2, last)} if examples else set()


def _sample(renderer: Renderer, example: Example, row: Row) -> Sample:
    decode = renderer.tokenizer.decode
    scored = row.weight > 0
    return Sample(example.id, place(example), decode(row.tokens[~scored]), decode(row.tokens[scored]))
