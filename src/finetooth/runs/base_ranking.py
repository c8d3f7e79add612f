"""Candidates for the base model of a task, measured on a sample of its rows; the sealed test stays closed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from rich.console import Console

from finetooth.config.method_keys import RL_METHODS
from finetooth.config.named_models import Shape, is_named, named_models
from finetooth.config.task import Task
from finetooth.config.values import from_here, source_name
from finetooth.data import fetch
from finetooth.data.examples import source_location
from finetooth.data.render.overlong import row_limit
from finetooth.data.render.turns import has_answer
from finetooth.data.split import split_keys
from finetooth.errors import ConfigError, DataError, GradeError, ModelError
from finetooth.evaluation import graders
from finetooth.evaluation.answer_text import answer_normaliser
from finetooth.evaluation.baselines import BagOfWords, Majority
from finetooth.evaluation.bits_per_byte import answer_bits, answer_bytes, per_byte
from finetooth.evaluation.candidates import Candidate, ModelCandidate
from finetooth.evaluation.graders import Grader
from finetooth.evaluation.runner import evaluate, row_groups
from finetooth.model import reward_head
from finetooth.model.api import Model
from finetooth.model.device import device_memory
from finetooth.model.head import Head
from finetooth.quality.findings import blocking_findings
from finetooth.quality.prepare import PreparedData, assemble
from finetooth.report import base_ranking_page
from finetooth.report.base_ranking import BaseRanking, BaseResult
from finetooth.rundir import write_json, write_text
from finetooth.runs import asking, parent, workspace
from finetooth.runs.context import RunContext
from finetooth.training.defaults import MOST_ROWS, answer_tokens, inner_width
from finetooth.training.model_memory import fits, needed_bytes
from finetooth.types import Example

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows that every candidate is asked. rest: training rows that no row of the sample resembles."""

    examples: list[Example]
    rest: list[Example]
    rows: dict[str, int]

    @classmethod
    def of(cls, prepared: PreparedData, rows: int, seed: int) -> Sample:
        """At most so many rows: validation rows, then up to half of the training rows, drawn by the seed.

        Raises ConfigError where no row has a question and an answer.
        """
        draw = random.Random(f"models {seed}")
        validation, train = (
            [example for example in side if example.context and has_answer(example)]
            for side in (prepared.validation, prepared.train)
        )
        first = draw.sample(validation, min(rows, len(validation)))
        more = draw.sample(train, min(rows - len(first), (len(train) + 1) // 2))
        if not first and not more:
            raise ConfigError(
                "Models are compared by the answers that your rows expect, and no row has a question and an "
                f"answer (the data format is {prepared.format})."
            )
        used = set(split_keys([*first, *more]))
        keyed = zip(train, split_keys(train), strict=True)
        rest = [example for example, key in keyed if key not in used]
        return cls([*first, *more], rest, {"validation": len(first), "training": len(more)})


def candidate_names(task: Task, named: Sequence[str]) -> list[str]:
    """The task's own model, if it names one, the named models that are here, then `named`; each once."""
    own = [_from_here(task.model)] if "model" in task.model_fields_set else []
    here = [name for name, model in named_models().items() if fetch.local(model)]
    return list(dict.fromkeys([*own, *here, *named]))


def _from_here(name: str) -> str:
    """A directory below this one by its relative path, which is what --model calls it, too."""
    short: str = from_here(name)
    return name if is_named(short) else short


def rank(
    task: Task, named: Sequence[str], rows: int, out: Path, console: Console, progress: Progress
) -> BaseRanking:
    """Measure every candidate on the same rows, one model in memory at a time.

    named: further candidates. rows: most of the sample. out: the task's run directory. progress: called with
    (name, rows done, rows). A candidate that cannot be loaded or asked is in `failed`. Raises ConfigError for
    a task whose base is given by a parent run, DataError for data that a run would refuse.
    """
    if task.start is not None:
        raise ConfigError(f"This task continues {task.start}, whose base model it keeps.")
    prepared = without_test(task)
    sample = Sample.of(prepared, rows, task.seed)
    grading = graders.grading_format(task.data.columns, prepared.format, prepared.train)
    spec = graders.settled(graders.specs(task.evaluate.grader)[0], prepared.train)
    name, grader = graders.resolve(spec, grading, Path.cwd(), task.evaluate.grader_seconds)
    results: list[BaseResult] = []
    failed: dict[str, str] = {}
    for candidate in candidate_names(task, named):
        console.print(f"{candidate}: loading", markup=False, highlight=False, soft_wrap=True)
        context = RunContext(task.model_copy(update={"model": candidate}), out, console)
        context.prepared = prepared
        try:
            results.append(_measure(context, sample.examples, name, grader, progress))
        except (ModelError, DataError, GradeError, ConfigError, MemoryError) as error:
            failed[candidate] = str(error) or "there is not enough memory for it"
        del context  # and its model, before the next one is loaded
    ranking = BaseRanking(
        name=task.name,
        source=source_name(task.data.train),
        grader=name,
        rows=sample.rows,
        ids=[example.id for example in sample.examples],
        results=results,
        failed=failed,
        baselines=_baselines(prepared, sample, name, grader),
        fitted=len(sample.rest),
        method=_method(task),
    )
    return ranking.advised(answer_bytes(sample.examples), row_groups(sample.examples))


def write(ranking: BaseRanking, out: Path) -> BaseRanking:
    """Write models/ranking.json and models/report.html into the run directory."""
    ranking = replace(ranking, page=out / "models" / "report.html")
    with workspace.occupied(out):
        write_json(out / "models" / "ranking.json", ranking.to_json())
        write_text(out / "models" / "report.html", base_ranking_page.render(ranking))
    return ranking


def without_test(task: Task) -> PreparedData:
    """The train and validation rows that a run of this task would have, in memory; nothing is written.

    Rows that the split gives to the test are dropped, and a test file of the user's is not opened. Raises
    DataError as `prepare`.
    """
    if not isinstance(task.data.test, float):
        task = task.model_copy(update={"data": task.data.model_copy(update={"test": 0.0})})
    data = assemble(task, parent.parent_run(task))
    if blocking := blocking_findings(data.findings, task.data.allow):
        raise DataError("\n".join(finding.message() for finding in blocking))
    train, validation, count = data.sides["train"], data.sides["validation"], len(data.sides["test"])
    return PreparedData(train, validation, count, data.format, data.labels, data.notes)


def _measure(
    context: RunContext, examples: Sequence[Example], grader_name: str, grader: Grader, progress: Progress
) -> BaseResult:
    name, model = context.task.model, context.initial_model()
    if reward_head.is_reward(model.hf):
        raise ModelError(f"{name} is a reward model: it scores answers and cannot generate text.")
    for note in (*model.notes, *context.renderer.notes):
        context.console.print(f"{name}: {note}", markup=False, highlight=False, soft_wrap=True)
    context.task = with_answer_tokens(context, model, examples)
    candidate = asking.candidate(context, grader_name, model, asking.prompt(context, grader_name, 0))
    asked, notes = askable(candidate, examples)
    if not asked:
        raise GradeError(notes[0])
    bits_R = np.full(len(examples), np.nan)
    bits_R[asked], reasons = answer_bits(candidate, [examples[row] for row in asked])
    if reasons:
        notes.append(f"{len(reasons)} of {len(examples)} rows have no bits; {reasons[0]}")
    bits = per_byte(bits_R, answer_bytes(examples), row_groups(examples))
    times = [time.perf_counter()]

    def answered(_: str, done: int, total: int) -> None:
        times.append(time.perf_counter())
        progress(name, done, total)

    score = evaluate(
        [examples[row] for row in asked],
        [candidate],
        grader,
        grader_name,
        "validation",
        progress=answered,
        normalise=answer_normaliser(context.renderer),
    ).summary["candidates"][0]
    parameters, memory = model.hf.num_parameters(), device_memory(model.device)
    step = _step_tokens(context, examples)
    needed = needed_bytes(_shape(model), parameters, _method(context.task), memory, step)
    return BaseResult(
        name=name,
        bits=bits,
        score=score,
        rows=len(asked),
        seconds=(times[-1] - times[0]) / len(asked),
        parameters=parameters,
        memory=needed,
        fits=fits(needed, memory),
        context=model.max_tokens,
        licence=named_models()[name].licence if is_named(name) else "",
        notes=[*notes, *candidate.notes],
        bits_R=bits_R,
    )


def _step_tokens(context: RunContext, examples: Sequence[Example]) -> int | None:
    """Tokens of a step of rows as long as these; None where it samples answers, or none can be rendered."""
    if context.task.train.method in RL_METHODS:
        return None
    lengths: list[int] = []
    for example in examples:
        with suppress(DataError):  # a row that cannot be rendered is left out later
            lengths.append(sum(map(len, context.renderer.training_rows(example))))
    batch = context.task.train.batch_size
    rows = MOST_ROWS if batch == "auto" else batch
    return round(rows * fmean(lengths)) + max(lengths) if lengths else None


def with_answer_tokens(context: RunContext, model: Model, examples: Sequence[Example]) -> Task:
    """The context's task with evaluate.max_tokens as a run sets it, by the longest answer of the sample."""
    task, longest = context.task, 1
    if task.evaluate.max_tokens != "auto":
        return task
    for example in examples:
        with suppress(DataError):  # a row that cannot be rendered is left out later
            rows = context.renderer.training_rows(example)
            longest = max(longest, *(int((row.weight > 0).sum()) for row in rows))
    limit = row_limit(task.data.max_tokens, model.max_tokens, context.tokenizer) or model.max_tokens
    tokens = answer_tokens(longest, limit)
    return task.model_copy(update={"evaluate": task.evaluate.model_copy(update={"max_tokens": tokens})})


def askable(candidate: ModelCandidate, examples: Sequence[Example]) -> tuple[list[int], list[str]]:
    """The indices of rows that can be asked, and a sentence on the others."""
    asked, reasons = [], []
    for row, example in enumerate(examples):
        try:
            candidate.context(example)
        except GradeError as error:
            reasons.append(f"{source_location(example)} {error}")
        else:
            asked.append(row)
    note = f"{len(reasons)} of {len(examples)} rows cannot be asked; {reasons[0]}" if reasons else ""
    return asked, [note] if note else []


def _baselines(
    prepared: PreparedData, sample: Sample, grader_name: str, grader: Grader
) -> list[dict[str, Any]]:
    """Entries of summary.json of the majority class and a bag of words; [] for tasks without labels."""
    if not prepared.labels or not sample.rest or grader_name == graders.PERPLEXITY:
        return []
    simple: list[Candidate] = [Majority(sample.rest), BagOfWords(sample.rest)]
    found = evaluate(sample.examples, simple, grader, grader_name, "validation")
    return list(found.summary["candidates"])


def _method(task: Task) -> str:
    return "full" if task.train.adapter == "none" else "lora"


def _shape(model: Model) -> Shape:
    config, embeddings = model.hf.config.get_text_config(), model.hf.get_input_embeddings().weight
    vocabulary, hidden = embeddings.shape
    inner = inner_width(config) or 4 * hidden
    tied = Head.of(model.hf).linear.weight is embeddings
    return Shape(int(config.num_hidden_layers), int(hidden), inner, int(vocabulary), tied)
