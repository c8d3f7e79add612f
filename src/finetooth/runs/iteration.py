"""The next iteration of a run: the task that trains it again with change sets, and where it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import join
from typing import Any

from rich.console import Console

from finetooth.config.load import load_task
from finetooth.config.task import Task, fields
from finetooth.config.values import format_count, safe_name
from finetooth.data.change_sheet import CHANGE, ROW
from finetooth.errors import ConfigError, DataError
from finetooth.quality.change_sets import RowChange, read_change_sets
from finetooth.quality.prepare import read_rows
from finetooth.report.settings import read_config
from finetooth.rundir import has_manifest, read_json
from finetooth.runs import inputs, next_files, next_steps, workspace
from finetooth.runs.context import RunContext
from finetooth.runs.pool import held_out


def next_task(
    run: Path, files: Sequence[Path], onward: bool, overrides: Mapping[str, Any], task: Task | None = None
) -> Task:
    """The task of the next iteration: the run's own with its change sets and these.

    onward: go on from the run's weights; otherwise from its base again, on its split. overrides: dotted keys.
    task: another task in place of the run's own. Without it, what was chosen automatically for the training
    is chosen anew for the rows that there are now; what decides whether results can be compared (the grader,
    the template, lengths) stays. Raises ConfigError for a run of which no task can be made.
    """
    stored = workspace.load_config(run)
    new = [str(file.resolve()) for file in files]
    _require_earlier(run, stored, new)
    split = run / "data" / "split.json"
    if not split.is_file():
        raise ConfigError(f"{run} has no split yet. To make it: finetooth train {run}")
    if not onward and "sealed_format" in read_json(split):
        raise ConfigError(
            f"{run} continues {stored.start} and is tested on its rows, so it is not trained from the base. "
            "To go on from its weights: --onward."
        )
    changed: dict[str, Any] = {}
    if task is None:
        task = _require_repeatable(run, stored)
        _, reasons = read_config(run / workspace.CONFIG)
        known = dict(fields())
        for key in (key for key in reasons if key.startswith("train.") and key in known):
            default = known[key].get_default(call_default_factory=True)
            if default == "auto" or key.rpartition(".")[2] in workspace.NULL_IS_AUTO:
                changed[key] = default
        changed["template"] = workspace.template(stored, run)
    changed |= {key: value for key, value in overrides.items() if key != "start"}
    changed["data.add"] = list(dict.fromkeys([*stored.data.add, *task.data.add, *new]))
    changed["start"] = str(run.resolve()) if onward else None
    changed["data.split_from"] = None if onward else str(run.resolve())
    return load_task(task, changed)


def _require_earlier(run: Path, stored: Task, new: Sequence[str]) -> None:
    """Raise ConfigError unless the run's own change sets are as they were and none is given again."""
    if again := next((file for file in new if file in stored.data.add), None):
        raise ConfigError(
            f"{again}: {run} was made with it already. Put further rows into a file of their own."
        )
    changed, gone = inputs.changes(stored, run)
    for file in [*(one.file for one in changed), *gone]:
        if file in stored.data.add:
            raise ConfigError(
                f"{file} has changed since {run} was made with it, and the next iteration builds on it. "
                "Restore it; further rows go into a file of their own."
            )


def _require_repeatable(run: Path, stored: Task) -> Task:
    """The run's own task. Raises ConfigError where it cannot be trained again."""
    give = f"finetooth run TASK --add FILE --from {run}"
    if stored.tuned is not None:
        raise ConfigError(f"{run} has evaluated {stored.tuned}, trained elsewhere. To train: {give}")
    if next_steps.in_python(stored):
        raise ConfigError(
            f"{run} was made of rows from Python, of which it keeps no copy. In Python: ft.run(task, "
            f'overrides={{"data.add": [FILE], "data.split_from": "{run}"}}); for rows in a file: {give}'
        )
    try:
        inputs.require_trusted(run, "run")
    except ConfigError:
        raise ConfigError(
            f"{run} was not made here, and its config.yaml names code that would run. Read it first; if you "
            f"trust it, give it as the task: finetooth run {run / workspace.CONFIG} --add FILE --from {run}"
        ) from None
    return stored


def place(task: Task, run: Path, out: Path | None) -> tuple[Task, Path]:
    """The task under the name of its run directory, and the directory.

    out: by default the run's with the next number, where there is none yet or this iteration was begun.
    """
    if out is None:
        out = next(path for path in next_steps.numbered(run) if not path.exists() or _is_begun(path, task))
    return task.model_copy(update={"name": safe_name(out.resolve().name)}), out


def _is_begun(path: Path, task: Task) -> bool:
    """Whether this directory is of the same iteration: finished, interrupted, or refused by the gate."""
    if not (path / workspace.CONFIG).is_file():
        return has_manifest(path)
    try:
        there = workspace.load_config(path)
    except ConfigError:
        return False
    wanted = (task.data.add, task.start, task.data.split_from)
    return (there.data.add, there.start, there.data.split_from) == wanted


def check_command(task: Task, run: Path) -> str:
    """The command that shows the findings on the data of the next iteration, which has no task file."""
    kept = {"start": task.start} if task.start else {"data.split_from": task.data.split_from}
    flags = next_steps.flag_words({"data.add": task.data.add, **kept})
    return join(["finetooth", "check", str(run / workspace.CONFIG), *flags])


def require_changes(task: Task, files: Sequence[Path]) -> None:
    """Raise ConfigError where no row of these change sets is filled in: the same model would come out."""
    if not _changes(task, files):
        raise ConfigError(
            f"{', '.join(map(str, files))}: no row is filled in, so the next iteration would be the same. "
            "Write the missing answers, then run the same command again."
        )


def _changes(task: Task, files: Sequence[Path]) -> list[RowChange]:
    """What these change sets change, in order; rows that are not filled in are left out."""
    found = read_rows(task)
    sets = read_change_sets([str(file) for file in files], task.data, found.plan, found.format)
    return [change for one in sets for change in one.changes]


@dataclass(frozen=True, slots=True)
class RandomArm:
    """The change set of a random arm. added: how many rows it adds. choosers: the ids of the validation rows
    that have chosen all rows that the targeted arm adds, so that the others can judge; none where they are
    not known. problem: why they are not, in words.
    """

    rows: list[dict[str, Any]]
    added: int
    choosers: set[str]
    problem: str


def random_arm(task: Task, run: Path, files: Sequence[Path], random: Path, console: Console) -> RandomArm:
    """The corrections and removals of `files` with as many added rows as these have: the first of `random`,
    whose order is random.

    Raises ConfigError where they add none, or `random` has too few; DataError for a row of `random` that is
    nearly a held-out row, before anything is trained.
    """
    changes, drawn = _changes(task, files), _changes(task, [random])
    drawn = [change for change in drawn if change.kind == "add"]
    added = [change for change in changes if change.kind == "add" and change.example]
    count, names = len(added), ", ".join(map(str, files))
    if not count:
        raise ConfigError(f"--random: {names} adds no row that is filled in, so there is nothing to compare.")
    if len(drawn) < count:
        raise ConfigError(
            f"--random: {random} has {len(drawn)} filled-in rows to add, and {names} adds {count}: the "
            f"random arm takes as many. Fill in more of them, or leave {count - len(drawn)} out of {names}."
        )
    drawn = drawn[:count]
    context = RunContext.of_run(run, console)
    examples = [change.example for change in drawn if change.example]
    if near := held_out(context, examples):
        raise DataError(
            f"{drawn[min(near)].place}: this row is nearly a held-out row, so a score would measure memory. "
            f"Delete it from {random}."
        )
    kept = [*(change for change in changes if change.kind != "add"), *drawn]
    by, others = next_files.choosers(run, [change.example for change in added if change.example])
    places = [change.place for change in added if change.example in others]
    problem = ""
    if not by:
        problem = (
            f"It is not known which validation rows have chosen {format_count(len(places), 'added row')}"
            f"{f', such as {places[0]}' if places else ''}: all validation rows judge the two arms, and "
            "favour rows that were chosen by them, so it cannot be proven that targeting helped."
        )
    rows = [{**change.values, CHANGE: change.kind, ROW: change.row} for change in kept]
    return RandomArm(rows, count, by, problem)
