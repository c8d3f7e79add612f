"""`finetooth curve TASK`: the score against the number of training rows, and what more rows would bring.

The task is trained from its base with nested parts of its training rows, each with several seeds; every model
answers the same validation rows. The sealed test is neither copied nor opened.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.commands import train
from finetooth.commands.evaluate import evaluate_rows, sample_rows
from finetooth.config.task import Task
from finetooth.config.values import format_count
from finetooth.data.examples import read_examples
from finetooth.errors import ConfigError, Interrupted
from finetooth.evaluation.prompts import Prompt
from finetooth.evaluation.summary import TUNED
from finetooth.quality.prepare import AssembledData, PreparedData, prepare
from finetooth.report import curve_page
from finetooth.rundir import claim, read_json, write_bytes, write_json, write_text
from finetooth.runs import check, curve_result, inputs, next_steps, parent, sized_runs, workspace
from finetooth.runs.asking import candidate, primary_grader
from finetooth.runs.context import RunContext
from finetooth.runs.sized_runs import ANSWERS, FOLDER, MEASURED, Sized
from finetooth.training.schedule import steps_per_epoch

PLAN = "task.json"  # in OUT/curve: the task whose curve it is
FILE, PAGE = "curve.json", "curve.html"  # in OUT


@dataclass(frozen=True, slots=True)
class CurveReport:
    """The trainings and what they say: curve.json."""

    path: Path
    curve: dict[str, Any]
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The directory and the curve."""
        return {"out": str(self.path), **self.curve}

    def print(self, console: Console) -> None:
        """The sizes with their scores, the forecast, and where more rows would help most."""
        console.print(curve_page.terminal_tables(self.curve))
        console.print(f"\nPage: {self.path / PAGE}", highlight=False, markup=False, soft_wrap=True)


def run(
    source: Task | Path,
    sizes: Sequence[int] | None,
    seeds: int,
    out: Path | None,
    console: Console,
    trust_code: bool = False,
    folder: Path | None = None,
) -> CurveReport:
    """Measure the curve of a task, or of a run directory's rows and settings; goes on where it stopped.

    sizes: of the training sets; default all rows and halvings. out: default runs/NAME-curve. folder: that of
    the task file. Raises ConfigError for a task without a curve, without validation rows or with too few rows
    for the sizes, and Interrupted.
    """
    run_path = source if isinstance(source, Path) else None
    if run_path is not None:
        inputs.require_trusted(run_path, "curve", trust_code)
    task = sized_runs.task_of_run(source) if isinstance(source, Path) else source
    sized_runs.require_curve(task)
    if run_path is None:
        task = parent.inherit_settings(task, console)
    out = workspace.run_path(task, None).with_name(f"{task.name}-curve") if out is None else out
    with workspace.occupied(out):
        claim(out / FOLDER)
        prepared = _prepare(RunContext(task, out, console, folder), run_path)
        chosen = _sizes(sizes, len(prepared.train))
        first = task.seed if task.train.seed is None else task.train.seed
        _train_all(task, out, prepared, sized_runs.plan(chosen, first, seeds), console)
        trainings = [*sized_runs.measured(out)]
        curve = {"name": task.name, "model": task.model, "rows": len(prepared.train)}
        curve |= {"validation": len(prepared.validation), "trainings": trainings}
        curve |= curve_result.result(out, trainings, prepared.validation)
        write_json(out / FILE, curve)
        write_text(out / PAGE, curve_page.render(curve))
    return CurveReport(out, curve)


def _prepare(context: RunContext, run: Path | None) -> PreparedData:
    """The training and validation rows, once they have passed the data gate, or those of a run.

    Raises ConfigError where OUT was begun with other rows or another configuration.
    """
    task, out = context.task, context.path
    known = (out / "data" / "split.json").is_file()
    if known:
        _require_same(task, out, run)
    if run is not None and not known:
        sides = {side: [*read_examples(run / f"data/{side}.jsonl")] for side in ("train", "validation")}
        format = read_json(run / "data" / "split.json")["format"]
        data: AssembledData | None = AssembledData(format, sides, [], 0, [], [])
    else:
        data = check.run_gate(context, needs_grader=True)
    if data is not None:
        data = replace(data, sides={**data.sides, "test": []}, sealed_of=None)
    prepared = prepare(task, out, data)
    _require_same(task, out, run)
    if prepared.format == "text":
        raise next_steps.not_gradable_error("A curve needs answers that can be graded.")
    if not prepared.validation:
        raise ConfigError("data.validation is 0: there are no validation rows that the models could answer.")
    return prepared


def _require_same(task: Task, out: Path, run: Path | None) -> None:
    """Keep what the curve is of, or raise ConfigError where it was begun with something else."""
    inputs_now = {} if run else inputs.provenance(task, out)["inputs"]
    digests = {name: entry["sha256"] for name, entry in inputs_now.items()}
    file = out / FOLDER / PLAN
    before = read_json(file)["inputs"] if file.is_file() else digests
    if changed := sorted(name for name, digest in digests.items() if before.get(name) != digest):
        raise ConfigError(
            f"{changed[0]} has changed since {out} was begun, whose rows are those of then. For a curve of "
            "what it holds now choose another --out."
        )
    source = None if run is None else str(run.resolve())
    workspace.require_same_task(task, file, {"inputs": before, "run": source})


def _sizes(given: Sequence[int] | None, rows: int) -> list[int]:
    """The sizes, the smallest first. Raises ConfigError for one beyond the training rows."""
    sizes = sized_runs.default_sizes(rows) if given is None else sorted(set(given))
    if sizes[-1] > rows or sizes[0] < 1:
        wrong = sizes[-1] if sizes[-1] > rows else sizes[0]
        raise ConfigError(
            f"--sizes: {wrong} is not between 1 and the {format_count(rows, 'training row')} that there are."
        )
    return sizes


def _train_all(
    task: Task, out: Path, prepared: PreparedData, planned: Sequence[Sized], console: Console
) -> None:
    """Train and measure what is not measured yet."""
    spent: list[tuple[int, float]] = []  # rows and seconds of what was trained now
    for number, one in enumerate(planned):
        path = out / FOLDER / one.name
        if (path / MEASURED).is_file():
            continue
        console.print(
            f"curve: {format_count(one.size, 'row')}, seed {one.seed} ({number + 1} of {len(planned)})",
            highlight=False,
        )
        started = time.perf_counter()
        with workspace.occupied(path):
            found = _measure(sized_runs.task_of(task, one, number == 0), path, prepared, one)
        spent.append((one.size, time.perf_counter() - started))
        left = [
            other.size
            for other in planned[number + 1 :]
            if not (out / FOLDER / other.name / MEASURED).is_file()
        ]
        console.print(f"curve: {_line(found)}{_left(spent, left)}", highlight=False, soft_wrap=True)


def _measure(task: Task, path: Path, prepared: PreparedData, one: Sized) -> dict[str, Any]:
    """Train one model, or go on with it, and let it answer the validation rows."""
    context = RunContext(task, path, Console(quiet=True))
    context.given = sized_runs.rows_of(prepared, one)
    if (path / workspace.CONFIG).is_file():
        context.task = workspace.load_config(path)
    started = time.perf_counter()
    try:
        result = train.train(context, needs_grader=True).result
    except Interrupted as error:
        raise Interrupted(f"{error.message} The same command again goes on.") from None
    trained = time.perf_counter()
    asked = candidate(context, primary_grader(context), context.tuned(), Prompt(TUNED))
    rows = sample_rows(context.prepared.validation, context.task)
    answered = evaluate_rows(context, rows, "validation", None, given_candidates=[asked])
    write_bytes(path / ANSWERS, answered.files()["records.jsonl"])
    scores = [record.score for record in answered.records if record.score is not None]
    settings = context.task.train
    found = {
        "size": one.size,
        "seed": one.seed,
        "score": sum(scores) / len(scores) if scores else None,
        "graded": len(scores),
        "steps": result["steps"],
        "best_step": result["best_step"],
        "epochs": settings.epochs,
        "epochs_done": result["steps"] / steps_per_epoch(result["rows"], int(settings.batch_size)),
        "stopped_early": result["stopped_early"],
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "select": settings.select,
        "labels": len(context.prepared.labels),
        "seconds": {"training": trained - started, "answers": time.perf_counter() - trained},
    }
    write_json(path / MEASURED, found)
    shutil.rmtree(path / "train" / "checkpoints", ignore_errors=True)  # they take three times the weights
    return found


def _line(one: dict[str, Any]) -> str:
    score = "not graded" if one["score"] is None else f"score {100 * one['score']:.1f}%"
    rows, steps = format_count(one["size"], "row"), format_count(one["steps"], "step")
    seconds = sum(one["seconds"].values())
    done, planned = f"{one['epochs_done']:.1f}".removesuffix(".0"), f"{one['epochs']:g}"
    epochs = f"{planned} epochs" if done == planned else f"{done} of {planned} epochs"
    epochs += ", stopped early" if one["stopped_early"] else ""
    return f"{rows}, seed {one['seed']}: {score}, {steps} ({epochs}), {seconds:.0f} s"


def _left(spent: Sequence[tuple[int, float]], left: Sequence[int]) -> str:
    """The time that is left, in words: seconds grow with the rows, from what the smallest size took."""
    if not left:
        return ""
    least = min(seconds for _, seconds in spent) / 2 if len({size for size, _ in spent}) > 1 else 0.0
    per_row = sum(seconds - least for _, seconds in spent) / sum(size for size, _ in spent)
    minutes = sum(least + per_row * size for size in left) / 60
    return f"; about {minutes:.0f} min left" if minutes >= 1 else "; less than a minute left"
