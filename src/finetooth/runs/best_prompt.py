"""The prompt to beat: that of the task, or the one that a search found for a run; and what a search costs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from statistics import fmean

from finetooth.config.task import Task
from finetooth.errors import DataError
from finetooth.evaluation import graders
from finetooth.evaluation.prompting import spec
from finetooth.evaluation.prompting.advice import PASSES
from finetooth.quality.prepare import PreparedData
from finetooth.report.prompting_part import efforts
from finetooth.rundir import read_json
from finetooth.runs import retention, workspace
from finetooth.runs.context import RunContext, base_digest
from finetooth.training import schedule
from finetooth.tree import PrefixTree, Row

PROMPT, RESULT = "baseline/prompt.yaml", "baseline/baseline.json"  # in the run directory
ANSWERS = 300  # of the search in `run`; finetooth baseline has a larger budget
SHARE = 1 / 3  # of what training computes: the most that a search and its prompt may cost where auto decides
SEARCHED, FOUND = 2, 4  # demonstrations for one row alone: of the mean prompt tried, of a likely winner
SAMPLE = 64  # training rows, for their mean length


def made_for(task: Task, prepared: PreparedData, base: str) -> dict[str, str]:
    """What a search was made for, see `spec.made_for`. base: the base model's digest."""
    rows = (*prepared.train, *prepared.validation)
    return spec.made_for(base, task.instruction, (example.id for example in rows))


def prompt_file(context: RunContext) -> Path | None:
    """The key evaluate.prompt, else the prompt that a search found for the run's model and rows."""
    task, path = context.task, context.path
    if task.evaluate.prompt is not None:
        return Path(task.evaluate.prompt)
    if not ((path / workspace.CONFIG).is_file() and (path / RESULT).is_file()):
        return None
    wanted = made_for(task, context.prepared, base_digest(path))
    return path / PROMPT if read_json(path / RESULT).get("made_for") == wanted else None


def obstacle(task: Task) -> str:
    """Why no prompt is searched for this task; "" where one can be."""
    first = graders.specs(task.evaluate.grader)[:1]
    if not first or first[0] in (graders.PERPLEXITY, graders.PREFERENCE):
        return "prompts are compared by graded answers"
    if task.start is not None:
        return "the run continues another one"
    return ""


def automatic(context: RunContext) -> tuple[bool, str]:
    """Whether `run` searches for the prompt to beat where evaluate.ladder is auto, and why.

    It does if the base has abilities to prompt, and search and prompt cost little beside the training.
    """
    task, model = context.task, context.model
    weights = sum(weight.numel() for weight in model.hf.parameters())
    if model.fresh or weights < retention.WEIGHTS:
        return False, f"the base has {weights:,} weights"
    if task.evaluate.prompt is not None:
        return False, "evaluate.prompt is the prompt to beat"
    if task.tuned is not None or task.train.method != "sft" or obstacle(task):
        return False, obstacle(task) or "only a search beside supervised training is automatic"
    share = search_tokens(context) / training_tokens(context)
    cost = f"the search and its prompt would compute {100 * share:.0f}% of what training does"
    return share <= SHARE, cost


def training_tokens(context: RunContext) -> float:
    """The tokens that training computes, each as PASSES tokens of an answer."""
    train, rows = context.task.train, context.train_rows
    size, epochs = train.batch_size, train.epochs
    assert size != "auto" and epochs != "auto", "the configuration is resolved"
    batch = rows[:: max(1, len(rows) // size)][:size]
    steps = schedule.total_steps(len(schedule.group_by_unit(rows)), size, epochs, train.max_steps)
    return float(PASSES * steps * len(PrefixTree.build(batch)))


def search_tokens(context: RunContext) -> float:
    """About how many tokens a search computes, and the evaluation of its prompt on base and tuned model."""
    prepared, limit = context.prepared, context.task.evaluate.limit
    rows: list[Row] = []
    for example in prepared.train[:: max(1, len(prepared.train) // SAMPLE)]:
        with suppress(DataError):  # a row that cannot be rendered is left out of the training, too
            rows += context.renderer.training_rows(example)
    length, answer = fmean(map(len, rows)), fmean(int((row.weight > 0).sum()) for row in rows)
    labels = max(0, len(prepared.labels) - 1) * answer
    sides = len(prepared.validation), prepared.sealed_count
    evaluated = sum(count if limit is None else min(count, limit) for count in sides)
    searched = ANSWERS * ((1 + SEARCHED) * length + labels)
    return searched + 2 * evaluated * ((1 + FOUND) * length + labels)


def search_seconds(path: Path, tokens: float) -> float | None:
    """About how long answers of so many tokens take, by the speed of the run's training; None without one."""
    training = efforts(path, {})["training"]
    computed = training["computed_tokens"]
    return tokens * float(training["seconds"]) / (PASSES * computed) if computed else None
