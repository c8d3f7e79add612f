"""From a run's validation errors to its next rows: what to correct, to label and to write.

    corrections   expected answers that a person has corrected, and training rows that are probably wrong
    pool          rows of a file to label: near the failures, and unlike each other; or a random draw
    missing       what to write, for labels with many errors and few training rows

Only validation rows are looked at. The sealed rows are read for one thing: a pool row that is nearly one of
them is left out and counted, and none is shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from finetooth.analysis.annotations import FOLDER
from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.change_set import Change, ChangeSet, RowForm, change_set
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
from finetooth.rundir import read_json, sha256_file, write_bytes, write_json
from finetooth.runs import asking, workspace
from finetooth.runs.context import RunContext
from finetooth.runs.embeddings import embedder_of
from finetooth.runs.pool import Pool, read_pool, refused
from finetooth.types import Example

NAMES = ("next.jsonl", "next.csv", "random.jsonl", "random.csv")
RECORD = "next.json"  # what was written: digests, so that a file that was filled in since is never replaced
SHARE_CHECKED, LEAST_CHECKED, MOST_CHECKED = 0.05, 10, 100  # training rows listed, at most
SPARE = 40  # rows that are chosen beyond what is asked for, since the data gate refuses some
MOST_EMBEDDED = 20_000  # pool rows that are compared by the model, drawn at random


@dataclass(frozen=True, slots=True)
class NextData:
    """What comes next. training: for errors.json, {id, kind, words, file, line}. random: None without a pool.

    counts: rows by what they are for; pool rows that were left out, by why. notes: for the user.
    """

    changes: ChangeSet
    random: ChangeSet | None
    training: list[dict[str, Any]]
    counts: dict[str, int]
    notes: list[str] = field(default_factory=list)

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
) -> NextData:
    """The next rows of a trained run. rows: its validation rows with the tuned model's answers.

    answers: corrected expected answers by the id of a validation or training row. pool: a file of rows,
    labelled or not. count: how many of it are drawn, default a tenth of the training rows. seed: of the
    random draw, by default the run's. Raises ConfigError or DataError.
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
    lacking = missing(rows, train, context.prepared.format == "labels")
    writing = [Change("add", Example("", (), ()), "", one.why) for one in lacking for _ in range(TO_WRITE)]
    if context.prepared.format in ("chat", "sharegpt"):  # a conversation without turns cannot be read
        notes += [f"To be written: {one.why}" for one in lacking]
        writing = []
    counts = {"corrected": len(corrected), "to check": len(checks), "to write": len(writing)}
    drawn: list[Change] = []
    draw: ChangeSet | None = None
    if pool is not None:
        source = read_pool(context, pool)
        drawn, others = _drawn(context, rows, source, model, count, seed)
        counts |= {"to label" if not source.answers else "from the pool": len(drawn), **source.left_out}
        draw = change_set(form, others)
        notes += source.notes()
        if not any(row.wrong for row in rows):
            notes.append("No validation row is wrong, so the rows of the pool are a random draw.")
    changes = change_set(form, [*corrected, *checks, *drawn, *writing])
    if changes.left_out:
        lost = len(changes.left_out)
        notes.append(
            f"{format_count(lost, 'row')} {plural(lost, 'is', 'are')} left out: the task's format cannot "
            f"hold {plural(lost, 'it', 'them')} as {plural(lost, 'it is', 'they are')}."
        )
    return NextData(changes, draw, [_training(one) for one in found], counts, notes)


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


def _drawn(
    context: RunContext,
    rows: Sequence[AnsweredRow],
    pool: Pool,
    model: Model,
    count: int | None,
    seed: int | None,
) -> tuple[list[Change], list[Change]]:
    """The targeted and the random rows of a pool, as many of each."""
    if count is not None and count < 1:
        raise ConfigError(f"--rows {count}: expected a number of at least 1.")
    seed = context.task.seed if seed is None else seed
    count = default_rows(len(context.prepared.train)) if count is None else count
    ids = [source_location(example) for example in pool.examples]
    at_random = _allowed(context, pool, random_rows(ids, count + SPARE, seed))
    at_random = [at_random[at] for at in random_rows([ids[at] for at in at_random], count, seed)]
    why = "drawn at random from the pool"
    others = [_added(pool, at, why) for at in at_random]
    wrong = [row for row in rows if row.wrong]
    if not wrong:
        return others, others
    kept = random_rows(ids, MOST_EMBEDDED, seed)
    right = [row for row in rows if not row.wrong]
    texts = [question(pool.examples[at]) for at in kept]
    texts += [question(row.example) for row in (*wrong, *right)]
    space = Space.of(texts, np.asarray(embedder_of(model)(texts), np.float32))
    places = np.split(np.arange(len(texts)), [len(kept), len(kept) + len(wrong)])
    worth_P, near_P = failure_share(space, *places)
    near = {kept[at]: int(near_P[at]) for at in spread(space, places[0], worth_P, count + SPARE)}
    picked = _allowed(context, pool, [*near])[:count]
    return [_added(pool, at, _why(wrong[near[at]])) for at in picked], others


def _allowed(context: RunContext, pool: Pool, chosen: Sequence[int]) -> list[int]:
    """The chosen rows without those that the data gate would refuse in the next iteration."""
    unwanted = refused(context, pool, chosen)
    return [at for at in chosen if at not in unwanted]


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


# Files ------------------------------------------------------------------------------------------------------


def write(path: Path, data: NextData) -> list[Path]:
    """Write next and random into RUN/errors, as .jsonl and as .csv, and return the paths of those written.

    Files that somebody has filled in are never replaced: ConfigError. Without a pool an older random draw
    stays. Nothing is written where there is nothing to say.
    """
    folder = path / FOLDER
    contents = (
        {"next.jsonl": data.changes.jsonl(), "next.csv": data.changes.csv()} if data.changes.rows else {}
    )
    if data.random is not None and data.random.rows:
        contents |= {"random.jsonl": data.random.jsonl(), "random.csv": data.random.csv()}
    with workspace.occupied(path):
        before = read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
        for name in contents:
            file = folder / name
            if file.is_file() and sha256_file(file) != before.get(name):
                raise ConfigError(
                    f"{file} has been changed since it was written, perhaps filled in, and is never "
                    f"replaced. Move or rename it (it can be used from anywhere: finetooth run --add FILE), "
                    "then run the same command again."
                )
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        for name, content in contents.items():
            write_bytes(folder / name, content)
        write_json(folder / RECORD, {**before, **digests})
    return [folder / name for name in contents]
