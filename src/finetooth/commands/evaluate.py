"""`finetooth evaluate RUN`: the tuned model against the prompting baselines, on the same rows.

Validation rows may be evaluated any number of times. The sealed test is opened through the ledger, once for
given weights and settings; a second evaluation returns the stored result.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from finetooth.config.task import Task
from finetooth.data.examples import source_location
from finetooth.errors import ConfigError, DataError
from finetooth.evaluation import graders, ledger
from finetooth.evaluation.answer_text import answer_normaliser, identity
from finetooth.evaluation.baselines import BagOfWords, Majority
from finetooth.evaluation.candidates import Candidate
from finetooth.evaluation.graders.label_sets import label_names
from finetooth.evaluation.prompts import Prompt, build_prompt
from finetooth.evaluation.runner import Evaluation, evaluate
from finetooth.evaluation.summary import BAG_FILE, START, TUNED, best_prompting
from finetooth.model.api import Model
from finetooth.report.terminal import terminal_table
from finetooth.rundir import read_json, write_json
from finetooth.runs import inputs, next_steps, parent, parent_records, preference_candidates, workspace
from finetooth.runs.asking import candidate
from finetooth.runs.context import RunContext, base_digest
from finetooth.types import Example


@dataclass(frozen=True, slots=True)
class EvaluateReport:
    """The summary of one evaluation."""

    path: Path
    summary: dict[str, Any]
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The run's path and the summary of the contract."""
        return {"run": str(self.path), **self.summary}

    def print(self, console: Console) -> None:
        """The score table and the verdict in words."""
        console.print(terminal_table(self.summary))


def run(path: Path, sealed: bool, console: Console, trust_code: bool = False) -> EvaluateReport:
    """Evaluate a trained run on its validation rows, or on the sealed test. See `evaluate_run`.

    A grader that has changed since grades again. trust_code: also import the grader of a run that was not
    made here.
    """
    inputs.require_trusted(path, "evaluate", trust_code)
    context = RunContext.of_run(path, console)
    inputs.require_kinds_unchanged(context.task, path, "model")
    report = evaluate_run(context, sealed)
    inputs.record_graders(context.task, path)
    return report


def evaluate_run(context: RunContext, sealed: bool) -> EvaluateReport:
    """Compare the tuned model with prompting on the validation rows, or on the sealed test.

    Writes evaluate/SPLIT/records.jsonl and summary.json, and evaluate/summary.json. Raises ConfigError for a
    run that is not trained or has no such rows.
    """
    with workspace.occupied(context.path):
        return _evaluate_run(context, sealed)


def _evaluate_run(context: RunContext, sealed: bool) -> EvaluateReport:
    path, prepared = context.path, context.prepared
    if workspace.trained_path(path) is None:
        raise workspace.not_trained(path)
    if not next_steps.gradable(context.task):
        raise next_steps.not_gradable_error(f"To chat with the tuned model: finetooth chat {path}")
    if not (sealed or prepared.validation):
        raise ConfigError(
            f"{path} has no validation rows. To open the test: finetooth evaluate {path} --sealed"
        )
    ledger.require_unchanged(path, *(["validation"] if sealed else ["test"]))
    validation = path / "evaluate" / "validation"
    if not sealed or (prepared.validation and not (validation / "summary.json").is_file()):
        result = _evaluate(context, sample_rows(prepared.validation, context.task), "validation", None, None)
        # Also before the test: the baseline is chosen here.
        ledger.store_files(path, "validation", result.files(), time.time)
        summary = result.summary
    if sealed:
        summary = _test(context)
    opened = path / "evaluate" / "test" / "summary.json"
    write_json(path / "evaluate" / "summary.json", read_json(opened) if opened.is_file() else summary)
    return EvaluateReport(path, summary)


def _test(context: RunContext) -> dict[str, Any]:
    path, digest = context.path, result_digest(context, context.tuned())
    known = ledger.stored_result(path, digest)
    if known is not None:
        context.console.print(
            "The sealed test was already evaluated with these weights; this is the stored result."
        )
        write_json(path / "evaluate" / "test" / "summary.json", known)
        ledger.require_unchanged(path, "test")
        return known
    chosen = path / "evaluate" / "validation" / "summary.json"
    baseline = best_prompting(read_json(chosen)) if chosen.is_file() else None
    examples = sample_rows(ledger.open_sealed(path, digest, time.time), context.task)
    look = ledger.look_number(path, digest)
    result = _evaluate(context, examples, "test", baseline, look)
    ledger.store_files(path, "test", result.files(), time.time)
    ledger.store_result(path, digest, result.summary, time.time)
    return result.summary


def sample_rows(examples: Sequence[Example], task: Task) -> list[Example]:
    """At most evaluate.limit rows, drawn by the seed, in their original order."""
    limit = task.evaluate.limit
    if limit is None or limit >= len(examples):
        return list(examples)
    chosen = sorted(random.Random(f"limit {task.seed}").sample(range(len(examples)), limit))
    return [examples[index] for index in chosen]


def _evaluate(
    context: RunContext, examples: Sequence[Example], split: str, baseline: str | None, look: int | None
) -> Evaluation:
    task, console = context.task, context.console
    examples = _usable(context, examples)
    given = [graders.settled(spec, context.prepared.train) for spec in graders.specs(task.evaluate.grader)]
    seconds = task.evaluate.grader_seconds
    resolved = graders.resolve_all(given, context.grading_format, Path.cwd(), seconds)
    (name, primary), *others = resolved
    by_preference = preference_candidates.is_preference_evaluation(resolved)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=console.quiet) as bar:
        bars: dict[str, Any] = {}

        def progress(candidate: str, done: int, total: int) -> None:
            if candidate not in bars:
                bars[candidate] = bar.add_task(f"{split}: {candidate}", total=total)
            bar.update(bars[candidate], completed=done)

        result = evaluate(
            examples,
            preference_candidates.candidates(context) if by_preference else _candidates(context, name, split),
            primary,
            name,
            split,
            baseline_name=baseline,
            secondary_graders=dict(others),
            look=look,
            progress=progress,
            normalise=identity if by_preference else answer_normaliser(context.renderer),
        )
    if START in result.summary:
        result.summary[START] |= read_json(context.path / "environment.json")["start"]
    return result


def _candidates(context: RunContext, grader: str, split: str) -> Iterator[Candidate]:
    """The candidates, built one at a time so that only one model is in memory."""
    train = context.prepared.train
    if context.prepared.labels and grader != graders.PERPLEXITY:  # these two have no likelihoods
        yield Majority(train)
        yield BagOfWords(train, file=context.path / BAG_FILE)
    yield from prompting_candidates(context, grader)
    if context.task.start is not None:
        known = parent_records.recorded(context, result_digest) if split == "test" else None
        yield known or candidate(context, grader, context.parent_model(), Prompt(START))
    yield candidate(context, grader, context.tuned(), Prompt(TUNED))


def prompting_candidates(context: RunContext, grader: str) -> Iterator[Candidate]:
    """The base model under each prompt of evaluate.shots. ModelError when it is not the run's base."""
    task, prepared = context.task, context.prepared
    if not task.evaluate.shots:
        return
    multi_label = graders.without_options(grader) == "labels"
    labels = label_names(prepared.labels) if multi_label else prepared.labels
    with context.base() as base:
        for shots in task.evaluate.shots:
            prompt = replace(build_prompt(shots, prepared.train, labels, task.seed), multi_label=multi_label)
            yield candidate(context, grader, base, prompt)


def _usable(context: RunContext, examples: Sequence[Example]) -> list[Example]:
    """The rows that can be rendered and, with data.overlong: drop, are not too long. Others are counted."""
    task, renderer, console = context.task, context.renderer, context.console
    limit = task.data.max_tokens
    kept: list[Example] = []
    reasons: list[str] = []
    dropped = 0
    for example in examples:
        try:
            renderer.context_row(example.context, example.tools, renderer.thinks(example))
        except DataError as error:
            reasons.append(f"{source_location(example)}: {error}")
            continue
        if task.data.overlong == "drop" and limit != "auto":
            length = 0
            with suppress(DataError):  # a row without an answer to score
                length = max(map(len, renderer.training_rows(example)))
            if length > limit:
                dropped += 1
                continue
        kept.append(example)
    if reasons:
        n = f"{len(reasons)} of {len(examples)}"
        console.print(f"evaluate: {n} rows cannot be rendered and are left out: {reasons[0]}")
    if dropped:
        console.print(f"evaluate: {dropped} of {len(examples)} rows longer than {limit} tokens were dropped")
    return kept


def result_digest(context: RunContext, tuned: Model) -> str:
    """A digest of everything that decides the test's result: weights, prompts, sampling and graders."""
    task = context.task
    parts = {
        "tuned": tuned.digest(),
        "base": tuned.digest(adapter=False) if tuned.peft is not None else base_digest(context.path),
        "evaluate": task.evaluate.model_dump(mode="json", exclude={"grader_seconds"}),
        "instruction": task.instruction,
        "template": context.renderer.chat_template,
        "graders": [graders.grader_digest(spec, Path.cwd()) for spec in graders.specs(task.evaluate.grader)],
    }
    if task.start is not None:
        parts["start"] = parent.digest(parent.trained_weights(Path(task.start)))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
