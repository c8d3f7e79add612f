"""From a run's validation errors to its next rows: what to correct, to label and to write.

    corrections   expected answers that a person has corrected, and training rows that are probably wrong
    pool          rows of a file to label: near the failures, and unlike each other; or a random draw
    missing       what to write, for labels with many errors and few training rows

Only validation rows are looked at: half of them where a random arm will judge (analysis/steering.py). The
sealed rows are read for one thing: a pool row that is nearly one of them is left out, and none is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.change_set import Change, ChangeSheet, RowForm, change_set
from finetooth.analysis.next_rows import (
    TO_WRITE,
    Floats,
    Space,
    default_rows,
    failure_share,
    missing,
    random_rows,
    short,
    spread,
)
from finetooth.analysis.steering import choosing_rows, halves
from finetooth.analysis.suspects import (
    LabelDoubt,
    Suspect,
    contradictions,
    label_doubt,
    label_suspects,
    loss_suspects,
)
from finetooth.config.task import Task
from finetooth.config.values import format_count, is_files, is_hub_id, plural
from finetooth.data.examples import source_location
from finetooth.data.read.files import read
from finetooth.data.read.table import Table
from finetooth.errors import ConfigError, DataError
from finetooth.model.api import Model
from finetooth.privacy.masking import redact
from finetooth.quality.findings import View, question
from finetooth.quality.label_audit import audit_labels
from finetooth.quality.similarity.near import find_similar_pairs
from finetooth.runs import asking
from finetooth.runs.context import RunContext
from finetooth.runs.embeddings import embedder_of
from finetooth.runs.next_files import context_digest
from finetooth.runs.pool import KNOWN, Pool, read_pool, refused_rows
from finetooth.types import Example

SHARE_CHECKED, LEAST_CHECKED, MOST_CHECKED = 0.05, 10, 100  # training rows listed, at most
AT_RANDOM = "drawn at random from the pool"
SPARE = 40  # rows that are chosen beyond what is asked for, since the data gate refuses some
MOST_EMBEDDED = 20_000  # pool rows that are compared by the model, drawn at random


@dataclass(frozen=True, slots=True)
class NextData:
    """What comes next. training: for errors.json, {id, kind, words, file, line}. random: None without it.

    counts: rows by what they are for; pool rows that were left out, by why. notes: for the user.
    steered: with a random draw, `by`, the ids of the validation rows whose failures have chosen, and `rows`,
    the digests of what the chosen rows ask.
    """

    changes: ChangeSheet
    random: ChangeSheet | None
    training: list[dict[str, Any]]
    counts: dict[str, int]
    notes: list[str] = field(default_factory=list)
    steered: dict[str, list[str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Counts and notes, for programs; the rows are in the files."""
        return {"counts": self.counts, "training": self.training, "notes": self.notes}


def next_data(
    context: RunContext,
    rows: Sequence[AnsweredRow],
    answers: Mapping[str, str],
    pool: Path | None = None,
    count: int | None = None,
    seed: int | None = None,
    random: bool = False,
) -> NextData:
    """The next rows of a trained run. rows: its validation rows with the tuned model's answers.

    answers: corrected expected answers by the id of a validation or training row. pool: a file of rows,
    labelled or not. count: how many of it are drawn, default a tenth of the training rows. seed: of the
    random draw, by default the run's. random: draw as many at random too; the failures of one half of `rows`
    then choose, so that the other half can judge. Raises ConfigError or DataError.
    """
    task, train = context.task, context.prepared.train
    model = context.tuned()
    embed = embedder_of(model)
    form = RowForm.of(task.data, context.prepared.format, _tables(task))
    rows = [*rows]
    known = {row.id: row.example for row in rows} | {example.id: example for example in train}
    corrected = [
        Change("correct", known[id], answer, "the expected answer was wrong, says an annotation", id)
        for id, answer in answers.items()
        if id in known and answer.strip() != known[id].target.strip()
    ]
    hidden_TD = np.asarray(embed([question(example) for example in train]), np.float32)
    found, notes = suspects(context, rows, model, hidden_TD)
    listed = [one for one in found if one.example.id not in answers]
    checks = [Change("correct", one.example, one.suggestion, one.words, one.example.id) for one in listed]
    choosing = choosing_rows(rows) if random else rows
    several = asking.primary_grader(context) == "labels"
    lacking = missing(choosing, train, context.prepared.format == "labels", several)
    writing = [Change("add", Example("", (), ()), "", one.why) for one in lacking for _ in range(TO_WRITE)]
    if context.prepared.format in ("chat", "sharegpt"):  # a conversation without turns cannot be read
        notes += [f"To be written: {one.why}" for one in lacking]
        writing = []
    drawn, by = Drawn("to label", [], [], {}, []), [row.id for row in choosing if random]
    if pool is not None:
        drawn = _drawn(context, choosing, read_pool(context, pool), model, count, seed, len(writing))
    if by:
        drawn.notes.append(halves(rows, {*by}))
    parts = {"corrected": corrected, "to check": checks, drawn.what: drawn.chosen, "to write": writing}
    changes = change_set(form, [one for part in parts.values() for one in part])
    lost_ids = {id(one) for one in changes.left_out}
    counts = {what: sum(id(one) not in lost_ids for one in part) for what, part in parts.items()}
    if changes.left_out:
        lost = len(changes.left_out)
        notes.append(
            f"{format_count(lost, 'row')} {plural(lost, 'is', 'are')} left out: the task's format cannot "
            f"hold {plural(lost, 'it', 'them')} as {plural(lost, 'it is', 'they are')}."
        )
    return NextData(
        changes,
        change_set(form, drawn.random) if by else None,
        [_training(one) for one in found],
        counts | drawn.left_out,
        notes + drawn.notes,
        {"by": by, "rows": [context_digest(one.example) for one in drawn.chosen]} if by else {},
    )


def suspects(
    context: RunContext, rows: Sequence[AnsweredRow], model: Model, hidden_TD: Floats
) -> tuple[list[Suspect], list[str]]:
    """The training rows to check, the clearest first, and notes. hidden_TD: of the training rows."""
    train, prepared = context.prepared.train, context.prepared
    most = min(MOST_CHECKED, max(LEAST_CHECKED, round(SHARE_CHECKED * len(train))))
    labelled = prepared.format == "labels"
    wrong = [row for row in rows if row.wrong]
    texts = [question(example) for example in train] + [question(row.example) for row in wrong]
    sides = [0] * len(train) + [1] * len(wrong)
    pairs = [
        (pair.one, pair.other - len(train))
        for pair in find_similar_pairs(texts, sides)
        if pair.close and pair.one < len(train) <= pair.other
    ]
    found = contradictions(train, wrong, pairs, labelled)
    notes: list[str] = []
    if labelled:
        view = View({"train": train}, prepared.format, context.task.data, context.task.seed)
        doubt = label_doubt(train, hidden_TD, audit_labels(view), context.task.seed)
        if isinstance(doubt, LabelDoubt):
            if doubt.is_reliable:
                most = min(MOST_CHECKED, max(LEAST_CHECKED, doubt.expected))
            doubtful = [int(row) for row in doubt.rows[doubt.wrong_J > 0]]
            found += label_suspects(train, doubt, _chosen(context, model, doubtful), most)
            if not doubt.is_reliable:
                notes.append(
                    f"Training labels: what predicts them is right on {doubt.accuracy:.0%} of the rows, too "
                    "few to call labels wrong. The most doubtful ones are listed; many of them are right."
                )
        else:
            notes.append(f"Training labels: {doubt}.")
    else:
        found += loss_suspects(train, _losses(context, model), most)
    return [*{one.example.id: one for one in reversed(found)}.values()][::-1][:most], notes


def _chosen(context: RunContext, model: Model, at: Sequence[int]) -> dict[int, str]:
    """The labels that the tuned model chooses for training rows; {} where it writes its answers."""
    asked = asking.of_run(context, model)
    if not asked.labels:
        return {}
    examples = [context.prepared.train[index] for index in at]
    return {at[one.index]: one.text for one in asked.candidate.predict(examples)}


def _losses(context: RunContext, model: Model) -> list[float | None]:
    """The mean loss of each training row's answer under the tuned model, in nats per token."""
    candidate = asking.of_run(context, model).candidate
    scored = candidate.answer_logprobs(context.prepared.train)
    return [None if isinstance(one, str) or not len(one) else float(-one.mean()) for one in scored]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Rows of a pool: those that the failures have chosen, and those drawn at random. what: is to be done
    with them. left_out: counts by reason.
    """

    what: str
    chosen: list[Change]
    random: list[Change]
    left_out: dict[str, int]
    notes: list[str]


def _drawn(
    context: RunContext,
    rows: Sequence[AnsweredRow],
    pool: Pool,
    model: Model,
    count: int | None,
    seed: int | None,
    more: int,
) -> Drawn:
    """The targeted rows of a pool, and as many random ones. more: random rows beside those to be written."""
    if count is not None and count < 1:
        raise ConfigError(f"--rows {count}: expected a number of at least 1.")
    seed = context.task.seed if seed is None else seed
    count = default_rows(len(context.prepared.train)) if count is None else count
    ids = [source_location(example) for example in pool.examples]
    at_random = random_rows(ids, count + more + SPARE, seed)
    wrong = [row for row in rows if row.wrong]
    notes, near = [], {}
    if wrong:
        kept = random_rows(ids, MOST_EMBEDDED, seed)
        right = [row for row in rows if row.score is not None and not row.wrong]
        texts = [question(pool.examples[at]) for at in kept]
        texts += [question(row.example) for row in (*wrong, *right)]
        space = Space.of(texts, np.asarray(embedder_of(model)(texts), np.float32))
        places = np.split(np.arange(len(texts)), [len(kept), len(kept) + len(wrong)])
        worth_P, near_P = failure_share(space, *places)
        near = {kept[at]: int(near_P[at]) for at in spread(space, places[0], worth_P, count + SPARE)}
    else:
        notes.append("No validation row is wrong, so the rows of the pool are a random draw.")
    refused = refused_rows(context, pool, {*at_random, *near})
    random = [at for at in at_random if at not in refused]
    chosen = [at for at in near or random if at not in refused][:count]
    random = random[: len(chosen) + more]
    left_out = pool.left_out | {KNOWN: pool.left_out[KNOWN] + len(refused)}
    return Drawn(
        "from the pool" if pool.answers else "to label",
        [_added(pool, at, _why(wrong[near[at]]) if near else AT_RANDOM) for at in chosen],
        [_added(pool, at, AT_RANDOM) for at in random],
        left_out,
        replace(pool, left_out=left_out).notes() + notes,
    )


def _added(pool: Pool, at: int, why: str) -> Change:
    return Change("add", pool.examples[at], pool.answers.get(at, ""), why)


def _why(near: AnsweredRow) -> str:
    """The reason, in which the expected answer of a validation row stands only if it is a label."""
    label = near.example.tags.get("label")
    said = f" as {short(near.text)!r} in place of {short(str(label))!r}" if label else " wrongly"
    return f"like the validation row {redact(near.id)}, which the model answered{said}"


def _training(one: Suspect) -> dict[str, Any]:
    tags = one.example.tags
    place = {"file": str(tags.get("file", "")), "line": tags.get("line")}
    return {"id": one.example.id, "kind": one.kind, "words": redact(one.words), **place}


def _tables(task: Task) -> list[Table]:
    """The user's own files, for the names and the order of their columns; [] where they are gone."""
    source = task.data.train
    if not (is_files(source) or (isinstance(source, str) and not is_hub_id(source))):
        return []
    try:
        return read(source, task.data.encoding)
    except (DataError, OSError):
        return []
