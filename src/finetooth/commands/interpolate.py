"""`finetooth evaluate RUN --interpolate auto`: a run beside RUN whose model forgets less, without training.

Its weights are base + share * (tuned - base). The share is the one with the best score on validation rows
among those that keep general ability (runs/interpolation.py); or the one that was asked for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from rich.console import Console

from finetooth.commands import report
from finetooth.commands.evaluate import evaluate_rows, evaluate_run, require_evaluable, sample_rows
from finetooth.errors import ConfigError, TrainError
from finetooth.evaluation import graders, ledger
from finetooth.evaluation.prompts import Prompt
from finetooth.evaluation.retention import FILE, INTERPOLATION, KEPT
from finetooth.evaluation.runner import row_groups
from finetooth.evaluation.statistics import compare
from finetooth.evaluation.summary import BAG_FILE, TUNED
from finetooth.evaluation.verdict_words import percent, points
from finetooth.report.terminal import terminal_table
from finetooth.rundir import read_json, write_json
from finetooth.runs import inputs, workspace
from finetooth.runs.asking import candidate, primary_grader
from finetooth.runs.context import RunContext
from finetooth.runs.derived import copy_run
from finetooth.runs.interpolation import SHARES, Interpolated, Trial, chosen, kept_shares, line_of
from finetooth.training.verification import save_model
from finetooth.types import Example

# What tells how its model was trained, and the bag of words, which is of the same rows.
COPIED = ("train/metrics.jsonl", "train/preflight.json", BAG_FILE)
Scores = dict[str, float | None]  # of the tuned model on validation rows, by their ids


@dataclass(frozen=True, slots=True)
class InterpolateReport:
    """The new run, its record and, if it has validation rows, its summary; where no share keeps general
    ability there is no run, and not ok.
    """

    path: Path
    record: dict[str, Any]
    summary: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether there is a new run."""
        return self.record["share"] is not None

    def to_json(self) -> dict[str, Any]:
        """The run's path, its record and the summary of the contract."""
        run = {"run": str(self.path)} if self.ok else {}
        return {**run, "interpolation": self.record, **self.summary}

    def print(self, console: Console) -> None:
        """The score table of the new run, and before and after in words."""
        if self.summary:
            console.print(terminal_table(self.summary))
        console.print(f"\n{self.record['words']}", highlight=False, markup=False, soft_wrap=True)

    def next_steps(self) -> list[str]:
        """The commands to type next."""
        if not self.ok:
            return []
        run = quote(str(self.path))
        sealed = [f"finetooth evaluate {run} --sealed"] if ledger.sealed_count(self.path) else []
        return [f"finetooth report {run}", *sealed, f"finetooth chat {run}"]


def run(
    path: Path, share: float | Literal["auto"], out: Path | None, console: Console, trust_code: bool = False
) -> InterpolateReport:
    """Make and evaluate the run of an interpolated model. out: default RUN-interpolated.

    A finished one is kept, and the sealed test stays closed. Raises ConfigError for a run without a model
    that can be interpolated, and for a directory that has another run.
    """
    inputs.require_trusted(path, "evaluate", trust_code)
    source = RunContext.of_run(path, console)
    require_evaluable(source)
    inputs.require_kinds_unchanged(source.task, path, "model")
    if source.task.tuned is not None or source.task.train.method == "reward_model":
        kind = "trained elsewhere" if source.task.tuned is not None else "a reward model"
        raise ConfigError(f"{path}: its model is {kind}, which is not interpolated.")
    out = path.with_name(f"{path.name}-interpolated") if out is None else out
    with workspace.occupied(out):
        record = _known(source, out, share)
        if record is None:
            record = _record(source, share)
            if record["share"] is None:
                return InterpolateReport(out, record, {})
            write_json(out / INTERPOLATION, record)
        if workspace.trained_path(out) is None:
            _make(source, out, record)
        made = RunContext.of_run(out, console)
        summary = out / "evaluate" / "summary.json"
        if made.prepared.validation and not summary.is_file():
            evaluate_run(made, sealed=False)
        report.run(out)
        return InterpolateReport(out, record, read_json(summary) if summary.is_file() else {})


def _known(source: RunContext, out: Path, share: float | Literal["auto"]) -> dict[str, Any] | None:
    """The record of `out`, where it was begun for this run's weights; None for a new directory."""
    if not (out / INTERPOLATION).is_file():
        if (out / workspace.CONFIG).is_file():
            raise ConfigError(f"{out} has another run. Choose another --out.")
        return None
    record: dict[str, Any] = read_json(out / INTERPOLATION)
    same = record["weights"] == source.tuned().digest() and share in (record["asked"], record["share"])
    if not same:
        raise ConfigError(f"{out} has another interpolation. Choose another --out.")
    return record


def _record(source: RunContext, share: float | Literal["auto"]) -> dict[str, Any]:
    """The share that was chosen, and what it does, beside the model as it was trained."""
    console, weights = source.console, source.tuned().digest()
    model = Interpolated(source)
    rows = sample_rows(source.prepared.validation, source.task)
    if graders.specs(source.task.evaluate.grader)[0] == graders.PREFERENCE:
        rows = []  # the score is of pairs, beside a base that would take this model's place in memory
    scores: dict[float, Scores] = {}

    def tried(trial: Trial) -> Trial:
        scores[trial.share] = _scores(source, rows)
        trial = Trial(trial.share, trial.retention, _mean(scores[trial.share]))
        console.print(f"interpolate: {_trial_words(trial)}", highlight=False, soft_wrap=True)
        return trial

    before = tried(Trial(1.0, model.retention(1.0)))
    if share == "auto":
        trials = [
            tried(one) if one.retention["verdict"] == KEPT else one for one in kept_shares(model.retention)
        ]
        after = chosen(trials)
    else:
        trials = [tried(Trial(share, model.retention(share)))]
        after = trials[0]
    record = {
        "run": str(source.path),
        "weights": weights,
        "asked": share,
        "share": None if after is None else after.share,
        "before": before.to_json(),
        "after": None if after is None else after.to_json(),
        "trials": [trial.to_json() for trial in trials],
        "task": None if after is None else _task(rows, scores[1.0], scores[after.share]),
    }
    return {**record, "words": _words(record)}


def _scores(context: RunContext, rows: list[Example]) -> Scores:
    """The primary scores of the tuned model, with the weights that it has now, on validation rows."""
    if not rows:
        return {}
    asked = candidate(context, primary_grader(context), context.tuned(), Prompt(TUNED))
    found = evaluate_rows(context, rows, "validation", None, given_candidates=[asked])
    return {record.id: record.score for record in found.records}


def _mean(scores: Scores) -> float | None:
    return sum(score or 0.0 for score in scores.values()) / len(scores) if scores else None


def _task(rows: list[Example], before: Scores, after: Scores) -> dict[str, Any] | None:
    """The paired comparison of the task's scores, after minus before."""
    both = [row for row in rows if None not in (before.get(row.id), after.get(row.id))]
    if not both:
        return None
    one, two = ([scores[row.id] or 0.0 for row in both] for scores in (before, after))
    return asdict(compare(one, two, row_groups(both)))


def _trial_words(trial: Trial) -> str:
    found = trial.retention
    change = f"{points(found['difference'])} points, {points(found['low'])} to {points(found['high'])}"
    score = "" if trial.score is None else f"; score on validation rows {percent(trial.score)}"
    return f"share {trial.share:g}: general ability {found['verdict']} ({change}){score}"


def _words(record: dict[str, Any]) -> str:
    """Before and after, in sentences."""
    before, after = record["before"], record["after"]
    if after is None:
        tried = _trial_words(Trial(**record["trials"][-1]))
        return f"No share of {SHARES[0]:g} or more of the change is proven to keep general ability: {tried}."
    one, two = before["retention"], after["retention"]
    words = (
        f"With {100 * after['share']:.0f}% of the training's change of the weights, general ability is "
        f"{points(two['difference'])} points from the base's ({points(two['low'])} to {points(two['high'])}: "
        f"{two['verdict']}); before {points(one['difference'])} ({one['verdict']})."
    )
    if (task := record["task"]) is None:
        return words
    return (
        f"{words} The task's score on {task['n']:,} validation rows is {percent(after['score'])}, before "
        f"{percent(before['score'])}: a change of {points(task['difference'])} points, 95% confidence "
        f"interval {points(task['low'])} to {points(task['high'])}."
    )


def _make(source: RunContext, out: Path, record: dict[str, Any]) -> None:
    """Write the new run: its rows and configuration, the interpolated weights and, last, its result."""
    path, share = source.path, record["share"]
    train = source.task.train.model_copy(update={"interpolate": share * source.task.train.interpolate})
    task = source.task.model_copy(update={"name": out.name, "train": train})
    why = f"{train.interpolate:g}: of the change in {path}, by `evaluate --interpolate {record['asked']}`"
    copy_run(source, out, task, {"train.interpolate": why}, COPIED)
    source.release()  # its weights were moved when shares were tried
    model = line_of(source).move(share)
    saved, digest = save_model(model, out, source.renderer.chat_template), model.digest()
    write_json(out / FILE, {"tuned": digest, **record["after"]["retention"]})
    made = RunContext.of_run(out, source.console)
    loaded = made.load(adapter=saved) if workspace.is_adapter(saved) else made.load(saved)
    if loaded.digest() != digest:
        raise TrainError(f"{saved}: the saved weights are not those that were interpolated. Run it again.")
    result = read_json(path / "train" / "result.json")
    write_json(out / "train" / "result.json", {**result, "model": str(saved)})
