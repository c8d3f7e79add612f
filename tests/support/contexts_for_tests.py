"""Contexts of runs and of tasks that have none, and what `check` says of a task."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from finetooth.config.task import Task
from finetooth.report.check_report import CheckReport
from finetooth.runs.check import check
from finetooth.runs.context import RunContext

QUIET = Console(quiet=True)


def of_run(path: Path) -> RunContext:
    return RunContext.of_run(path, QUIET)


def checked(task: Task, out: Path | None = None, tokenizer_dir: Path | None = None) -> CheckReport:
    """The report on a task's data; tokenizer_dir: where the tokenizer is, when not with the task's model."""
    context = RunContext(task, out or Path("runs") / "none", QUIET)
    if tokenizer_dir is not None:
        context.tokenizer_directory = tokenizer_dir
    return check(context, out)
