"""A pool of rows from which training rows are drawn: read as the run reads questions, without known rows.

A row is left out if it cannot be read, or is a copy or nearly one of a row of the run or of an earlier row of
the pool. One that is nearly a sealed row never enters, and is only counted: which one it was is not told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from finetooth.analysis.next_rows import OURS
from finetooth.config.values import format_count, plural
from finetooth.data.formats.columns import ColumnPlan
from finetooth.data.formats.parse import parse
from finetooth.data.formats.questions import read_questions
from finetooth.data.read.names import clean_name
from finetooth.data.read.table import Table
from finetooth.data.write.sheet import Sheet
from finetooth.errors import ConfigError, DataError
from finetooth.evaluation import ledger
from finetooth.quality.findings import View, question
from finetooth.quality.rules.added_leaks import HELD_OUT, repeats
from finetooth.quality.similarity.near import SimilarPair, find_similar_pairs
from finetooth.runs import asking
from finetooth.runs.context import RunContext
from finetooth.types import Example

UNREAD, KNOWN, SEALED, COPIES = "unread", "known", "near a sealed row", "copies"


@dataclass(frozen=True, slots=True)
class Pool:
    """The rows that may be drawn. answers: by position, of rows that have one. left_out: counts by reason."""

    name: str
    examples: list[Example]
    answers: Mapping[int, str]
    left_out: dict[str, int]

    def notes(self) -> list[str]:
        """What was left out, in sentences."""
        words = {
            UNREAD: "cannot be read",
            KNOWN: "{is} nearly a row of training or validation",
            SEALED: "{is} nearly a row of the sealed test",
            COPIES: "{is} nearly a copy of another one",
        }
        return [
            f"{self.name}: {format_count(count, 'row')} {plural(count, 'is', 'are')} left out, because "
            f"{plural(count, 'it', 'they')} {words[reason].format(**{'is': plural(count, 'is', 'are')})}."
            for reason, count in self.left_out.items()
            if count
        ]


def read_pool(context: RunContext, file: Path) -> Pool:
    """The pool in a file of any format that data files have. DataError where no row can be used."""
    task, prepared = context.task, context.prepared
    if prepared.format in ("text", "preference"):
        raise ConfigError(
            f"--pool: rows of the format {prepared.format} are not questions with one answer, so none can be "
            "drawn to be labelled."
        )
    facts = asking.training_rows(context)
    table = Sheet.read(file, task.data.encoding).table
    try:
        read = read_questions(table, facts["format"], facts["columns"], facts["unread"]).rows
    except (ConfigError, DataError) as error:
        said = str(error).partition(" Say which")[0]
        raise DataError(
            f"{file}: {said} A pool has the columns of the training data; rename its own."
        ) from None
    answers = _answers(context, table)
    others = facts["unread"] - OURS  # columns of the training rows that are not read
    id = next((clean_name(name) for name, role in task.data.columns.items() if role == "id"), "id")
    clean = [one for one in read if one.example is not None]
    examples, expected = [], []
    values = {row.place: row for row in table.rows}
    for one in clean:
        assert one.example is not None
        row = values[one.place]
        answered = answers.get(row.line)
        known = {name: value for name, value in row.values.items() if name in others}
        place = {"file": row.file or table.name, "line": row.line, "sheet_row": row.sheet_row or ""}
        tags = {name: value for name, value in (known | place).items() if value not in (None, "")}
        bare = replace(one.example, id=str(row.values.get(id, "") or ""), answers=(), tags=tags)
        examples.append(answered or bare)
        expected.append("" if answered is None else answered.target)
    unread = len(table) - len(clean)
    kept, left_out = _new(context, examples)
    if not kept:
        raise DataError(f"{file}: no row of it can be drawn: {_reasons(unread, left_out)}.")
    return Pool(
        table.name,
        [examples[at] for at in kept],
        {number: expected[at] for number, at in enumerate(kept) if expected[at]},
        {UNREAD: unread, **left_out},
    )


def _answers(context: RunContext, table: Table) -> dict[int, Example]:
    """The rows of a pool that have answers, by their line; {} where it has no column of answers."""
    config = context.task.data
    try:
        parsed = parse(table, config, context.prepared.format, ColumnPlan.of([table], config.columns))
    except (DataError, ConfigError):
        return {}
    return {int(example.tags["line"]): example for example in parsed.examples}


def refused(context: RunContext, pool: Pool, chosen: Sequence[int]) -> set[int]:
    """Those of the chosen rows that the data gate would refuse beside held-out rows (rule `added-leak`)."""
    path, prepared = context.path, context.prepared
    sealed = ledger.read_sealed(path) if ledger.sealed_count(path) else []
    sides = {"train": prepared.train, "validation": prepared.validation, "test": sealed}
    added = [replace(pool.examples[at], id=f"pool {at}") for at in chosen]
    held = [(side, row) for side in HELD_OUT for row in sides[side]]
    view = View(sides, prepared.format, context.task.data, context.task.seed)
    places = {row.id: at for row, at in zip(added, chosen, strict=True)}
    return {places[leak.other[1].id] for leak in repeats(view, added, held) if leak.other[1].id in places}


def _new(context: RunContext, pool: Sequence[Example]) -> tuple[list[int], dict[str, int]]:
    """The positions of rows that the run does not have, and how many were left out, by why."""
    path, prepared = context.path, context.prepared
    texts = [question(example) for example in pool]
    sealed = ledger.read_sealed(path) if ledger.sealed_count(path) else []
    reason = {
        pair.other - len(sealed): SEALED  # however near it is
        for pair in _near([question(example) for example in sealed], texts)
        if pair.one < len(sealed) <= pair.other
    }
    own = [question(example) for example in (*prepared.train, *prepared.validation)]
    copies: list[tuple[int, int]] = []
    for pair in _near(own, texts):
        if not pair.close or pair.other < len(own):
            continue
        if pair.one < len(own):
            reason.setdefault(pair.other - len(own), KNOWN)
        else:
            copies.append((pair.one - len(own), pair.other - len(own)))
    for earlier, at in sorted(copies, key=lambda one: one[1]):
        if earlier not in reason:
            reason.setdefault(at, COPIES)
    counts = {why: sum(one == why for one in reason.values()) for why in (KNOWN, SEALED, COPIES)}
    return [at for at in range(len(pool)) if at not in reason], counts


def _near(known: Sequence[str], pool: Sequence[str]) -> list[SimilarPair]:
    return find_similar_pairs([*known, *pool], [0] * len(known) + [1] * len(pool))


def _reasons(unread: int, left_out: Mapping[str, int]) -> str:
    found = {UNREAD: unread, **left_out}
    return ", ".join(f"{count} {reason}" for reason, count in found.items() if count) or "it has no rows"
