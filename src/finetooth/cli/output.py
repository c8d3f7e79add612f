"""Shared by the verbs of the command line: output flags, printing a report, and its exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from finetooth.cli.errors import ExitCode
from finetooth.errors import printable

if TYPE_CHECKING:
    from rich.console import Console


# Characters that JSON writes as they are and that a terminal obeys.
_COMMANDS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Report(Protocol):
    """The result of a command."""

    @property
    def ok(self) -> bool:
        """False if a check or gate failed."""

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values."""

    def print(self, console: Console) -> None:
        """Print the result for a person to read."""


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --json and --quiet to a verb."""
    quiet = click.option("--quiet", is_flag=True, help="Print nothing but the result.")
    return click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")(
        quiet(command)
    )


out_option = click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Run directory.  [default: runs/NAME]"
)


trust_option = click.option(
    "--trust-code",
    is_flag=True,
    help="Also run the code (grader, reward, tags) of a run that was not made here.",
)


yes_option = click.option(
    "--yes", is_flag=True, help="Take the task that is proposed for a data file, without asking."
)


def console(quiet: bool) -> Console:
    """The console for logs and progress bars: stderr, so that stdout holds only the result."""
    from finetooth.report.console import terminal

    return terminal(stderr=True, quiet=quiet)


def finish(report: Report, as_json: bool, quiet: bool, *next_steps: str) -> int:
    """Print the result and the commands to type next, and return the exit code."""
    if as_json:
        text = json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False)
        click.echo(_COMMANDS.sub(lambda match: f"\\u{ord(match[0]):04x}", text))
    else:
        from finetooth.report.console import Terminal

        report.print(Terminal())
        for number, line in enumerate(() if quiet else next_steps):
            click.echo(f"{'      ' if number else 'Next: '}{printable(line)}")
    return ExitCode.OK if report.ok else ExitCode.REFUSED


def run_directory(path: Path) -> Path:
    """`workspace.run_directory`, imported when it is called."""
    from finetooth.runs import workspace

    return workspace.run_directory(path)
