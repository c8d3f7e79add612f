"""`finetooth evaluate RUN`: the tuned model against the prompting baselines, on the same rows.

Validation rows may be evaluated any number of times. The sealed test is opened through the ledger, once for
given weights and settings; a second evaluation returns the stored result, whichever run has it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.commands import report
from finetooth.config.load import load_task
from finetooth.config.task import Task
from finetooth.config.values import format_count
from finetooth.data.examples import source_location
from finetooth.errors import ConfigError, DataError
from finetooth.evaluation import graders, ledger
from finetooth.evaluation.answer_text import answer_normaliser, identity
from finetooth.evaluation.baselines import BagOfWords, Majority
from finetooth.evaluation.candidates import Candidate
from finetooth.evaluation.looks import Look
from finetooth.evaluation.prompting.spec import PromptSpec
from finetooth.evaluation.prompts import Prompt
from finetooth.evaluation.proof import level, record_look, withdraw_better
from finetooth.evaluation.runner import Evaluation, evaluate
from finetooth.evaluation.summary import BAG_FILE, FREE, START, TUNED, TUNED_PROMPT
from finetooth.evaluation.verdict_words import foresight_words
from finetooth.report.console import answer_bars
from finetooth.report.prompting_part import TIMING
from finetooth.report.terminal import terminal_table
from finetooth.rundir import read_json, write_json
from finetooth.runs import (
    derived,
    elsewhere,
    inputs,
    next_steps,
    parent_records,
    preference_candidates,
    stored_results,
    workspace,
)
from finetooth.runs.asking import candidate, candidate_of_spec, primary_grader, prompt, task_prompt
from finetooth.runs.confidence import with_confidence
from finetooth.runs.context import RunContext
from finetooth.runs.repeat import asked_again
from finetooth.runs.replicates import carry_over
from finetooth.runs.result_digest import result_digest
from finetooth.runs.setup import ensure_set_up
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


def run_model(
    model: str, task: Task, out: Path | None, sealed: bool, console: Console, folder: Path | None = None
) -> EvaluateReport:
    """Evaluate a model or a PEFT adapter that was trained elsewhere on a task, as its tuned model.

    It gets a run directory, in which it is compared with the prompts on the validation rows and, if `sealed`,
    on the test; the page of the report is written too. out: default runs/NAME, of the task and the model.
    folder: that of the task file. The same command again goes on. Raises FinetoothError with one message that
    says what to do.
    """
    task = elsewhere.with_tuned(load_task(task, {"tuned": model}))
    context = RunContext(task, workspace.run_path(task, out), console, folder)
    with workspace.occupied(context.path):
        workspace.open_run(task, context.path)
        inputs.require_unchanged(task, context.path, console)
        ensure_set_up(context)
        result = evaluate_run(context, sealed)
        report.run(context.path)
    return result


def evaluate_run(context: RunContext, sealed: bool, further: bool = True) -> EvaluateReport:
    """Compare the tuned model with prompting on the validation rows, or on the sealed test.

    Writes evaluate/SPLIT/records.jsonl and summary.json, and evaluate/summary.json. further: False leaves the
    sealed test closed if other weights have been tested on its rows; the result is then that on validation
    rows. Raises ConfigError for a run that is not trained or has no such rows.
    """
    with workspace.occupied(context.path):
        return _evaluate_run(context, sealed, further)


def require_evaluable(context: RunContext) -> None:
    """Raise ConfigError or GradeError for a run without a tuned model or without expected answers."""
    if workspace.trained_path(context.path) is None:
        raise workspace.not_trained(context.path)
    if not next_steps.gradable(context.task):
        raise next_steps.not_gradable_error(f"To chat with the tuned model: finetooth chat {context.path}")


def _evaluate_run(context: RunContext, sealed: bool, further: bool) -> EvaluateReport:
    path, prepared = context.path, context.prepared
    require_evaluable(context)
    if not (sealed or prepared.validation):
        raise ConfigError(
            f"{path} has no validation rows. To open the test: finetooth evaluate {path} --sealed"
        )
    ledger.require_unchanged(path, *(["validation"] if sealed else ["test"]))
    validation = path / "evaluate" / "validation"
    if not sealed or (prepared.validation and not (validation / "summary.json").is_file()):
        # Also before the test, so that its words can say what the test will be able to show.
        rows = sample_rows(prepared.validation, context.task)
        known = derived.recorded(context, rows)
        asked = known and run_candidates(context, primary_grader(context), "validation", untuned=known)
        result = evaluate_rows(context, rows, "validation", None, given_candidates=asked or None)
        result = with_confidence(path, context.task, result, rows, fitted=True)
        if (again := asked_again(context, rows, result.records)) is not None:
            result.summary["asked_again"] = again
        if others := ledger.looks(path).others:
            before = f"other runs have taken {format_count(others, 'look')} at the sealed test"
            reason = f"these are validation rows, on which iterations are chosen, and {before}"
            result.summary["looks_of_others"] = others
            withdraw_better(result.summary, reason)
        ledger.store_files(path, "validation", result.files(), time.time)
        write_json(validation / TIMING, dict(result.seconds))
        summary = result.summary
    if sealed:
        tested = _test(context, further)
        if tested is None and not prepared.validation:
            raise ConfigError(
                f"{path} has no validation rows, and its sealed rows were opened by another run. To spend a "
                f"further look at them: finetooth evaluate {path} --sealed"
            )
        summary = tested or read_json(validation / "summary.json")
    opened = path / "evaluate" / "test" / "summary.json"
    write_json(path / "evaluate" / "summary.json", read_json(opened) if opened.is_file() else summary)
    return EvaluateReport(path, summary)


def _test(context: RunContext, further: bool) -> dict[str, Any] | None:
    """The result on the sealed test; None where it stays closed, see `evaluate_run`."""
    path, digest, console = context.path, result_digest(context, context.tuned()), context.console
    known = ledger.stored_result(path, digest)
    before = ledger.looks(path)
    if known is None and (further or not before.others):
        console.print(_foresight(context, before.declared or context.task.evaluate.looks))
    look = ledger.take_look(path, digest, time.time, context.task.evaluate.looks, further)
    if look is None:
        return None
    for note in look.notes:
        console.print(f"warning: {note}", style="yellow", soft_wrap=True)
    if known is not None:
        console.print("The sealed test was already evaluated with these weights; this is the stored result.")
        stored_results.take_over(path, digest, known)
        write_json(path / "evaluate" / "test" / "summary.json", known)
        ledger.require_unchanged(path, "test")
        return known
    if look.declared != context.task.evaluate.looks:
        console.print(
            f"warning: evaluate.looks is {context.task.evaluate.looks}, but {look.declared} was declared at "
            "the first look at these rows, and holds.",
            style="yellow",
            soft_wrap=True,
        )
    examples = sample_rows(ledger.read_sealed(path), context.task)
    result = evaluate_rows(context, examples, "test", look)
    result = with_confidence(path, context.task, result, examples, fitted=False)
    carry_over(path, result.summary)
    ledger.store_files(path, "test", result.files(), time.time)
    write_json(path / "evaluate" / "test" / TIMING, dict(result.seconds))
    ledger.store_result(path, digest, result.summary, time.time)
    return result.summary


def _foresight(context: RunContext, declared: int) -> str:
    """What one of so many looks can show, before it is taken: by the rows' number and the validation rows."""
    rows, limit = context.prepared.sealed_count, context.task.evaluate.limit
    file = context.path / "evaluate" / "validation" / "summary.json"
    known = read_json(file) if file.is_file() else None
    return foresight_words(rows if limit is None else min(rows, limit), known, level(Look(1, declared)))


def sample_rows(examples: Sequence[Example], task: Task) -> list[Example]:
    """At most evaluate.limit rows, drawn by the seed, in their original order."""
    limit = task.evaluate.limit
    if limit is None or limit >= len(examples):
        return list(examples)
    chosen = sorted(random.Random(f"limit {task.seed}").sample(range(len(examples)), limit))
    return [examples[index] for index in chosen]


def evaluate_rows(
    context: RunContext,
    examples: Sequence[Example],
    split: str,
    look: Look | None,
    grader: Any = None,
    given_candidates: Iterable[Candidate] | None = None,
) -> Evaluation:
    """Grade candidates on rows, with a bar for each. look: of sealed rows.

    grader: in place of the run's. given_candidates: in place of the run's.
    """
    task, console = context.task, context.console
    examples = _usable(context, examples)
    specs = graders.specs(task.evaluate.grader if grader is None else grader)
    given = [graders.settled(spec, context.prepared.train) for spec in specs]
    seconds = task.evaluate.grader_seconds
    resolved = graders.resolve_all(given, context.grading_format, Path.cwd(), seconds)
    (name, primary), *others = resolved
    by_preference = preference_candidates.is_preference_evaluation(resolved)
    candidates = given_candidates
    if by_preference:
        candidates = preference_candidates.candidates(context)
    elif candidates is None:
        candidates = run_candidates(context, name, split)
    with answer_bars(console, split) as progress:
        result = evaluate(
            examples,
            candidates,
            primary,
            name,
            split,
            secondary_graders=dict(others),
            progress=progress,
            margin=task.evaluate.margin,
            normalise=identity if by_preference else answer_normaliser(context.renderer),
            alpha=level(look),
        )
    if look is not None:
        record_look(result.summary, look)
    if START in result.summary:
        result.summary[START] |= read_json(context.path / "environment.json")["start"]
    return result


def run_candidates(
    context: RunContext,
    grader: str,
    split: str,
    extra: PromptSpec | None = None,
    untuned: Sequence[Candidate] = (),
) -> Iterator[Candidate]:
    """The candidates, built one at a time so that only one model is in memory.

    extra: one more prompt of the base, in place of evaluate.prompt. untuned: in place of all other models.
    """
    own_prompt = task_prompt(context)
    yield from untuned or _untuned(context, grader, split, extra or own_prompt)
    tuned = replace(candidate(context, grader, context.tuned(), Prompt(TUNED)), distribution=True)
    if context.task.tuned is not None:
        tuned.notes.append("trained elsewhere: whether it was trained on some of these rows is not known")
    yield tuned
    if own_prompt is not None:
        yield candidate_of_spec(context, grader, context.tuned(), own_prompt, TUNED_PROMPT)
    if context.task.evaluate.free and tuned.labels is not None:
        note = f"generates its answers; the other models choose among the {len(tuned.labels)} labels"
        yield replace(tuned, name=FREE, prompt=Prompt(FREE), labels=None, notes=[note])


def _untuned(context: RunContext, grader: str, split: str, spec: PromptSpec | None) -> Iterator[Candidate]:
    """The candidates without this run's weights: simple baselines, prompts, and the run that it continues."""
    train = context.prepared.train
    if context.prepared.labels and grader != graders.PERPLEXITY:  # these two have no likelihoods
        yield Majority(train)
        yield BagOfWords(train, file=context.path / BAG_FILE)
    yield from prompting_candidates(context, grader, spec)
    if context.task.start is not None:
        known = parent_records.recorded(context, result_digest) if split == "test" else None
        yield known or candidate(context, grader, context.parent_model(), Prompt(START))


def prompting_candidates(
    context: RunContext,
    grader: str,
    extra: PromptSpec | None = None,
    shots: Sequence[int] | None = None,
) -> Iterator[Candidate]:
    """The base model under prompts with these numbers of demonstrations, then under the extra prompt.

    shots: default evaluate.shots. Raises ModelError when the model is not the run's base.
    """
    shots = context.task.evaluate.shots if shots is None else shots
    if not shots and extra is None:
        return
    with context.base() as base:
        for count in shots:
            yield candidate(context, grader, base, prompt(context, grader, count), context.base_renderer)
        if extra is not None:
            yield candidate_of_spec(context, grader, base, extra)


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
