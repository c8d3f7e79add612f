"""The command line: verbs that load a task or a run, call its command, and show the report.

Exit codes: 0 done, 1 a check or gate said no, 2 the user's input is wrong, 130 interrupted (state saved),
141 the reader of the output has closed it, 70 a bug in finetooth. Results go to stdout; logs, bars and errors
to stderr. With FINETOOTH_DEBUG=1 in the environment an error shows its traceback too.

A verb imports its command when it is called, so that `--help` and `check` never load torch.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import click

from finetooth import __version__
from finetooth.cli.completion import SHELLS, TASK_FILES, PathArgument, script
from finetooth.cli.errors import EXIT_BROKEN_PIPE, EXIT_OK, explain, fill_in_task
from finetooth.cli.output import (
    console,
    finish,
    next_steps_unless_quiet,
    out_option,
    output_options,
    run_directory,
)
from finetooth.cli.task_flags import SectionedCommand, parse_overrides, task_options
from finetooth.config.load import load_task
from finetooth.errors import ConfigError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (default: of this process) and exit with its code."""
    sys.exit(invoke(sys.argv[1:] if arguments is None else arguments))


def invoke(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; what went wrong is told on stderr."""
    try:
        return int(group.main(list(arguments), prog_name="finetooth", standalone_mode=False) or EXIT_OK)
    except SystemExit as end:
        if end.code != 1:  # with 1 click and rich end where the pipe is closed, and nowhere else here
            raise
        return EXIT_BROKEN_PIPE
    except Exception as error:
        if os.environ.get("FINETOOTH_DEBUG"):
            traceback.print_exc()
        code, message = explain(error)
        click.echo(fill_in_task(message, arguments), err=True)
        return code


class _Verbs(click.Group):
    """Lists the verbs in the order in which one uses them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Verbs, invoke_without_command=True, context_settings={"max_content_width": 100})
@click.version_option(__version__, message="finetooth %(version)s")
@click.pass_context
def group(context: click.Context) -> None:
    """Turn a base language model and your own examples into a specialised model, and prove that it is better.

    \b
    finetooth check DATA   what is in the file, and what would be trained on
    finetooth run TASK     check, train, compare with prompting, report
    finetooth chat RUN     ask the tuned model yourself
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@group.command(cls=SectionedCommand, epilog="Example: finetooth check tickets.csv")
@click.argument("path", metavar="DATA|TASK", type=PathArgument())
@click.option("--out", type=PathArgument(), metavar="DIR", help="Where data/report.html goes [runs/NAME].")
@click.option("--fix", is_flag=True, help="Write what can safely be fixed as a new file, with a patch.")
@click.option(
    "--label-queue", type=click.IntRange(1), metavar="N", help="Write the N rows most worth a second look."
)
@click.option("--embed", is_flag=True, help="Also compare the sides by the model's vectors. Loads the model.")
@output_options
@task_options
def check(
    path: Path,
    out: Path | None,
    fix: bool,
    label_queue: int | None,
    embed: bool,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> int:
    """Show what is in the data, and what is wrong with it.

    Counts, lengths in tokens, three rows with the scored tokens marked, and findings. data/report.html and
    findings.jsonl have all of them, with every row. DATA is a file of examples, TASK a .yaml or .toml file.
    Your files are never changed. The exit code is 1 when a finding blocks training.
    """
    from finetooth.commands import check as command
    from finetooth.runs import next_steps

    overrides = parse_overrides(flags)
    if (path / "config.yaml").is_file():
        raise ConfigError(f"{path}: a run directory, no data. What is in it: finetooth report {path}")
    is_task = path.suffix in TASK_FILES
    task = load_task(path if is_task else {"name": path.stem, "data": {"train": str(path)}}, overrides)
    report = command.run(task, out, console(quiet), fix, label_queue, embed)
    then = next_steps.after_check(path, is_task, report.data.format, report.ok, overrides)
    return finish(report, as_json, *next_steps_unless_quiet(quiet, then))


@group.command(
    cls=SectionedCommand, epilog="Example: finetooth train task.yaml --train.epochs 3 --out runs/first"
)
@click.argument("path", metavar="TASK|RUN", type=PathArgument("task", "run"))
@out_option
@output_options
@task_options
def train(path: Path, out: Path | None, as_json: bool, quiet: bool, **flags: str | None) -> int:
    """Fine-tune the model on the examples.

    TASK is a .yaml or .toml file. RUN is a run directory: its training goes on where it stopped.
    """
    overrides = parse_overrides(flags)
    if path.is_dir() and (out or overrides):
        given = "--out" if out else f"--{next(iter(overrides))}"
        raise ConfigError(
            f"{path}: a run directory goes on with its own config.yaml, found the flag {given}. "
            "To change something, give the task file and a new --out."
        )
    source = run_directory(path) if path.is_dir() else load_task(path, overrides)
    from finetooth.commands import train as command

    return finish(command.run(source, out, console(quiet)), as_json)


@group.command(cls=SectionedCommand, epilog="Example: finetooth evaluate runs/first")
@click.argument("path", metavar="RUN", type=PathArgument("run"))
@click.option("--sealed", is_flag=True, help="Open the sealed test instead of the validation rows. Logged.")
@output_options
def evaluate(path: Path, sealed: bool, as_json: bool, quiet: bool) -> int:
    """Compare the tuned model with prompting the base model.

    All of them answer the same rows: the validation rows, as often as you like. The sealed test is for the
    end: see --sealed.
    """
    directory = run_directory(path)
    from finetooth.commands import evaluate as command

    then = (f"finetooth report {quote(str(path))}", f"finetooth chat {quote(str(path))}")
    return finish(
        command.run(directory, sealed, console(quiet)), as_json, *next_steps_unless_quiet(quiet, *then)
    )


@group.command(cls=SectionedCommand, epilog="Example: finetooth run task.yaml --out runs/first")
@click.argument("path", metavar="TASK", type=PathArgument("task"))
@out_option
@output_options
@task_options
def run(path: Path, out: Path | None, as_json: bool, quiet: bool, **flags: str | None) -> int:
    """Check, train, compare with prompting, report.

    The comparison is made on the validation rows and then, once, on the sealed test. TASK is a .yaml or .toml
    file. Called again, it goes on where it stopped; what is done is not done twice.
    """
    task = load_task(path, parse_overrides(flags))
    from finetooth.commands import run as command

    return finish(command.run_task(task, out, console(quiet), path), as_json)


@group.command(cls=SectionedCommand, epilog="Example: finetooth report runs/first")
@click.argument("path", metavar="RUN", type=PathArgument("run"))
@output_options
def report(path: Path, as_json: bool, quiet: bool) -> int:
    """Show a run's result again, and write report.html."""
    directory = run_directory(path)
    from finetooth.commands import report as command

    return finish(command.run(directory), as_json)


@group.command(
    cls=SectionedCommand, epilog='Example: echo "I was charged twice" | finetooth chat runs/first --both'
)
@click.argument("target", metavar="RUN|MODEL", type=PathArgument("run", "model"))
@click.option("--both", is_flag=True, help="The base model answers too, beside the tuned one.")
@click.option("--temperature", default=0.0, metavar="NUMBER", help="0 takes the most likely token [0].")
@click.option("--max-tokens", default=256, metavar="NUMBER", help="Longest answer in tokens [256].")
@click.option("--top-p", default=1.0, metavar="SHARE", help="Sample among the likeliest of this share [1].")
@click.option("--seed", "stream", default=1, metavar="NUMBER", help="Decides the samples [1].")
@output_options
def chat(target: str, both: bool, stream: int, as_json: bool, quiet: bool, **sampling: Any) -> int:
    """Ask a model, turn by turn.

    Answers appear while they are written. RUN is a run directory: its tuned model is asked as in training,
    with the run's instruction and template. MODEL is milktooth, a model's or adapter's directory, or a hub
    id. At a terminal, /help lists commands, Ctrl-C stops an answer, Ctrl-D ends. Questions can come through a
    pipe, one a line: one conversation.
    """
    from finetooth.commands import chat as command
    from finetooth.types import Sampling

    chosen = Sampling(**sampling, seed=stream)
    return finish(command.run(target, both, chosen, as_json, console(quiet)), as_json)


@group.command(cls=SectionedCommand, epilog="Example: finetooth compare runs/first runs/second")
@click.argument("paths", metavar="RUN RUN...", nargs=-1, required=True, type=PathArgument("run"))
@click.option("--sealed", is_flag=True, help="Records of the sealed test, where every run has opened it.")
@output_options
def compare(paths: tuple[Path, ...], sealed: bool, as_json: bool, quiet: bool) -> int:
    """Compare runs, row by row, and list what differs.

    Every later run is compared with the first, on the validation rows that both answered. Nothing is
    generated and no test is opened.
    """
    from finetooth.commands import compare as command

    return finish(command.run([run_directory(path) for path in paths], sealed), as_json)


@group.command(cls=SectionedCommand, epilog="Example: finetooth pairs runs/first --out pairs.jsonl")
@click.argument("path", metavar="RUN", type=PathArgument("run"))
@click.option("--out", type=PathArgument(), metavar="FILE", help="Where to write them [RUN/pairs.jsonl].")
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    metavar="NUMBER",
    help="By how much the better answer scores higher [0.5].",
)
@click.option("--reference", is_flag=True, help="Where all answers are bad, prefer the expected one.")
@output_options
def pairs(path: Path, out: Path | None, margin: float, reference: bool, as_json: bool, quiet: bool) -> int:
    """Make preference pairs of a run's own answers.

    Of every row that was answered well and badly, the best and the worst answer: those that a run learning
    from rewards sampled, and those of the evaluation on validation rows. The sealed test is never read.
    """
    directory = run_directory(path)
    from finetooth.commands import pairs as command

    made = command.run(directory, out, margin, reference)
    then = f"--from {quote(str(path))} --data.train {quote(str(made.path))} --train.method dpo"
    return finish(made, as_json, *next_steps_unless_quiet(quiet, f"finetooth run TASK {then}"))


@group.command(cls=SectionedCommand, epilog="Example: finetooth examples support-triage --out triage")
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--out", type=PathArgument(), metavar="DIR", help="Where to copy it to [./NAME].")
@output_options
def examples(name: str | None, out: Path | None, as_json: bool, quiet: bool) -> int:
    """List the examples, or copy one here.

    An example is a folder with a task file, its data and a README that says what comes out.
    """
    from finetooth.commands import examples as command

    report = command.run(name, out)
    copied = report.copied and f"finetooth run {quote(str(report.copied / 'task.yaml'))}"
    then = copied or "finetooth examples NAME"
    return finish(report, as_json, *next_steps_unless_quiet(quiet, then))


@group.command(cls=SectionedCommand, epilog="Example: finetooth completion bash")
@click.argument("shell", metavar="SHELL", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> int:
    """Print the Tab completion for bash, zsh or fish.

    It completes verbs, flags, keys and their values, and run directories. Its last line says where to put it.
    """
    click.echo(script(group, shell), nl=False)
    return EXIT_OK
