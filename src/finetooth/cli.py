"""The command line: verbs that load a task or a run, call its command, and show the report.

Exit codes: 0 done, 1 a check or gate said no, 2 the user's input is wrong, 130 interrupted (state saved),
70 a bug in finetooth. Results go to stdout; logs, bars and errors to stderr. With FINETOOTH_DEBUG=1 in the
environment an error shows its traceback too.

A verb imports its command when it is called, so that `--help` and `check` never load torch.
"""

from __future__ import annotations

import difflib
import errno
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from finetooth import __version__
from finetooth.config import OTHER_NAMES, keys, suggest
from finetooth.errors import ConfigError, FinetoothError, Interrupted, TrainError
from finetooth.flags import Verb, given_keys, takes_keys
from finetooth.taskfile import load_task

if TYPE_CHECKING:
    from rich.console import Console

DONE, REFUSED, WRONG_INPUT, BUG, INTERRUPTED = 0, 1, 2, 70, 130
TASK_FILES = (".yaml", ".yml", ".toml")


class Report(Protocol):
    """What every command returns."""

    @property
    def ok(self) -> bool:
        """False when a check or gate said no."""

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values."""

    def print(self, console: Console) -> None:
        """Show the result to a person."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (default: of this process) and exit with its code."""
    sys.exit(invoke(sys.argv[1:] if arguments is None else arguments))


def invoke(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; what went wrong is told on stderr."""
    try:
        return int(group.main(list(arguments), prog_name="finetooth", standalone_mode=False) or DONE)
    except Exception as error:
        if os.environ.get("FINETOOTH_DEBUG"):
            traceback.print_exc()
        code, message = explain(error)
        click.echo(message, err=True)
        return code


def explain(error: Exception) -> tuple[int, str]:
    """The exit code and the one message for whatever ended a command."""
    if isinstance(error, click.exceptions.NoSuchOption):
        return WRONG_INPUT, _unknown_flag(error)
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else "finetooth"
        return WRONG_INPUT, f"{where}: {error.format_message()}\n`{where} --help` shows how it is called."
    if isinstance(error, click.Abort):
        cause = error.__cause__ or error.__context__
        return INTERRUPTED, str(cause or "") or "Interrupted."
    if isinstance(error, Interrupted):
        return INTERRUPTED, str(error)
    if isinstance(error, FinetoothError):
        stopped = isinstance(error, TrainError) and not _from_file_system(error)
        return REFUSED if stopped else WRONG_INPUT, str(error)
    if _disk_is_full(error):
        return (
            WRONG_INPUT,
            "The disk is full. Make room or choose another --out, then run the same command again.",
        )
    if isinstance(error, OSError):
        return WRONG_INPUT, _file_trouble(error)
    return BUG, (
        f"finetooth stopped on an error that it did not expect: {type(error).__name__}: {error}\n"
        "This is a bug. Set FINETOOTH_DEBUG=1 and run the command again to see the traceback for a report."
    )


def _from_file_system(error: BaseException) -> bool:
    cause = error.__cause__ or error.__context__
    return cause is not None and (isinstance(cause, OSError) or _disk_is_full(cause))


def _disk_is_full(error: BaseException) -> bool:
    """True also where a library has put the operating system's error into words of its own."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return bool(re.search(r"\bos error 28\b|No space left on device|StorageFull", str(error)))


def _file_trouble(error: OSError) -> str:
    where = error.filename if error.filename is not None else "A file"
    reason = error.strerror or str(error) or type(error).__name__
    hints = {
        errno.EACCES: "Check the permissions, or choose another --out.",
        errno.EPERM: "Check the permissions, or choose another --out.",
        errno.EROFS: "The file system is read-only: choose another --out.",
        errno.ENOENT: "Check the path.",
        errno.ENOTDIR: "A part of this path is a file, not a directory: check the path.",
    }
    return f"{where}: {reason}. {hints.get(error.errno or 0, '')}".rstrip()


def _unknown_flag(error: click.exceptions.NoSuchOption) -> str:
    command = error.ctx.command_path if error.ctx else "finetooth"
    key = error.option_name.lstrip("-").replace("-", "_")
    flags = [flag for param in error.ctx.command.params for flag in param.opts] if error.ctx else []
    has_keys = any(flag.startswith("--train.") for flag in flags)
    near = difflib.get_close_matches(error.option_name, flags, 1, 0.75)
    if near and not (has_keys and key.rsplit(".", 1)[-1] in OTHER_NAMES):
        hint = f" Did you mean {near[0]}?"
    elif has_keys:
        hint = suggest(key).replace("`finetooth train --help`", f"`{command} --help`")
    elif any(key == name for name, _ in keys()):
        hint = " Keys of the task are given to `train` and `run`; a run directory has its own in config.yaml."
    else:
        hint = f" `{command} --help` lists all flags."
    return f"{command}: unknown flag {error.option_name}.{hint}"


def _takes_output(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the flags that say how its result is shown."""
    command = click.option("--quiet", is_flag=True, help="Show the result and nothing else.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")(
        command
    )


_out = click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="The run directory [runs/NAME]."
)
_path = click.Path(path_type=Path)


def _console(quiet: bool) -> Console:
    """Where logs and bars go: stderr, so that stdout holds the result alone."""
    from rich.console import Console

    return Console(stderr=True, quiet=quiet, markup=False, highlight=False)


def _finish(report: Report, as_json: bool) -> int:
    """Show the result and turn it into an exit code."""
    from rich.console import Console

    if as_json:
        click.echo(json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False))
    else:
        report.print(Console())
    return DONE if report.ok else REFUSED


def _run_directory(path: Path) -> Path:
    """The path, when it is a run; ConfigError says what it is instead."""
    if (path / "config.yaml").is_file():
        return path
    found = "no such directory" if not path.exists() else "no config.yaml in it"
    raise ConfigError(f"{path}: not a run directory ({found}). `finetooth run TASK --out {path}` makes one.")


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
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@group.command(cls=Verb, epilog="Example: finetooth check tickets.csv")
@click.argument("path", metavar="DATA|TASK", type=_path)
@click.option("--out", type=_path, metavar="DIR", help="Write data/check.json and data/rejected.jsonl there.")
@_takes_output
@takes_keys
def check(path: Path, out: Path | None, as_json: bool, quiet: bool, **flags: str | None) -> int:
    """Show what is in the data and what would be trained on.

    Counts, lengths in tokens, and three rows with the scored tokens marked. DATA is a .jsonl or .csv file,
    TASK a .yaml or .toml file. The exit code is 1 when the data is not fit to train on.
    """
    from finetooth.commands import check as command

    overrides = given_keys(flags)
    if path.suffix in TASK_FILES:
        return _finish(command.run(load_task(path, overrides), out), as_json)
    if out or overrides:
        return _finish(command.run(load_task({"data": {"train": str(path)}}, overrides), out), as_json)
    return _finish(command.check_path(path), as_json)


@group.command(cls=Verb, epilog="Example: finetooth train task.yaml --train.epochs 3 --out runs/first")
@click.argument("path", metavar="TASK|RUN", type=_path)
@_out
@_takes_output
@takes_keys
def train(path: Path, out: Path | None, as_json: bool, quiet: bool, **flags: str | None) -> int:
    """Fine-tune the model on the examples.

    TASK is a .yaml or .toml file. RUN is a run directory: its training goes on where it stopped.
    """
    overrides = given_keys(flags)
    if path.is_dir() and (out or overrides):
        given = "--out" if out else f"--{next(iter(overrides))}"
        raise ConfigError(
            f"{path}: a run directory goes on with its own config.yaml, found the flag {given}. "
            "To change something, give the task file and a new --out."
        )
    source = _run_directory(path) if path.is_dir() else load_task(path, overrides)
    from finetooth.commands import train as command

    return _finish(command.run(source, out, _console(quiet)), as_json)


@group.command(cls=Verb, epilog="Example: finetooth evaluate runs/first")
@click.argument("path", metavar="RUN", type=_path)
@click.option("--sealed", is_flag=True, help="Open the sealed test instead of the validation rows. Logged.")
@_takes_output
def evaluate(path: Path, sealed: bool, as_json: bool, quiet: bool) -> int:
    """Compare the tuned model with prompting the base model.

    All of them answer the same rows: the validation rows, as often as you like. The sealed test is for the
    end: see --sealed.
    """
    directory = _run_directory(path)
    from finetooth.commands import evaluate as command

    return _finish(command.run(directory, sealed, _console(quiet)), as_json)


@group.command(cls=Verb, epilog="Example: finetooth run task.yaml --out runs/first")
@click.argument("path", metavar="TASK", type=_path)
@_out
@_takes_output
@takes_keys
def run(path: Path, out: Path | None, as_json: bool, quiet: bool, **flags: str | None) -> int:
    """Check, train, compare with prompting, report.

    The comparison is made on the validation rows and then, once, on the sealed test. TASK is a .yaml or .toml
    file. Called again, it goes on where it stopped; what is done is not done twice.
    """
    task = load_task(path, given_keys(flags))
    from finetooth.commands import run as command

    return _finish(command.run_task(task, out, _console(quiet)), as_json)


@group.command(cls=Verb, epilog="Example: finetooth report runs/first")
@click.argument("path", metavar="RUN", type=_path)
@_takes_output
def report(path: Path, as_json: bool, quiet: bool) -> int:
    """Show a run's result again, and write report.html."""
    directory = _run_directory(path)
    from finetooth.commands import report as command

    return _finish(command.run(directory), as_json)
