"""The task of a command line: of a task file, or of a data file, for which a task file is found or made."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from finetooth.cli.completion import TASK_FILES
from finetooth.cli.output import console
from finetooth.config.load import load_task, task_file_in
from finetooth.config.task import Task
from finetooth.config.values import safe_name
from finetooth.errors import printable


def task_of(path: Path, overrides: Mapping[str, Any], yes: bool, quiet: bool, verb: str) -> tuple[Task, Path]:
    """The task, and its file, which may be named by its folder.

    yes: take the proposal for a data file without asking. verb: for messages.
    """
    from finetooth.runs import next_steps, sheet_task

    path = task_file_in(path) or path
    if next_steps.is_sheet(path):
        path = sheet_task.task_file(path, overrides, yes, asking(), verb)
        console(quiet).print(f"Task file: {path}", soft_wrap=True)
    return load_task(path, overrides), path


def checked_task(
    path: Path, overrides: Mapping[str, Any], yes: bool, quiet: bool, verb: str = "check"
) -> tuple[Task, Path]:
    """The task to check, and its file. A data file whose columns say what they are needs no task file.

    verb: for messages.
    """
    from finetooth.runs import next_steps, sheet_task

    path = task_file_in(path) or path
    proposed = next_steps.is_sheet(path) and sheet_task.sheet_task(path, overrides).roles is not None
    if proposed or path.suffix in TASK_FILES:
        return task_of(path, overrides, yes, quiet, verb)
    return load_task({"name": safe_name(path.stem), "data": {"train": str(path)}}, overrides), path


def asking() -> Callable[[str], bool] | None:
    """Asks at the terminal; None where nobody can answer."""
    if not sys.stdin.isatty():
        return None
    return lambda text: click.confirm(printable(text), default=True, err=True)
