"""The verb `curve`. It imports its command when it is called, so that `--help` never loads torch."""

from __future__ import annotations

from pathlib import Path

import click

from finetooth.cli.completion import PathArgument
from finetooth.cli.output import console, finish, output_options, run_directory, trust_option, yes_option
from finetooth.cli.task_files import task_of
from finetooth.cli.task_flags import SectionedCommand, parse_overrides, task_options
from finetooth.config.load import task_file_in
from finetooth.config.task import Task
from finetooth.errors import ConfigError


def parse_sizes(text: str | None) -> list[int] | None:
    """The value of --sizes, numbers with commas between them. Raises ConfigError."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.replace(" ", "").split(",")]
    except ValueError:
        raise ConfigError(f"--sizes: expected numbers of rows, as in 50,100,200; found {text!r}.") from None


@click.command(cls=SectionedCommand, epilog="Example: finetooth curve task.yaml --sizes 50,100,200")
@click.argument("path", metavar="TASK|RUN", type=PathArgument("task", "run"))
@click.option(
    "--sizes", metavar="N,N,...", help="Numbers of training rows.  [default: all, and three halvings of them]"
)
@click.option("--seeds", type=click.IntRange(1, 20), default=3, metavar="N", help="Trainings of each size.")
@click.option(
    "--out",
    type=PathArgument(),
    metavar="DIR",
    help="Directory of the trainings.  [default: runs/NAME-curve]",
)
@trust_option
@yes_option
@output_options
@task_options
def curve(
    path: Path,
    sizes: str | None,
    seeds: int,
    out: Path | None,
    trust_code: bool,
    yes: bool,
    as_json: bool,
    quiet: bool,
    **flags: str | None,
) -> int:
    """Measure and forecast what more training rows bring.

    TASK is trained from its base with parts of its training rows, each part among the larger ones, several
    times with seeds of its own. All models answer the same validation rows; the sealed test stays closed. Of
    a RUN, its rows and settings are taken. The same command again goes on where it stopped.
    """
    overrides = parse_overrides(flags)
    path = task_file_in(path) or path
    source: Task | Path
    folder = None
    if path.is_dir():
        if overrides:
            raise ConfigError(
                f"{path}: a run has its own config.yaml, found the flag --{next(iter(overrides))}. To change "
                "an option, name the task file."
            )
        source = run_directory(path)
    else:
        source, file = task_of(path, overrides, yes, quiet, "curve")
        folder = file.parent
    from finetooth.commands import curve as command

    report = command.run(source, parse_sizes(sizes), seeds, out, console(quiet), trust_code, folder)
    return finish(report, as_json, quiet)
