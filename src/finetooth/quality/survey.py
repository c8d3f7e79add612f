"""What training will really see of the rows: lengths in tokens, what does not fit, and a few rows in full."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from finetooth.config.values import format_count
from finetooth.data.examples import source_location
from finetooth.data.render.overlong import cuttable
from finetooth.data.render.renderer import MOST_UNUSABLE, Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.data.render.turns import answer_turn
from finetooth.errors import DataError
from finetooth.privacy.masking import redact, redacted_spans
from finetooth.quality.findings import Hit
from finetooth.rundir import read_json
from finetooth.tree import Row
from finetooth.types import Example, Message


@dataclass(frozen=True, slots=True)
class Piece:
    """The text that one token adds to a row. A token that ends within a character adds none, the next all."""

    text: str
    scored: bool
    special: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """One row as text: what the model is given, and what it has to write, its stop token last.

    pieces: the same row token by token, as far as a tokenizer is known. about: what else there is to say.
    """

    id: str
    where: str
    context: str
    scored: str
    pieces: tuple[Piece, ...] = ()
    about: str = ""

    def redacted(self) -> Sample:
        """The same with personal data and secrets hidden, the tokens of each value as one piece."""
        return replace(
            self, context=redact(self.context), scored=redact(self.scored), pieces=tuple(_hidden(self.pieces))
        )

    def to_json(self) -> dict[str, str]:
        """The row without its single tokens."""
        return {"id": self.id, "where": self.where, "context": self.context, "scored": self.scored}


def _hidden(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """The pieces without what is left of a value beside its stub, which stands where the value began."""
    values = redacted_spans("".join(piece.text for piece in pieces))
    at = 0
    for piece in pieces:
        end = at + len(piece.text)
        text, done = "", at
        for first, last, stub in values:
            if first < end and last > at:
                text += piece.text[done - at : max(first, at) - at] + (stub if first >= at else "")
                done = min(last, end)
        if kept := text + piece.text[done - at :]:
            yield replace(piece, text=kept)
        at = end


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
    """Rows in tokens. overlong: examples longer than `limit`, uncuttable: those that do not fit when cut;
    unusable: those that cannot be rendered, and why. stopped: so many of these that training stops.

    lost: scored tokens of the overlong rows. unknown: examples with tokens that the tokenizer does not know.
    unembedded: tokens of the rows that the model has no embedding for. lengths: context and scored tokens of
    every row.
    """

    template: str
    stop: str
    rows: int
    context: Lengths
    scored: Lengths
    scored_tokens: int
    row_tokens: int
    boundary_merges: int
    limit: int | None
    overlong: list[Hit]
    uncuttable: list[Hit]
    lost: int
    unusable: list[Hit]
    stopped: bool
    unknown: list[Hit]
    unembedded: list[str]
    lengths: tuple[list[int], list[int]]
    samples: list[Sample]
    notes: list[str]


def survey(
    renderer: Renderer, sides: Mapping[str, Sequence[Example]], limit: int | None, embedded: int | None = None
) -> Survey:
    """Render every example and count; the samples are of the training rows.

    limit: the longest row. embedded: how many tokens the model embeds. None: not known.
    Raises DataError when not a single example can be rendered.
    """
    rows, samples = list[Row](), list[Sample]()
    found = _Odd()
    shown = _spread(sides["train"])
    refused: Counter[str] = Counter()
    for side, example in ((side, example) for side, examples in sides.items() for example in examples):
        try:
            own = renderer.rows(example)
        except DataError as error:
            refused[side] += 1
            found.unusable.append(Hit.of(example, side, str(error)))
            continue
        rows.extend(own)
        renderer.count_thoughts(example)
        found.look(side, example, own, limit, renderer.tokenizer.unknown_id)
        if example.id in shown:
            samples.append(sample(renderer, example, own))
    if not rows:
        raise DataError(f"No row can be rendered. The first: {found.unusable[0].evidence}")
    plain = not any(example.context for examples in sides.values() for example in examples)
    scored = [int(np.count_nonzero(row.weight)) for row in rows]
    context = [len(row) - count for row, count in zip(rows, scored, strict=True)]
    return Survey(
        template="none, plain text" if plain else renderer.kind,
        stop=renderer.tokenizer.text_of(int(rows[-1].tokens[-1]) if plain else renderer.stop_id),
        rows=len(rows),
        context=Lengths.of(context),
        scored=Lengths.of(scored),
        scored_tokens=sum(scored),
        row_tokens=sum(map(len, rows)),
        boundary_merges=renderer.boundary_merges,
        limit=limit,
        overlong=found.overlong,
        uncuttable=found.uncuttable,
        lost=found.lost,
        unusable=found.unusable,
        stopped=_stopped(sides, refused),
        unknown=found.unknown,
        unembedded=_unembedded(renderer, rows, embedded),
        lengths=(context, scored),
        samples=samples,
        notes=list(renderer.notes),
    )


@dataclass(slots=True)
class _Odd:
    """Examples that are not like the others once they are tokens."""

    overlong: list[Hit] = field(default_factory=list)
    uncuttable: list[Hit] = field(default_factory=list)
    unusable: list[Hit] = field(default_factory=list)
    unknown: list[Hit] = field(default_factory=list)
    lost: int = 0

    def look(
        self, side: str, example: Example, rows: Sequence[Row], limit: int | None, unknown: int | None
    ) -> None:
        """File an example by its rows."""
        longest = max(map(len, rows))
        if limit is not None and longest > limit:
            hit = Hit.of(example, side, f"{longest:,} tokens, of at most {limit:,}")
            self.overlong.append(hit)
            self.lost += sum(int(np.count_nonzero(row.weight)) for row in rows if len(row) > limit)
            if any(len(row) - cuttable(row) > limit for row in rows):
                self.uncuttable.append(hit)
        if unknown is not None and (count := sum(int(np.sum(row.tokens == unknown)) for row in rows)):
            self.unknown.append(
                Hit.of(example, side, f"{format_count(count, 'token')} that the tokenizer does not know")
            )


def _stopped(sides: Mapping[str, Sequence[Example]], refused: Counter[str]) -> bool:
    """Whether training stops for rows of a side that cannot be rendered; test rows it does not render."""
    seen = sum(len(examples) for side, examples in sides.items() if side != "test")
    return max(refused["train"], refused["validation"]) > MOST_UNUSABLE * seen


def _unembedded(renderer: Renderer, rows: Sequence[Row], embedded: int | None) -> list[str]:
    """Texts of tokens beyond those that the model embeds."""
    if embedded is None:
        return []
    found = {int(index) for row in rows for index in row.tokens[row.tokens >= embedded]}
    return [renderer.tokenizer.text_of(index) for index in sorted(found)]


def embedded_tokens(directory: Path) -> int | None:
    """How many tokens the model in a directory embeds, as its config.json says; None when it does not."""
    path = directory / "config.json"
    config = read_json(path) if path.is_file() else {}
    values = [config, config.get("text_config")] if isinstance(config, dict) else []
    sizes = [value.get("vocab_size") for value in values if isinstance(value, dict)]
    return next((size for size in sizes if isinstance(size, int) and size > 0), None)


def plain_samples(examples: Sequence[Example]) -> list[Sample]:
    """The same rows without a tokenizer: messages by role, and the answer."""
    shown = _spread(examples)
    return [
        Sample(
            example.id,
            source_location(example),
            "".join(f"{message.role}: {_plain(message)}\n" for message in example.context),
            _plain(answer_turn(example)),
        )
        for example in examples
        if example.id in shown
    ]


def _spread(examples: Sequence[Example]) -> set[str]:
    """Ids of three examples from the start, the middle and the end."""
    last = len(examples) - 1
    return {examples[index].id for index in (0, last // 2, last)} if examples else set()


def _plain(message: Message) -> str:
    """A turn without a template: its text, and what else it came with as JSON."""
    more = json.dumps(dict(message.more), ensure_ascii=False, default=str) if message.more else ""
    return " ".join(text for text in (message.content, more) if text)


def sample(renderer: Renderer, example: Example, rows: Sequence[Row]) -> Sample:
    """The last row of an example, as text and token by token."""
    row, decode = rows[-1], renderer.tokenizer.decode
    scored = row.weight > 0
    count = int(np.count_nonzero(scored))
    about = f"{len(row) - count:,} tokens of context, {count:,} scored"
    if len(rows) > 1:
        about += f"; the last of {len(rows)} answers, each a row of its own"
    return Sample(
        example.id,
        source_location(example),
        decode(row.tokens[~scored]),
        decode(row.tokens[scored]),
        _pieces(renderer.tokenizer, row),
        about,
    )


def _pieces(tokenizer: Tokenizer, row: Row) -> tuple[Piece, ...]:
    """Each token's text, decoded behind the tokens of the last text that was whole: spaces depend on them."""
    ids = row.tokens.tolist()
    found: list[Piece] = []
    start = done = 0
    for end in range(1, len(ids) + 1):
        before, after = tokenizer.decode(ids[start:done]), tokenizer.decode(ids[start:end])
        text = "" if after.endswith("\ufffd") and end < len(ids) else after[len(before) :]
        if text:
            start, done = done, end
        found.append(Piece(text, bool(row.weight[end - 1] > 0), ids[end - 1] in tokenizer.special_ids))
    return tuple(found)
