"""What training will see of the rows: token counts, rows that do not fit, and a few rows in full."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from finetooth.config.values import format_count
from finetooth.data.examples import different_first, source_location
from finetooth.data.render.limits import TemplateLimit
from finetooth.data.render.overlong import cuttable
from finetooth.data.render.renderer import MAX_UNUSABLE, Renderer
from finetooth.data.render.turns import answer_turn
from finetooth.errors import DataError
from finetooth.privacy.masking import redact, redacted_spans
from finetooth.quality.findings import Hit
from finetooth.tree import Row
from finetooth.types import Example, Message

EDGE = 1_000  # tokens at each end of a context, and of an answer, that are decoded one by one
COPIES = 1_000  # different examples whose copies are not rendered again
LONGEST_CHARACTER = 8  # tokens that a character can have


@dataclass(frozen=True, slots=True)
class TokenText:
    """The text that one token adds to a row; "" for a token that ends within a character.

    tokens: more than 1 for the middle of a long row, which is one text.
    """

    text: str
    scored: bool
    special: bool
    tokens: int = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One row as text: its context, and the scored text with its stop token.

    pieces: the row token by token; () without a tokenizer. about: a remark, such as the token counts.
    """

    id: str
    where: str
    context: str
    scored: str
    pieces: tuple[TokenText, ...] = ()
    about: str = ""

    def redacted(self) -> Sample:
        """A copy with personal data and secrets redacted, the tokens of each value as one piece."""
        values = redacted_spans("".join(piece.text for piece in self.pieces))
        pieces: list[TokenText] = []
        at = number = 0
        for piece in self.pieces:
            end = at + len(piece.text)
            parts, done = list[str](), at
            while number < len(values) and values[number][0] < end:
                first, last, stub = values[number]  # the stub goes where the value starts
                parts += [piece.text[done - at : max(first, at) - at], stub if first >= at else ""]
                done = min(last, end)
                if last > end:
                    break
                number += 1
            text = "".join(parts)
            if kept := text + piece.text[done - at :]:
                pieces.append(replace(piece, text=kept))
            at = end
        return replace(self, context=redact(self.context), scored=redact(self.scored), pieces=tuple(pieces))

    def to_json(self) -> dict[str, str]:
        """The row without its tokens."""
        return {"id": self.id, "where": self.where, "context": self.context, "scored": self.scored}


@dataclass(frozen=True, slots=True)
class Lengths:
    """Median, 95th percentile and maximum of token counts."""

    p50: int
    p95: int
    max: int

    @classmethod
    def of(cls, counts: Sequence[int]) -> Lengths:
        """Statistics of at least one count; percentiles are observed values."""
        p50, p95 = np.percentile(counts, [50, 95], method="lower")
        return cls(int(p50), int(p95), max(counts))


@dataclass(frozen=True, slots=True)
class Survey:
    """Token statistics of the rows.

    overlong: examples longer than `limit`. uncuttable: those that do not fit even when cut. unusable:
    those that cannot be rendered, with the reason. stopped: whether these are so many that training stops.
    lost: scored tokens of the overlong rows. unknown: examples with text outside the vocabulary. forged:
    those with the text of a special token in their context. unembedded: tokens for which the model has no
    embedding. lengths: context and scored tokens of every row.
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
    forged: list[Hit]
    unembedded: list[str]
    lengths: tuple[list[int], list[int]]
    samples: list[Sample]
    notes: list[str]


def survey(  # long: one pass over the rows and its result
    renderer: Renderer,
    sides: Mapping[str, Sequence[Example]],
    limit: int | None,
    embedded: int | None = None,
    pairs: bool = False,
) -> Survey:
    """Render all examples and count tokens; the samples are training rows.

    limit: maximum row length. embedded: number of token embeddings of the model. None: not known.
    pairs: the rows are trained on as preference pairs, so the two answers of each have to differ.
    Raises DataError if not a single example can be rendered.
    """
    tokenizer, unknown_id = renderer.tokenizer, renderer.tokenizer.unknown_id
    rows, samples = list[Row](), list[Sample]()
    overlong, uncuttable, unusable, unknown = list[Hit](), list[Hit](), list[Hit](), list[Hit]()
    forged: list[Hit] = []
    lost = 0
    refused: Counter[str] = Counter()
    sampled = _sample_ids(sides["train"])
    known: dict[bytes, tuple[list[Row], int]] = {}  # what was rendered before, and its merged boundaries
    merges = 0
    for side, example in ((side, example) for side, examples in sides.items() for example in examples):
        try:
            key = _content(example)
            if key not in known:
                before = renderer.boundary_merges
                own = renderer.rows(example)
                if pairs:
                    renderer.pair(example)
                if len(known) < COPIES:
                    known[key] = own, renderer.boundary_merges - before
            else:
                own = known[key][0]
                merges += known[key][1]
        except TemplateLimit:
            raise
        except DataError as error:
            refused[side] += 1
            unusable.append(Hit.of(example, side, str(error)))
            continue
        rows.extend(own)
        if special := renderer.special_text(example):
            forged.append(Hit.of(example, side, f"{special!r} is read as the token"))
        renderer.count_reasoning(example)
        longest = max(map(len, own))
        if limit is not None and longest > limit:
            hit = Hit.of(example, side, f"{longest:,} tokens, of at most {limit:,}")
            overlong.append(hit)
            lost += sum(int(np.count_nonzero(row.weight)) for row in own if len(row) > limit)
            if any(len(row) - cuttable(row) > limit for row in own):
                uncuttable.append(hit)
        if unknown_id is not None and (count := sum(int(np.sum(row.tokens == unknown_id)) for row in own)):
            words = f"{format_count(count, 'token')} that the tokenizer does not know"
            unknown.append(Hit.of(example, side, words))
        if example.id in sampled:
            samples.append(sample(renderer, example, own))
    if not rows:
        raise DataError(f"No row can be rendered. The first: {unusable[0].evidence}")
    plain = not any(example.context for examples in sides.values() for example in examples)
    scored = [int(np.count_nonzero(row.weight)) for row in rows]
    context = [len(row) - count for row, count in zip(rows, scored, strict=True)]
    unembedded: set[int] = set()
    if embedded is not None:
        unembedded = {int(index) for row in rows for index in row.tokens[row.tokens >= embedded]}
    trained = sum(len(examples) for side, examples in sides.items() if side != "test")
    return Survey(
        template="none, plain text" if plain else renderer.kind,
        stop=tokenizer.text_of(int(rows[-1].tokens[-1]) if plain else renderer.stop_id),
        rows=len(rows),
        context=Lengths.of(context),
        scored=Lengths.of(scored),
        scored_tokens=sum(scored),
        row_tokens=sum(map(len, rows)),
        boundary_merges=renderer.boundary_merges + merges,
        limit=limit,
        overlong=overlong,
        uncuttable=uncuttable,
        lost=lost,
        unusable=unusable,
        # Training renders no test rows, and stops for too many refused rows of one side.
        stopped=max(refused["train"], refused["validation"]) > MAX_UNUSABLE * trained,
        unknown=unknown,
        forged=forged,
        unembedded=[tokenizer.text_of(index) for index in sorted(unembedded)],
        lengths=(context, scored),
        samples=samples,
        notes=list(renderer.notes),
    )


def _content(example: Example) -> bytes:
    """A digest of all that an example is rendered from."""
    parts = repr((example.context, example.answers, example.tools))
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).digest()


def plain_samples(examples: Sequence[Example]) -> list[Sample]:
    """The samples of `survey` without a tokenizer: messages by role, and the answer."""
    sampled = _sample_ids(examples)
    return [
        Sample(
            example.id,
            source_location(example),
            "".join(f"{message.role}: {_plain(message)}\n" for message in example.context),
            _plain(answer_turn(example)),
        )
        for example in examples
        if example.id in sampled
    ]


def _sample_ids(examples: Sequence[Example]) -> set[str]:
    """Ids of the first, the middle and the last example; where these have the same answer, of others."""
    last = len(examples) - 1
    order = [examples[index] for index in dict.fromkeys((0, last // 2, last))] if examples else []
    picked = different_first([*order, *examples[1:last]], lambda one: one.target, 3)
    return {example.id for example in picked}


def _plain(message: Message) -> str:
    """A turn without a template: its text, and its further fields as JSON."""
    more = json.dumps(dict(message.more), ensure_ascii=False, default=str) if message.more else ""
    return " ".join(text for text in (message.content, more) if text)


def sample(renderer: Renderer, example: Example, rows: Sequence[Row]) -> Sample:
    """The last row of an example, as text and token by token."""
    row, tokenizer = rows[-1], renderer.tokenizer
    scored = row.weight > 0
    count = int(np.count_nonzero(scored))
    about = f"{len(row) - count:,} tokens of context, {count:,} scored"
    if len(rows) > 1:
        about += f"; the last of {len(rows)} answers, each a row of its own"
    ids = row.tokens.tolist()
    pieces: list[TokenText] = []
    start = done = last = 0
    for end in _ends(len(row) - count, len(ids)):
        # Decoded together with the last tokens of the text before, because spaces depend on them.
        before, after = tokenizer.decode(ids[start:done]), tokenizer.decode(ids[start:end])
        incomplete = after.endswith("\ufffd") and end < len(ids) and end - done < LONGEST_CHARACTER
        text = "" if incomplete else after[len(before) :]
        if text:
            start, done = max(done, end - LONGEST_CHARACTER), end
        special = ids[end - 1] in tokenizer.special_ids
        pieces.append(TokenText(text, bool(scored[end - 1]), special, end - last))
        last = end
    return Sample(
        example.id,
        source_location(example),
        tokenizer.decode(row.tokens[~scored]),
        tokenizer.decode(row.tokens[scored]),
        tuple(pieces),
        about,
    )


def _ends(context: int, total: int) -> list[int]:
    """Where the pieces of a row end: after each token, but for the middle of context and answer."""
    ends: set[int] = set()
    for first, last in ((0, context), (context, total)):
        ends.update(
            range(first + 1, min(last, first + EDGE) + 1), range(max(first, last - EDGE) + 1, last + 1)
        )
    return sorted(ends)
