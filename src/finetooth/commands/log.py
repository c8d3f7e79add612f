"""`finetooth log TASK|FOLDER|RUN`: the iterations of a task, how each scores and what changed in it.

Nothing is trained or answered, and no sealed row is read. `--overfitting` alone loads a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from finetooth.config.load import load_task, task_file_in
from finetooth.errors import ConfigError
from finetooth.report import html, log_page
from finetooth.report.log_table import print_task
from finetooth.runs import lineage, workspace
from finetooth.runs.history import DAMAGED, MEASURED, History, changes_in_words
from finetooth.runs.lineage import KEEPS, Run
from finetooth.runs.sized_runs import is_curve

TASKS = (".yaml", ".yml", ".toml", ".json")


@dataclass(frozen=True, slots=True)
class LogReport:
    """The iterations of each task that was found. tasks: {name, title, note, adjusted, iterations}."""

    tasks: list[dict[str, Any]]
    page: Path | None = None
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values; `iterations` are those of runs/history.py."""
        return {"tasks": self.tasks, "report": None if self.page is None else str(self.page)}

    def print(self, console: Console) -> None:
        """A table for each task, then what changed in each iteration and how to repeat it."""
        for number, task in enumerate(self.tasks):
            if number:
                console.print()
            print_task(console, task)
        if self.page is not None:
            console.print(f"\nReport: {self.page}", highlight=False, markup=False, soft_wrap=True)


def run(
    target: Path,
    page: Path | None = None,
    overfitting: bool = False,
    console: Console | None = None,
    trust_code: bool = False,
) -> LogReport:
    """The iterations of a task, of the task of a run, or of all tasks in a folder of runs.

    page: a file for the result as a page, which is replaced only if it is such a page. overfitting: first
    measure it, with its model, for a run that is named, else for the latest iteration of each task that has
    a score. Raises ConfigError where there is no run.
    """
    found = _groups(target)
    if overfitting:
        from finetooth.runs.overfitting import measure  # here: nothing else needs torch

        for path in _to_measure(target, found):
            measure(path, console or Console(quiet=True), trust_code)
    tasks = [_task(runs) for runs in found]
    report = LogReport(tasks, page)
    if page is not None:
        html.write_page(page, log_page.render(report.to_json()))
    return report


def _groups(target: Path) -> list[list[Run]]:
    """The runs by task. Raises ConfigError where there is none."""
    if target.name == workspace.CONFIG and target.is_file():
        target = target.parent  # that of a run is a task too, of the same runs
    if is_curve(target) or lineage.in_curve(target):
        raise ConfigError(
            f"{target} belongs to a curve, whose trainings are no iterations of a task. To see the curve, or "
            "to go on with it: the same finetooth curve command again."
        )
    if (target / workspace.CONFIG).is_file():
        runs = lineage.find_runs([target.parent])
        return [group for group in lineage.groups(runs) if any(_is_at(run, target) for run in group)]
    inside = task_file_in(target) if target.is_dir() else None
    if target.is_dir() and (groups := lineage.groups(lineage.find_runs([target]))):
        return sorted(groups, key=lambda group: all(run.problem for run in group))  # those last
    file = inside or target
    if not file.is_file() or file.suffix not in TASKS:
        found = "no such file or directory" if not target.exists() else "no run in it"
        raise ConfigError(
            f"{target}: {found}. Expected a task, a run, or a folder of runs such as runs/. "
            "To make a first run: finetooth run TASK"
        )
    name = load_task(file).name
    folders = [file.parent / "runs", Path("runs"), file.parent]
    groups = lineage.groups(lineage.find_runs(folders))
    of_task = [group for group in groups if any(run.task and run.task.name == name for run in group)]
    if not of_task:
        raise ConfigError(
            f"{file}: there is no run of the task {name} in {' or '.join(str(one) for one in folders[:2])}. "
            f"First: finetooth run {quote(str(file))}. Runs elsewhere: finetooth log FOLDER"
        )
    return of_task


def _is_at(run: Run, path: Path) -> bool:
    return run.path.resolve() == path.resolve()


def _to_measure(target: Path, groups: Sequence[Sequence[Run]]) -> list[Path]:
    named = [run.path for group in groups for run in group if _is_at(run, target)]
    if named:
        return named
    latest = []
    for group in groups:
        trained = [one for one in group if not one.problem and workspace.trained_path(one.path) is not None]
        steps = [one for one in trained if one.arm_of is None and one.task and one.task.tuned is None]
        latest += [steps[-1].path] if steps else []
    if not latest:
        raise ConfigError(f"{target} has no run with a tuned model, whose overfitting could be measured.")
    return latest


def _task(runs: Sequence[Run]) -> dict[str, Any]:
    listed = History(runs).iterations()
    for one in listed:
        one |= {"changes": changes_in_words(one), "lineage": _lineage(one)}
        one |= {"fit": _fit(one), "versions": _versions(one)}
    named = next((run for run in runs if run.task is not None), None)
    name = runs[0].path.name if named is None or named.task is None else named.task.name
    adjusted = sum(one["step"] is not None for one in listed)
    return {
        "name": name,
        "title": f"{name}: {log_page.headline(listed)}",
        "note": _note(listed),
        "adjusted": adjusted if adjusted > 1 else 0,
        "iterations": listed,
    }


def _note(listed: Sequence[Mapping[str, Any]]) -> str:
    """What to keep in mind of these scores, and how often the sealed test was looked at."""
    looks = max((one["looks"] for one in listed), default=0)
    measured = [one for one in listed if one["state"] == MEASURED]
    words = ""
    if len(measured) > 1:
        words = (
            "Iterations and checkpoints are chosen on the validation rows, so the best of these scores is "
            "optimistic; the sealed test decides. "
        )
    versions = {one["data"]["validation"]["version"] for one in measured if one["data"].get("validation")}
    if len(versions) > 1:
        words += (
            f"The validation rows are not the same in all iterations ({len(versions)} versions): compare "
            "by the paired differences, not by the scores. "
        )
    taken = "no look" if not looks else "1 look" if looks == 1 else f"{looks} looks"
    words += f"{taken[0].upper()}{taken[1:]} at the sealed test so far."
    latest = next((one for one in reversed(measured) if one["arm_of"] is None), None)
    if latest is not None and latest["overfitting"] is None:
        words += f" To measure overfitting: finetooth log {quote(latest['run'])} --overfitting"
    return words


def _lineage(one: Mapping[str, Any]) -> str:
    """What it was made from, in words."""
    if one["state"] == DAMAGED:
        return "cannot be read"
    if one["parent"] is None and one["asked_parent"]:
        return f"{one['relation']} {one['asked_parent']}, which is not there any more"
    if one["parent"] is None:
        return "from the base model"
    words = f"{one['relation']} {Path(one['parent']).name}"
    return f"{words}, from the base model" if one["relation"] == KEEPS else words


def _fit(one: Mapping[str, Any]) -> list[str]:
    """Sentences on overfitting: what was measured, else whether the validation loss rose."""
    if one["overfitting"] is not None:
        return list(one["overfitting"]["words"])
    losses = one["losses"]
    if losses is None or not losses["rose"]:
        return []
    words = losses["words"]
    return [f"{words[0].upper()}{words[1:]}."]


def _versions(one: Mapping[str, Any]) -> str:
    """The versions of all sides, in one line."""
    names = (("train", "training rows"), ("validation", "validation rows"), ("sealed", "sealed rows"))
    known = [(name, (one["data"] or {}).get(side)) for side, name in names]
    return ", ".join(f"{side['rows']:,} {name} {side['version']}" for name, side in known if side)
