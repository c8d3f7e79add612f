"""The command line: each verb loads a task or a run, calls its command, and shows the report.

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
from typing import Any

import click

from finetooth import __version__
from finetooth.cli.completion import SHELLS, TASK_FILES, PathArgument, script
from finetooth.cli.errors import ExitCode, explain, fill_in_task, shortened
from finetooth.cli.output import (
    console,
    finish,
    out_option,
    output_options,
    run_directory,
    trust_option,
    yes_option,
)
from finetooth.cli.task_files import checked_task, task_of
from finetooth.cli.task_flags import SectionedCommand, parse_overrides, task_options
from finetooth.config.values import SEEDS
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


@group.command(cls=SectionedCommand, epilog="Example: finetooth check tickets.csv")
@click.argument("path", metavar="DATA|TASK", type=PathArgument())
@click.option(
    "--out", type=PathArgument(), metavar="DIR", help="Directory of the report.  [default: runs/NAME]"
)
@click.option("--fix", is_flag=True, help="Write a corrected copy of the data and a patch; safe fixes only.")
@click.option(
    "--label-queue",
    type=click.IntRange(1),
    metavar="N",
    help="Write the N rows most in need of label review.",
)
@click.option(
    "--embed", is_flag=True, help="Look for paraphrase leakage with model embeddings (loads the model)."
)
@yes_option
@output_options
@task_options
def check(
    path: Path,
    out: Path | None,
    fix: bool,
    label_queue: int | None,
    embed: bool,
    yes: bool,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> int:
    """Inspect the data and list its problems.

    DATA is a data file, TASK a .yaml or .toml file. Prints row counts, lengths in tokens, three rows with the
    scored tokens marked, and findings. All findings with all of their rows are in data/report.html and
    data/findings.jsonl. Your files are never changed. The exit code is 1 if a finding blocks training.
    """
    from finetooth.commands import check as command
    from finetooth.runs import next_steps

    overrides = parse_overrides(flags)
    if (path / "config.yaml").is_file():
        raise ConfigError(
            f"{path}: expected data, found a run directory. For its result: finetooth report {path}"
        )
    task, path = checked_task(path, overrides, yes, quiet)
    report = command.run(task, out, console(quiet), fix, label_queue, embed)
    then = next_steps.after_check(path, path.suffix in TASK_FILES, report.data.format, report.ok, overrides)
    return finish(report, as_json, quiet, then)


@group.command(
    cls=SectionedCommand, epilog="Example: finetooth train task.yaml --train.epochs 3 --out runs/first"
)
@click.argument("path", metavar="TASK|RUN", type=PathArgument("task", "run"))
@out_option
@trust_option
@yes_option
@output_options
@task_options
def train(
    path: Path,
    out: Path | None,
    trust_code: bool,
    yes: bool,
    as_json: bool,
    quiet: bool,
    **flags: str | None,
) -> int:
    """Fine-tune the model on the examples.

    TASK is a .yaml or .toml file, or a data file, for which a task file is proposed and written. RUN is a run
    directory, whose training resumes from its last checkpoint.
    """
    overrides = parse_overrides(flags)
    if path.is_dir() and (out or overrides):
        flag = "--out" if out else f"--{next(iter(overrides))}"
        raise ConfigError(
            f"{path}: a run directory resumes with its own config.yaml, found the flag {flag}. "
            "To change an option, train the task file with a new --out."
        )
    source = run_directory(path) if path.is_dir() else task_of(path, overrides, yes, quiet, "train")[0]
    from finetooth.commands import train as command

    result = command.run(source, out, console(quiet), trust_code)
    return finish(result, as_json, quiet, *result.next_steps())


@group.command(cls=SectionedCommand, epilog="Example: finetooth evaluate runs/first")
@click.argument("path", metavar="RUN", type=PathArgument("run"))
@click.option("--sealed", is_flag=True, help="Evaluate on the sealed test set; recorded in the ledger.")
@trust_option
@output_options
def evaluate(path: Path, sealed: bool, trust_code: bool, as_json: bool, quiet: bool) -> int:
    """Compare the fine-tuned model with prompting the base model.

    All candidates answer the same rows: the validation set, as often as you like. Keep the sealed test set
    for the end (--sealed).
    """
    directory = run_directory(path)
    from finetooth.commands import evaluate as command

    then = (f"finetooth report {quote(str(path))}", f"finetooth chat {quote(str(path))}")
    return finish(command.run(directory, sealed, console(quiet), trust_code), as_json, quiet, *then)


@group.command(cls=SectionedCommand, epilog="Example: finetooth run task.yaml --out runs/first")
@click.argument("path", metavar="TASK", type=PathArgument("task"))
@out_option
@yes_option
@output_options
@task_options
def run(path: Path, out: Path | None, yes: bool, as_json: bool, quiet: bool, **flags: str | None) -> int:
    """Check, train, compare with prompting, and report.

    TASK is a .yaml or .toml file, or a data file, for which a task file is proposed and written. The
    comparison is made on the validation set and then, once, on the sealed test set. Run the same command
    again to resume; finished stages are not repeated.
    """
    task, path = task_of(path, parse_overrides(flags), yes, quiet, "run")
    from finetooth.commands import run as command

    result = command.run_task(task, out, console(quiet), path)
    return finish(result, as_json, quiet, *result.next_steps())


@group.command(cls=SectionedCommand, epilog="Example: finetooth report runs/first")
@click.argument("path", metavar="RUN", type=PathArgument("run"))
@output_options
def report(path: Path, as_json: bool, quiet: bool) -> int:
    """Show the result of a run, and write report.html."""
    directory = run_directory(path)
    from finetooth.commands import report as command

    return finish(command.run(directory), as_json, quiet)


@group.command(
    cls=SectionedCommand, epilog='Example: echo "I was charged twice" | finetooth chat runs/first --both'
)
@click.argument("target", metavar="RUN|MODEL", type=PathArgument("run", "model"))
@click.option("--both", is_flag=True, help="Show the base model's answers beside the fine-tuned model's.")
@click.option(
    "--temperature", default=0.0, metavar="NUMBER", help="Sampling temperature; 0 is greedy decoding."
)
@click.option("--max-tokens", default=256, metavar="NUMBER", help="Maximum answer length in tokens.")
@click.option(
    "--top-p", default=1.0, metavar="NUMBER", help="Nucleus sampling: probability mass to sample from."
)
@click.option(
    "--seed",
    "stream",
    default=1,
    type=click.IntRange(0, SEEDS - 1),
    metavar="NUMBER",
    help="Random seed of the sampling.",
)
@output_options
def chat(target: str, both: bool, stream: int, as_json: bool, quiet: bool, **sampling: Any) -> int:
    """Chat with a model.

    RUN is a run directory: its fine-tuned model is prompted as in training, with the run's instruction and
    template. MODEL is milktooth, the directory of a model or an adapter, or a hub id. At a terminal, /help
    lists the commands, Ctrl-C stops an answer and Ctrl-D ends the chat. From a pipe, every line is one turn
    of the same conversation.
    """
    from finetooth.commands import chat as command
    from finetooth.types import Sampling

    report = command.run(target, both, Sampling(**sampling, seed=stream), as_json, console(quiet))
    return finish(report, as_json, quiet)


@group.command(cls=SectionedCommand, epilog="Example: finetooth compare runs/first runs/second")
@click.argument("paths", metavar="RUN RUN...", nargs=-1, required=True, type=PathArgument("run"))
@click.option("--sealed", is_flag=True, help="Compare on the sealed test set, if every run has opened it.")
@output_options
def compare(paths: tuple[Path, ...], sealed: bool, as_json: bool, quiet: bool) -> int:
    """Compare runs row by row, and list their differences.

    Every other run is compared with the first, on the validation rows that both answered. Nothing is
    generated, and no test set is opened.
    """
    from finetooth.commands import compare as command

    return finish(command.run([run_directory(path) for path in paths], sealed), as_json, quiet)


@group.command(cls=SectionedCommand, epilog="Example: finetooth pairs runs/first --out pairs.jsonl")
@click.argument("path", metavar="RUN", type=PathArgument("run"))
@click.option("--out", type=PathArgument(), metavar="FILE", help="Output file.  [default: RUN/pairs.jsonl]")
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    metavar="NUMBER",
    help="Minimum score difference of a pair.",
)
@click.option(
    "--reference",
    is_flag=True,
    help="Use the expected answer as chosen where all of a row's answers score below 0.5.",
)
@output_options
def pairs(path: Path, out: Path | None, margin: float, reference: bool, as_json: bool, quiet: bool) -> int:
    """Build preference pairs from a run's own answers.

    Each pair is the best and the worst answer to a row that has good and bad ones. Answers are the rollouts
    of reinforcement learning and those of the evaluation on validation rows; the sealed test set is never
    read.
    """
    directory = run_directory(path)
    from finetooth.commands import pairs as command

    report = command.run(directory, out, margin, reference)
    then = f"--from {quote(str(path))} --data.train {quote(str(report.path))} --train.method dpo"
    return finish(report, as_json, quiet, f"finetooth run TASK {then}")


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


@group.command(cls=SectionedCommand, epilog="Example: finetooth completion bash")
@click.argument("shell", metavar="SHELL", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> int:
    """Print the Tab completion script for bash, zsh or fish.

    It completes verbs, flags, keys and their values, and run directories. Its last line is the command that
    installs it.
    """
    click.echo(script(group, shell), nl=False)
    return ExitCode.OK
