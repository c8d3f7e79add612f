"""The verb that turns a run's errors into better data: errors.

A verb imports its command when it is called, so that `--help` never loads torch.
"""

from __future__ import annotations

from pathlib import Path

import click

from finetooth.cli.completion import PathArgument
from finetooth.cli.output import console, finish, output_options, run_directory, trust_option
from finetooth.cli.task_flags import SectionedCommand
from finetooth.errors import ConfigError


@click.command(cls=SectionedCommand, epilog="Example: finetooth errors runs/second --against runs/first")
@click.argument("path", metavar="RUN", type=PathArgument("run"))
@click.option(
    "--against", type=PathArgument("run"), metavar="RUN", help="The run before: what was fixed, what broke."
)
@click.option("--review", is_flag=True, help="Go through the wrong rows: confirm tags, correct answers.")
@click.option(
    "--next", "following", is_flag=True, help="Write the next data set: errors/next.csv and .jsonl."
)
@click.option(
    "--pool", type=PathArgument(), metavar="FILE", help="--next: rows to choose from, labelled or not."
)
@click.option(
    "--rows",
    type=click.IntRange(1),
    metavar="N",
    help="--next: most rows of the pool.  [default: a tenth of the training rows, 20 to 200]",
)
@click.option(
    "--random",
    "control",
    is_flag=True,
    help="--next: also write as many random rows of the pool, to tell whether targeting helps: half of the "
    "validation rows then choose, and the other half judges.",
)
@click.option(
    "--tags", type=PathArgument(), metavar="FILE", help="Your own tags (.yaml); kept in errors/tags.yaml."
)
@click.option(
    "--consistency", is_flag=True, help="Ask the model again, in other forms: which answers change (once)."
)
@trust_option
@output_options
def errors(
    path: Path,
    against: Path | None,
    review: bool,
    following: bool,
    pool: Path | None,
    rows: int | None,
    control: bool,
    tags: Path | None,
    consistency: bool,
    trust_code: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Find out what is wrong, and what to do about it.

    Tags every validation answer, groups the wrong ones, and finds the kinds of rows on which the model errs
    more often. With --against: which rows and which issues were fixed, came back or are new since another
    run. Writes errors/errors.html. Nothing is trained, and no answer to the sealed test set is looked at.

    With --next it writes what would help most as a data set: corrected rows, training rows that may teach
    the wrong thing, rows of --pool to label (none that is nearly a row of training, validation or the sealed
    test), and examples to write. Fill in next.csv, in a spreadsheet for example, then: finetooth run --add
    RUN/errors/next.csv --from RUN
    """
    given = {"--pool": pool, "--rows": rows, "--random": control or None}
    if not following and (flag := next((name for name, value in given.items() if value is not None), None)):
        raise ConfigError(f"{flag} goes with --next.")
    if control and pool is None:
        raise ConfigError("--random draws from --pool: name a file of rows.")
    if review and as_json:
        raise ConfigError("--review is for a person: leave out --json.")
    from finetooth.commands import errors as command

    run = run_directory(path)
    options = command.Options(
        against=None if against is None else run_directory(against),
        tags=tags,
        trust_code=trust_code,
        next_rows=command.NextRows(pool, rows, control) if following else None,
        consistency=consistency,
    )
    report = command.run(run, options, console(quiet))
    if review:
        report = command.review(report, console(quiet))
    return finish(report, as_json, quiet, *report.next_steps())
