"""A pool of rows from which training rows are drawn: read as the run reads questions, without known rows.

A row is left out if it cannot be read, or is a copy or nearly one of a row of the run or of an earlier row of
the pool. One that is nearly a sealed row, or of its group, never enters; it is counted with those that are
nearly training or validation rows, so that the count does not tell whether a text is in the sealed test.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from finetooth.analysis.next_rows import OURS
from finetooth.config.task import DataConfig
from finetooth.config.values import format_count, plural
from finetooth.data.formats.columns import OPTIONAL, ColumnPlan
from finetooth.data.formats.parse import parse
from finetooth.data.formats.questions import ANSWERS, read_questions
from finetooth.data.read.files import encoding_of
from finetooth.data.read.names import clean_name
from finetooth.data.read.sources import kind_of
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

UNREAD, KNOWN, COPIES = "unread", "known", "copies"  # why rows are left out


@dataclass(frozen=True, slots=True)
class Pool:
    """The rows that may be drawn. answers: by position, of rows that have one. left_out: counts by reason.

    no_group: the column of groups that it lacks, so that held-out groups are not known in it; "" for none.
    """

    name: str
    examples: list[Example]
    answers: Mapping[int, str]
    left_out: dict[str, int]
    no_group: str = ""

    def notes(self) -> list[str]:
        """What was left out, in sentences."""
        words = {
            UNREAD: "cannot be read",
            KNOWN: "{is} nearly a row of the run, or of a group that it holds out",
            COPIES: "{is} nearly a copy of another one",
        }
        notes = [
            f"{self.name}: {format_count(count, 'row')} {plural(count, 'is', 'are')} left out, because "
            f"{plural(count, 'it', 'they')} {words[reason].format(**{'is': plural(count, 'is', 'are')})}."
            for reason, count in self.left_out.items()
            if count
        ]
        if self.no_group:
            notes.append(
                f"{self.name} has no column {self.no_group!r}, so a row of a group that is kept for "
                "validation or the test would not be noticed."
            )
        return notes


def read_pool(context: RunContext, file: Path) -> Pool:
    """The pool in a file of any format that data files have. DataError where no row can be used."""
    task, prepared = context.task, context.prepared
    if prepared.format in ("text", "preference"):
        raise ConfigError(
            f"--pool: rows of the format {prepared.format} are not questions with one answer, so none can be "
            "drawn to be labelled."
        )
    facts = asking.training_rows(context)
    readable = file.is_file() and bool(kind_of(file))  # else Sheet says what is wrong
    encoding = encoding_of(file, task.data.encoding, some_broken=True) if readable else task.data.encoding
    table = Sheet.read(file, encoding).table
    try:
        read = read_questions(table, facts["format"], facts["columns"], facts["unread"]).rows
    except (ConfigError, DataError) as error:
        said = str(error).partition(" Say which")[0]
        raise DataError(
            f"{file}: {said} A pool has the columns of the training data; rename its own."
        ) from None
    answers = _answers(context, file, table)
    others = facts["unread"] - OURS  # columns of the training rows that are not read
    id, group = _column(task.data, "id"), _column(task.data, "group")
    clean = [one for one in read if one.example is not None]
    examples, expected = [], []
    values = {row.place: row for row in table.rows}
    for one in clean:
        assert one.example is not None
        row = values[one.place]
        answered = answers.get(row.line)
        known = {name: value for name, value in row.values.items() if name in others}
        place = {"file": row.file or table.name, "line": row.line, "sheet_row": row.sheet_row or ""}
        known |= place | {"group": str(row.values.get(group) or "")}
        tags = {name: value for name, value in known.items() if value not in (None, "")}
        bare = replace(one.example, id=str(row.values.get(id, "") or ""), answers=(), tags=tags)
        examples.append(answered or bare)
        expected.append("" if answered is None else answered.target)
    unread = len(table) - len(clean)
    grouped = any("group" in row.tags for row in context.prepared.train)
    kept, left_out = _new(context, examples)
    if not kept:
        raise DataError(f"{file}: no row of it can be drawn: {_reasons(unread, left_out)}.")
    return Pool(
        table.name,
        [examples[at] for at in kept],
        {number: expected[at] for number, at in enumerate(kept) if expected[at]},
        {UNREAD: unread, **left_out},
        group if group not in table.columns and grouped else "",
    )


def _column(config: DataConfig, role: str) -> str:
    """The file's name of the column with the ids or the groups."""
    if role == "group" and config.group is not None:
        return clean_name(config.group)
    return next((clean_name(name) for name, one in config.columns.items() if one == role), role)


def _answers(context: RunContext, file: Path, table: Table) -> dict[int, Example]:
    """The rows of a pool that have answers, by their line; {} where it has no column of answers.

    Columns that need not be there, as that of ids, may be missing. Raises DataError where answers are there
    and cannot be read: they would be lost without a word.
    """
    config, format = context.task.data, context.prepared.format
    columns = {
        name: role
        for name, role in config.columns.items()
        if role not in OPTIONAL or clean_name(name) in table.columns
    }
    has_group = config.group is not None and clean_name(config.group) in table.columns
    config = config.model_copy(update={"columns": columns, "group": config.group if has_group else None})
    try:
        parsed = parse(table, config, format, ColumnPlan.of([table], columns))
    except (DataError, ConfigError) as error:
        roles = {clean_name(name): role for name, role in columns.items()}
        if any(roles.get(name, name) in ANSWERS.get(format, ()) for name in table.columns):
            raise DataError(f"{file}: the answers in it cannot be read. {error}") from None
        return {}
    return {int(example.tags["line"]): example for example in parsed.examples}


def refused_rows(context: RunContext, pool: Pool, chosen: Collection[int]) -> set[int]:
    """Those of the chosen rows that the data gate would refuse beside held-out rows (rule `added-leak`)."""
    at = [*chosen]
    return {at[found] for found in held_out(context, [pool.examples[one] for one in at])}


def held_out(context: RunContext, added: Sequence[Example]) -> set[int]:
    """The positions of rows to add that the rule `added-leak` refuses beside the run's held-out rows."""
    path, prepared = context.path, context.prepared
    sealed = ledger.read_sealed(path) if ledger.sealed_count(path) else []
    sides = {"train": prepared.train, "validation": prepared.validation, "test": sealed}
    held = [(side, row) for side in HELD_OUT for row in sides[side]]
    view = View(sides, prepared.format, context.task.data, context.task.seed)
    named = [replace(row, id=f"added {at}") for at, row in enumerate(added)]
    places = {row.id: at for at, row in enumerate(named)}
    return {places[leak.other[1].id] for leak in repeats(view, named, held) if leak.other[1].id in places}


def _new(context: RunContext, pool: Sequence[Example]) -> tuple[list[int], dict[str, int]]:
    """The positions of rows that the run does not have, and how many were left out, by why."""
    path, prepared = context.path, context.prepared
    sealed = ledger.read_sealed(path) if ledger.sealed_count(path) else []
    held = {row.tags.get("group") for row in (*prepared.validation, *sealed)}
    held -= {row.tags.get("group") for row in prepared.train} | {None}
    reason = {at: KNOWN for at, row in enumerate(pool) if row.tags.get("group") in held}
    texts = [question(example) for example in pool]
    for pair in _near([question(example) for example in sealed], texts):
        if pair.one < len(sealed) <= pair.other:
            reason[pair.other - len(sealed)] = KNOWN  # however near it is
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
    counts = {why: sum(one == why for one in reason.values()) for why in (KNOWN, COPIES)}
    return [at for at in range(len(pool)) if at not in reason], counts


def _near(known: Sequence[str], pool: Sequence[str]) -> list[SimilarPair]:
    return find_similar_pairs([*known, *pool], [0] * len(known) + [1] * len(pool))


def _reasons(unread: int, left_out: Mapping[str, int]) -> str:
    found = {UNREAD: unread, **left_out}
    return ", ".join(f"{count:,} {reason}" for reason, count in found.items() if count) or "it has no rows"
