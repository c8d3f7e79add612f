"""The verb `log`, which imports its command when it is called, so that `--help` stays light."""

from __future__ import annotations

from pathlib import Path

import click

from finetooth.cli.completion import PathArgument
from finetooth.cli.output import console, finish, output_options, trust_option
from finetooth.cli.task_flags import SectionedCommand


@click.command(cls=SectionedCommand, epilog="Example: finetooth log runs --page log.html")
@click.argument(
    "target",
    metavar="[TASK|RUN|FOLDER]",
    default=Path("runs"),
    type=PathArgument("run", "task"),
    required=False,
)
@click.option(
    "--page", type=PathArgument(), metavar="FILE", help="Also write it as a page with the curve: FILE.html."
)
@click.option(
    "--overfitting",
    is_flag=True,
    help="First measure it with the model of RUN, or of the latest iteration: gap and memorised rows.",
)
@trust_option
@output_options
def log(
    target: Path, page: Path | None, overfitting: bool, trust_code: bool, as_json: bool, quiet: bool
) -> int:
    """List the iterations of a task, and what changed in each.

    TASK is a task file, RUN any run of it, FOLDER a folder of runs (default runs/). Runs are iterations of
    one task where one was made from the other, or where their validation or test rows are the same. Each is
    shown with its score, what changed in it, and the command that repeats it.
    Nothing is trained, and no sealed row is read.
    """
    from finetooth.commands import log as command

    report = command.run(target, page, overfitting, console(quiet), trust_code)
    return finish(report, as_json, quiet)
