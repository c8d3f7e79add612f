"""`train.seeds`: one recipe trained several times with seeds of its own, to tell the recipe from a lucky run.

The first seed's model is the run's, without a choice among them. The others are runs in RUN/seeds/SEED with
the same rows, prompts and settings. They answer validation rows only: the sealed test is for the run's model.
"""

from __future__ import annotations

import time
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from finetooth.commands import evaluate, train
from finetooth.commands.evaluate import EvaluateReport
from finetooth.commands.train import TrainReport
from finetooth.config.task import Task
from finetooth.errors import Interrupted
from finetooth.evaluation import ledger
from finetooth.evaluation.recipes import over_prompts, recipe_words
from finetooth.evaluation.runner import row_groups
from finetooth.evaluation.summary import is_prompting
from finetooth.rundir import claim, json_bytes, read_json, write_json
from finetooth.runs import workspace
from finetooth.runs.context import RunContext
from finetooth.runs.derived import copy_run
from finetooth.runs.replicates import FOLDER, RECORDS, replicates, scores_of


def train_all(
    source: Task | Path,
    out: Path | None,
    console: Console,
    trust_code: bool = False,
    folder: Path | None = None,
) -> TrainReport:
    """`finetooth train`: the run, then the other seeds of its recipe. See `train.run`."""
    report = train.run(source, out, console, trust_code, folder)
    with workspace.occupied(report.path):
        train_others(RunContext.of_run(report.path, console))
    return report


def others(context: RunContext) -> list[Path]:
    """The directories of the trainings beside the run's own, in the order of their seeds."""
    first, count = context.training_seed, context.task.train.seeds
    return [context.path / FOLDER / str(seed) for seed in range(first + 1, first + count)]


def train_others(context: RunContext) -> None:
    """Train the recipe with the other seeds, those that are not trained yet; each goes on where it stopped.

    Raises Interrupted as `train` does, with the command that goes on with all.
    """
    for number, path in enumerate(others(context), 2):
        if workspace.trained_path(path) is not None:
            continue
        context.release()
        context.console.print(f"seeds: training {number} of {context.task.train.seeds}, seed {path.name}")
        claim(context.path / FOLDER)
        with workspace.occupied(path):
            if not (path / workspace.CONFIG).is_file():
                task = _replicate(context.task, int(path.name))
                copy_run(context, path, task, {"train.seed": f"{path.name}: a replicate of {context.path}"})
            try:
                train.train(RunContext.of_run(path, context.console), needs_grader=False)
            except Interrupted as error:
                then = f"finetooth train {quote(str(context.path))}"
                raise Interrupted(error.message, then if error.next_command else "") from None


def _replicate(task: Task, seed: int) -> Task:
    """The run's task with another seed of the training. The preflight check has passed with the first one."""
    settings = {"seed": seed, "seeds": 1, "preflight": "off"}
    changed = task.train.model_copy(update=settings)
    return task.model_copy(update={"name": f"{task.name}-seed-{seed}", "train": changed})


def evaluate_others(context: RunContext) -> dict[str, Any] | None:
    """Evaluate the other seeds that are trained on validation rows, and add `recipe` to the run's summary.

    Returns that summary of the validation rows; None for a run of one seed, or without such rows.
    """
    path, folder = context.path, context.path / "evaluate" / "validation"
    if context.task.train.seeds == 1 or not (folder / "summary.json").is_file():
        return None
    for other in others(context):
        if workspace.trained_path(other) is not None and not (other / RECORDS).is_file():
            context.release()
            evaluate.evaluate_run(RunContext.of_run(other, context.console), sealed=False)
    summary: dict[str, Any] = read_json(folder / "summary.json")
    found = _recipe(context, summary)
    if found is None or summary.get("recipe") == found:
        return summary
    words = summary["words"].removesuffix(summary.get("recipe", {}).get("words", "")).strip()
    changed = {**summary, "recipe": found, "words": f"{words} {found['words']}"}
    files = {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.suffix == ".jsonl"}
    ledger.store_files(path, "validation", {**files, "summary.json": json_bytes(changed)}, time.time)
    if read_json(path / "evaluate" / "summary.json") == summary:
        write_json(path / "evaluate" / "summary.json", changed)
    return changed


def _recipe(context: RunContext, summary: dict[str, Any]) -> dict[str, Any] | None:
    """What the seeds say of the recipe; None for fewer than two of them."""
    runs = replicates(context.path)
    if len(runs) < 2:
        return None
    prompts = {
        entry["name"]: scores_of(context.path, entry["name"])
        for entry in summary["candidates"]
        if is_prompting(entry["name"])
    }
    tuned = [scores_of(run) for run in runs]
    every = [*tuned, *prompts.values()]
    rows = [row for row in context.prepared.validation if all(row.id in scores for scores in every)]
    graded = [row for row in rows if all(scores[row.id] is not None for scores in every)]

    def listed(scores: dict[str, float | None]) -> list[float]:
        return [scores[row.id] or 0.0 for row in graded]

    if not graded:
        return None
    first = context.training_seed
    seeds = [first if run == context.path else int(run.name) for run in runs]
    by_prompt = {name: listed(scores) for name, scores in prompts.items()}
    found = over_prompts(by_prompt, [listed(scores) for scores in tuned], row_groups(graded))
    if len(graded) < len(rows) and found["comparison"]:
        found["comparison"]["verdict"] = "not proven"
    return {"seeds": seeds, **found, "words": recipe_words(seeds, found)}


def run(path: Path, sealed: bool, console: Console, trust_code: bool = False) -> EvaluateReport:
    """`finetooth evaluate RUN`: the run, and on validation rows also its other seeds, where it has some."""
    report = evaluate.run(path, sealed, console, trust_code)
    if sealed:
        return report
    with workspace.occupied(path):
        summary = evaluate_others(RunContext.of_run(path, console))
    return report if summary is None else EvaluateReport(path, summary)
