"""What the verbs of the command line share: flags, where output goes, results turned into exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from finetooth.cli.completion import TASK_FILES
from finetooth.cli.errors import EXIT_OK, EXIT_REFUSED
from finetooth.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console


class Report(Protocol):
    """What every command returns."""

    @property
    def ok(self) -> bool:
        """False when a check or gate said no."""

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values."""

    def print(self, console: Console) -> None:
        """Show the result to a person."""


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the flags that say how its result is shown."""
    quiet = click.option("--quiet", is_flag=True, help="Show the result and nothing else.")
    return click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")(
        quiet(command)
    )


out_option = click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="The run directory [runs/NAME]."
)


def console(quiet: bool) -> Console:
    """Where logs and bars go: stderr, so that stdout holds the result alone."""
    from rich.console import Console

    return Console(stderr=True, quiet=quiet, markup=False, highlight=False)


def finish(report: Report, as_json: bool, *follow: str) -> int:
    """Show the result and what to type next, and turn it into an exit code."""
    from rich.console import Console

    if as_json:
        click.echo(json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False))
    else:
        report.print(Console())
        for number, line in enumerate(follow):
            click.echo(f"{'      ' if number else 'Next: '}{line}")
    return EXIT_OK if report.ok else EXIT_REFUSED


def next_steps_unless_quiet(quiet: bool, *lines: str) -> tuple[str, ...]:
    """The lines for `finish`, or none where --quiet was given."""
    return () if quiet else lines


def run_directory(path: Path) -> Path:
    """The path, when it is a run; ConfigError says what it is instead."""
    if (path / "config.yaml").is_file():
        return path
    from finetooth.runs.workspace import known_runs

    if path.is_file() and path.suffix in TASK_FILES:
        raise ConfigError(f"{path}: not a run directory but a task. First: finetooth run {path}")
    found = "no such directory" if not path.exists() else "no config.yaml in it"
    runs = ", ".join(known_runs()[:8])
    there = f" Runs here: {runs}." if runs else ""
    raise ConfigError(
        f"{path}: not a run directory ({found}).{there} `finetooth run TASK --out {path}` makes one."
    )
