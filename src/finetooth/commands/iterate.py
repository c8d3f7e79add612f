"""`finetooth run --add FILE --from RUN`: the next iteration, compared with the run that it comes from.

With --random a second arm is trained: the same corrections and removals, and as many added rows that were
drawn at random. Only the difference between the two arms says whether choosing the rows has helped, since
more rows of any kind may help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from finetooth.analysis.annotations import FOLDER
from finetooth.commands import compare, evaluate, report, seeds, train
from finetooth.commands.compare import CompareReport
from finetooth.commands.run import Run, run_task
from finetooth.config.task import Task
from finetooth.config.values import format_count
from finetooth.errors import ConfigError, DataError, FinetoothError, Interrupted
from finetooth.evaluation.recipes import MIN_SEEDS
from finetooth.evaluation.statistics import MIN_ROWS
from finetooth.evaluation.verdict_words import percent, points
from finetooth.rundir import jsonl_bytes, read_json, write_bytes, write_json
from finetooth.runs import inputs, iteration, paired, parent, workspace
from finetooth.runs.context import RunContext
from finetooth.runs.lineage import RANDOM, TARGETING
from finetooth.runs.paired import RunScores

RANDOM_ARM = f"{FOLDER}/random_arm.jsonl"  # the change set of the random arm
CHOOSERS = f"{FOLDER}/choosers.json"  # the validation rows that have chosen the rows of the other arm
# The random arm answers the validation rows, and nothing else is measured of it.
ONLY_TUNED = {"shots": [], "ladder": False, "prompt": None, "retention": False, "general": []}


@dataclass(frozen=True, slots=True)
class IterationReport:
    """The new run, its comparison with the one that it comes from, and whether targeting has helped.

    comparison: None where they cannot be compared; problem says why. targeting: None without a random arm.
    """

    run: Run
    against: Path
    comparison: CompareReport | None
    problem: str
    targeting: Mapping[str, Any] | None
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The run's values, with the iteration's own beside them."""
        compared = None if self.comparison is None else self.comparison.to_json()
        about = {"against": str(self.against), "compared": compared, "targeting": self.targeting}
        return {**self.run.to_json(), **about}

    def print(self, console: Console) -> None:
        """The run's result, then what has changed since the last iteration."""
        self.run.print(console)
        lines = [self.problem]
        if self.comparison is not None:
            lines = [*(pair["words"] for pair in self.comparison.comparisons), self.comparison.adjustment]
        lines += [] if self.targeting is None else [self.targeting["words"]]
        for line in filter(None, lines):
            console.print(f"\n{line}", highlight=False, markup=False, soft_wrap=True)

    def next_steps(self) -> list[str]:
        """The commands to type next, each with its purpose."""
        errors = f"finetooth errors {quote(str(self.run.path))} --against {quote(str(self.against))}"
        return [f"{errors}    see what is fixed and what is broken", *self.run.next_steps()]


def run(
    task: Task,
    against: Path,
    files: Sequence[Path],
    out: Path | None,
    console: Console,
    file: Path | None = None,
    sealed: bool = False,
    random: Path | None = None,
) -> IterationReport:
    """Train and evaluate the next iteration of a run, and compare it with that run.

    task: of `iteration.next_task`. files: the new change sets. file: the task file, if one was given. random:
    a change set whose added rows are a random draw. Finished stages are skipped, so the same call goes on
    after an interruption. Raises FinetoothError.
    """
    task, out = iteration.place(task, against, out)
    iteration.require_changes(task, files)
    arm, drawn, rows = out.with_name(out.name + RANDOM), None, b""
    if random is not None:
        if not read_json(against / "data" / "split.json")["validation"]:
            raise ConfigError(f"--random: {against} has no validation rows on which to compare the two arms.")
        drawn = iteration.random_arm(task, against, files, random, console)
        rows = jsonl_bytes(drawn.rows)
        _require_same_draw(out, arm, rows, random)
        drawn = replace(drawn, choosers=_choosers(out, arm, drawn.choosers))
        if not drawn.choosers and drawn.problem:
            console.print(f"random arm: {drawn.problem}", style="yellow", soft_wrap=True, highlight=False)
    try:
        done = run_task(task, out, console, file, sealed)
        if drawn is not None:
            added = format_count(drawn.added, "row")
            console.print(f"random arm: {arm}, with {added} of {random}", soft_wrap=True)
            with workspace.occupied(out):
                write_bytes(out / RANDOM_ARM, rows)
                write_json(out / CHOOSERS, {"choosers": sorted(drawn.choosers)})
            _train_arm(task, arm, out, files, console)
    except DataError as error:
        if file is not None:
            raise
        said = str(error).replace("finetooth check TASK", iteration.check_command(task, against))
        raise DataError(said) from None
    comparison, problem = None, ""
    try:
        comparison = compare.run([against, out], sealed=False)
    except FinetoothError as error:
        problem = f"Not compared with {against}: {error}"
    found = None
    if drawn is not None:
        found = targeting(out, arm, drawn.added, drawn.choosers)
        with workspace.occupied(out):
            write_json(out / TARGETING, found)
    return IterationReport(done, against, comparison, problem, found)


def _require_same_draw(out: Path, arm: Path, rows: bytes, random: Path) -> None:
    """Raise ConfigError where the random arm was begun with other rows."""
    known = out / RANDOM_ARM
    if (arm / workspace.CONFIG).is_file() and not (known.is_file() and known.read_bytes() == rows):
        raise ConfigError(
            f"{arm} was made of other rows than those of {random} are now. Choose another --out."
        )


def _choosers(out: Path, arm: Path, now: set[str]) -> set[str]:
    """The ids of the validation rows that have chosen, as they were when the arm was begun: RUN/errors may
    hold the record of another draw since.
    """
    if (arm / workspace.CONFIG).is_file() and (out / CHOOSERS).is_file():
        return {*read_json(out / CHOOSERS)["choosers"]}
    return now


def _train_arm(task: Task, path: Path, out: Path, files: Sequence[Path], console: Console) -> None:
    """Train the random arm, and let it answer the validation rows. It never opens the sealed test."""
    new = {str(file.resolve()) for file in files}
    add = [*(name for name in task.data.add if name not in new), str((out / RANDOM_ARM).resolve())]
    changed = {
        "name": task.name + RANDOM,
        "data": task.data.model_copy(update={"add": add}),
        "evaluate": task.evaluate.model_copy(update={**ONLY_TUNED, "perturbations": False}),
    }
    task = parent.inherit_settings(task.model_copy(update=changed), console)
    context = RunContext(task, path, console)
    again = f"finetooth run TASK --out {quote(str(out))} (with the same flags); finished stages are skipped"
    try:
        with workspace.occupied(path):
            workspace.open_run(task, path)
            inputs.require_unchanged(task, path, console)
            train.train(context, needs_grader=True)
            if not (path / "evaluate" / "validation" / "summary.json").is_file():
                evaluate.evaluate_run(context, sealed=False)
            if context.task.train.seeds > 1:
                seeds.train_others(context)
                seeds.evaluate_others(context)
            report.run(path)
    except Interrupted as error:
        raise Interrupted(error.message, again if error.next_command else "") from None


def targeting(targeted: Path, random: Path, added: int, choosing: Set[str]) -> dict[str, Any]:
    """Whether the chosen rows have helped more than as many that were drawn at random.

    The two models are compared on the validation rows; with several seeds, the two recipes. `helped` needs a
    confidence interval above 0 and as many rows (and seeds) as any verdict; all else is `not proven`. The
    comparison was planned, so it is not adjusted for other runs. added: rows that each arm has added.
    choosing: ids of the validation rows that have chosen them; the arms are compared on the others alone.
    Where these are not known no comparison is fair, and nothing is proven.
    """
    arms = [_without(paired.read_scores(path, "validation"), choosing) for path in (random, targeted)]
    pair = paired.paired(*arms)
    decisive = pair["recipe"] or pair
    helped = bool(choosing) and decisive["verdict"] == "better" and decisive["low"] > 0
    kept = {key: decisive[key] for key in ("n", "units", "scores", "difference", "low", "high", "p")}
    found = {
        "verdict": "helped" if helped else "not proven",
        "targeted": str(targeted),
        "random": str(random),
        "added": added,
        "chosen_by": len(choosing),
        "seeds": list(pair["recipe"]["seeds"]) if pair["recipe"] else [1, 1],
        **kept,
    }
    return {**found, "words": _words(found)}


def _without(arm: RunScores, out: Set[str]) -> RunScores:
    """Its scores without those of the rows with these ids."""

    def kept(scores: Mapping[str, Any]) -> dict[str, Any]:
        return {id: score for id, score in scores.items() if id not in out}

    seeds = [kept(scores) for scores in arm.seeds]
    return replace(arm, score_I=kept(arm.score_I), lenient_I=kept(arm.lenient_I), seeds=seeds)


def _words(found: Mapping[str, Any]) -> str:
    other, chosen = map(percent, found["scores"])
    apart = found["chosen_by"] > 0
    start = "Targeting helped:" if found["verdict"] == "helped" else "Not proven that targeting helped:"
    rows = format_count(found["added"], "added row")
    words = (
        f"{start} with the {rows} the model scores {chosen}, with as many drawn at random {other}, on "
        f"{format_count(found['n'], 'validation row')}{' that have chosen none' if apart else ''}; the "
        f"paired difference is {points(found['difference'])} points, 95% confidence interval "
        f"{points(found['low'])} to {points(found['high'])}."
    )
    if not apart:
        words += (
            " Rows that were chosen by failures on these very validation rows are favoured here, so nothing "
            "is proven; `errors --next --random` lets one half of them choose and the other half judge."
        )
    if found["high"] < 0:
        words += " The rows drawn at random did better."
    if found["units"] < MIN_ROWS:
        words += f" A verdict needs {MIN_ROWS} independent rows."
    elif 1 < min(found["seeds"]) < MIN_SEEDS:
        words += f" A verdict on recipes needs {MIN_SEEDS} seeds of each."
    elif min(found["seeds"]) == 1:
        words += " That is about one training of each; with train.seeds: 3 the seed counts as chance too."
    return words
