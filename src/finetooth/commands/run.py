"""`finetooth run TASK`: check, train, compare with prompting, open the test once, report.

Every stage is skipped when the run directory already holds its result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from finetooth.commands import evaluate, report, train, workspace
from finetooth.config import Task
from finetooth.data.prepare import prepare
from finetooth.errors import Interrupted
from finetooth.rundir import read_json
from finetooth.taskfile import load_task


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run. path: its directory. summary: evaluate/summary.json as the contract has it."""

    path: Path
    summary: dict[str, Any]
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The run's path, its report and the summary of the contract."""
        return {"run": str(self.path), "report": str(self.path / "report.html"), **self.summary}

    def print(self, console: Console) -> None:
        """The table, the verdict, where the report is, and what to do next."""
        console.print(report.terminal_table(self.summary))
        console.print(f"\nReport: {self.path / 'report.html'}", highlight=False, markup=False, soft_wrap=True)
        run = quote(str(self.path))
        console.print(
            "Next:\n"
            f"  finetooth chat {run}              ask the tuned model yourself\n"
            f"  finetooth evaluate {run}          compare again on the validation rows\n"
            f"  finetooth train TASK --train.epochs 20 --out {run}-longer    try other settings\n"
            f"  finetooth compare {run} {run}-longer    and see which run is better, once it is evaluated",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def run(
    task: str | Path | Mapping[str, Any] | Task,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Run:
    """Walk the whole loop for a task file, a mapping or a Task; the Python face of `finetooth run`.

    out: the run directory, default runs/NAME. overrides: dotted keys, {"train.epochs": 2}. Raises
    FinetoothError with one message that says what to do.
    """
    console = Console(stderr=True, quiet=quiet, markup=False, highlight=False)
    return run_task(load_task(task, overrides), Path(out) if out is not None else None, console)


def run_task(task: Task, out: Path | None, console: Console) -> Run:
    """The loop for a loaded task. See `run`."""
    path = workspace.run_path(task, out)
    train.run(task, path, console, graded=True)
    prepared = prepare(workspace.load_config(path), path)
    try:
        if prepared.validation and not (path / "evaluate" / "validation" / "summary.json").is_file():
            evaluate.run(path, False, console)
        if prepared.sealed_count and _split(path) != "test":
            evaluate.run(path, True, console)
    except KeyboardInterrupt:
        raise Interrupted(
            f"Stopped while evaluating; the trained model is saved. Continue with: finetooth evaluate {path}"
        ) from None
    report.run(path)
    return Run(path, read_json(path / "evaluate" / "summary.json"))


def _split(path: Path) -> str | None:
    """Of which split the run's summary is, None without one. It is written last, so it is whole."""
    summary = path / "evaluate" / "summary.json"
    return read_json(summary)["split"] if summary.is_file() else None
