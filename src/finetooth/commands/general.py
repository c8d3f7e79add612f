"""Neighbouring tasks (evaluate.general): whether the tuned model still does them as well as its base.

Both answer the same rows of each task, with its instruction, labels and grader. The result is
evaluate/general.json. Rows that the run has on any side are left out, and the other tasks' sealed rows are
not used either.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetooth.commands.evaluate import evaluate_rows
from finetooth.commands.evaluate_beside import sides_of_prompts
from finetooth.config.load import load_task
from finetooth.config.task import Task
from finetooth.data.examples import normalised_context, to_json
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.turns import has_answer
from finetooth.errors import ConfigError, DataError, GradeError
from finetooth.evaluation import graders
from finetooth.evaluation.candidates import Candidate
from finetooth.evaluation.general import BASE, FILE, task_result
from finetooth.evaluation.prompts import Prompt
from finetooth.evaluation.runner import row_groups
from finetooth.evaluation.summary import TUNED
from finetooth.rundir import read_json, write_json
from finetooth.runs import asking, workspace
from finetooth.runs.base_ranking import askable, with_answer_tokens, without_test
from finetooth.runs.context import RunContext
from finetooth.types import Example

ROWS = 200  # of each task, or evaluate.limit where that is less
UNGRADED = (graders.PERPLEXITY, graders.PREFERENCE)


def load_neighbours(task: Task) -> dict[str, Task]:
    """The tasks of evaluate.general by their files. Raises FinetoothError for one that cannot be used.

    Called before the training, so that a wrong path ends the command at once.
    """
    tasks = {}
    for file in task.evaluate.general:
        loaded = tasks[file] = load_task(Path(file))
        grader = graders.specs(loaded.evaluate.grader)
        if not grader or grader[0] in UNGRADED:
            raise ConfigError(
                f"evaluate.general: {file} has no grader of answers, so nothing can be compared."
            )
    return tasks


def ensure_measured(context: RunContext) -> None:
    """Compare base and tuned model on every neighbouring task, unless the same was measured before."""
    tasks, file = load_neighbours(context.task), context.path / FILE
    if not tasks:
        return
    own, margin = sides_of_prompts(context), context.task.evaluate.retention_margin
    prepared: dict[str, tuple[RunContext, list[Example]]] = {}
    missing = []
    for name, task in tasks.items():
        try:
            other = _neighbour(context, task)
            prepared[name] = other, _rows(context, other, own)
        except DataError as error:  # after the training: it ends nothing
            missing.append({"file": name, "reason": str(error)})
            context.console.print(f"general: {name} is not measured: {error}", markup=False, soft_wrap=True)
    asked: dict[str, Any] = {"tuned": context.tuned().digest(), "margin": margin, "missing": missing}
    asked["rows"] = {name: _digest(other.task, rows) for name, (other, rows) in prepared.items()}
    if file.is_file() and asked.items() <= read_json(file).items():
        return
    found = [
        {"task": other.task.name, "file": name, **_measure(context, other, rows, margin)}
        for name, (other, rows) in prepared.items()
    ]
    write_json(file, {**asked, "tasks": found})
    for one in found:
        context.console.print(f"general: {one['words']}", markup=False, highlight=False, soft_wrap=True)


def _neighbour(context: RunContext, task: Task) -> RunContext:
    """A context of the other task that asks this run's models, in this run's template."""
    other = RunContext(task, context.path, context.console)
    other.prepared = without_test(task)
    template = workspace.template(context.task, context.path)
    other.tokenizer, other.base_tokenizer = context.tokenizer, context.base_tokenizer
    other.renderer = Renderer(context.tokenizer, template, task.instruction)
    other.base_renderer = Renderer(context.base_tokenizer, template, task.instruction)
    return other


def _rows(context: RunContext, other: RunContext, own: dict[str, str]) -> list[Example]:
    """At most ROWS rows of another task that this run does not have, drawn by the seed. Raises DataError."""
    every = [
        row
        for row in (*other.prepared.validation, *other.prepared.train)
        if row.context and has_answer(row) and normalised_context(row) not in own
    ]
    if not every:
        raise DataError("it has no row with an answer that this run does not have.")
    most = min(context.task.evaluate.limit or ROWS, ROWS, len(every))
    chosen = sorted(random.Random(f"general {context.task.seed}").sample(range(len(every)), most))
    return [every[index] for index in chosen]


def _digest(task: Task, rows: Sequence[Example]) -> str:
    parts = [task.instruction, task.evaluate.model_dump(mode="json"), [to_json(row) for row in rows]]
    code = [graders.grader_digest(spec, Path.cwd()) for spec in graders.specs(task.evaluate.grader)]
    return hashlib.sha256(json.dumps([*parts, code], sort_keys=True).encode()).hexdigest()


def _measure(context: RunContext, other: RunContext, rows: list[Example], margin: float) -> dict[str, Any]:
    other.task = with_answer_tokens(other, context.tuned(), rows)
    grader = asking.primary_grader(other)
    asked, notes = askable(asking.candidate(other, grader, context.tuned(), _prompt(other, grader)), rows)
    for note in notes:
        context.console.print(f"general: {note}", markup=False, highlight=False, soft_wrap=True)
    rows = [rows[row] for row in asked]
    result = evaluate_rows(
        other, rows, f"the rows of {other.task.name}", None, given_candidates=_both(context, other, grader)
    )
    scores: dict[str, dict[str, float | None]] = {BASE: {}, TUNED: {}}
    for line in result.records:
        scores[line.candidate][line.id] = line.score
    both = [row for row in rows if None not in (scores[name].get(row.id) for name in scores)]
    if not both:
        raise GradeError(f"evaluate.general: no row of {other.task.name} was graded for both models.")
    base, tuned = ([float(scores[name][row.id] or 0.0) for row in both] for name in (BASE, TUNED))
    return task_result(other.task.name, result.summary["grader"], base, tuned, row_groups(both), margin)


def _both(context: RunContext, other: RunContext, grader: str) -> Iterator[Candidate]:
    """The base and the tuned model under the same prompt: the row, and the labels where it has some."""
    prompt = _prompt(other, grader)
    with context.base() as base:
        yield asking.candidate(other, grader, base, replace(prompt, name=BASE), other.base_renderer)
    yield asking.candidate(other, grader, context.tuned(), prompt)


def _prompt(other: RunContext, grader: str) -> Prompt:
    labels, several = asking.listed_labels(other, grader)
    return replace(Prompt(TUNED, tuple(labels)), multi_label=several)
