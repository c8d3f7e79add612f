"""Errors of the command line: the exit code, and one message that says what to do."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Sequence
from enum import IntEnum
from itertools import chain, pairwise
from pathlib import Path
from shlex import join

import click

from finetooth.cli.completion import TASK_FILES
from finetooth.config.load import task_file_in
from finetooth.config.other_tools import key_hint
from finetooth.config.task import keys, suggest
from finetooth.config.values import is_data_file
from finetooth.errors import FinetoothError, Interrupted, TrainError
from finetooth.training.interrupts import Terminated, was_terminated

INTERRUPTED = "Interrupted."
LONGEST_LINE = 2000  # characters of a message


_ADVICE = re.compile(r"`(data\.\w+): ([^`\n]*)`")  # a task option to set


class ExitCode(IntEnum):
    """The exit codes of the command line."""

    OK = 0
    REFUSED = 1  # a check or gate failed
    WRONG_INPUT = 2
    BUG = 70
    INTERRUPTED = 130  # the state is saved
    TERMINATED = 143  # the same, by SIGTERM
    BROKEN_PIPE = 141  # the reader of the output has closed it


def explain(  # long: every kind of error
    error: BaseException,
) -> tuple[ExitCode, str]:
    """The exit code and the message for the error that ended a command."""
    if isinstance(error, click.exceptions.NoSuchOption):
        return ExitCode.WRONG_INPUT, _unknown_flag(error)
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else "finetooth"
        usage = f"For its usage: {where} --help"
        return ExitCode.WRONG_INPUT, f"{where}: {error.format_message()}\n{usage}"
    cause = error.__cause__ or error.__context__
    interrupted = ExitCode.TERMINATED if was_terminated() else ExitCode.INTERRUPTED
    if isinstance(error, click.Abort | Terminated):
        return interrupted, str(cause or "") or INTERRUPTED
    if isinstance(error, Interrupted):
        return interrupted, str(error)
    if isinstance(error, FinetoothError):
        not_saved = isinstance(cause, OSError) or (cause is not None and _disk_is_full(cause))
        refused = isinstance(error, TrainError) and not not_saved
        return ExitCode.REFUSED if refused else ExitCode.WRONG_INPUT, str(error)
    if _disk_is_full(error):
        return (
            ExitCode.WRONG_INPUT,
            "The disk is full. Free some space or choose another --out, then run the same command again.",
        )
    if isinstance(error, OSError):
        return ExitCode.WRONG_INPUT, _explain_os_error(error)
    if isinstance(error, MemoryError):
        return (
            ExitCode.WRONG_INPUT,
            "There is not enough memory for this input. Use less data or a smaller model.",
        )
    if isinstance(error, RecursionError):
        return (
            ExitCode.WRONG_INPUT,
            "The input is nested too deeply: a list or a mapping within hundreds of others.",
        )
    if type(error).__name__ == "PanicException":
        return (
            ExitCode.WRONG_INPUT,
            f"The tokenizer's files are damaged: {error}. Copy them from the model again.",
        )
    if isinstance(error, ValueError) and "null byte" in str(error):
        return ExitCode.WRONG_INPUT, "A path or a name has a NUL character in it. Remove it."
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):
        return ExitCode.WRONG_INPUT, f"{error}: the link leads back to itself. Check the path."
    return ExitCode.BUG, (
        f"finetooth stopped on an unexpected error: {type(error).__name__}: {error}\n"
        "This is a bug. Set FINETOOTH_DEBUG=1 and run the command again to get a traceback for the report."
    )


def shortened(message: str) -> str:
    """The message with the middle of very long lines left out: they repeat a part of the input."""
    lines = message.split("\n")
    return "\n".join(
        line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE // 2]} … {line[-LONGEST_LINE // 4 :]}"
        for line in lines
    )


def fill_in_task(message: str, arguments: Sequence[str]) -> str:
    """The message, with TASK replaced by the task of this command line and its task options.

    What was interrupted goes on with the same command line, flags included. Where no task was given, it is
    the configuration of the run. Where a data file is given, an option to set is a flag of the command that
    reads it so; for a task file such a command stands below.
    """
    again = f"finetooth {join(arguments)}"
    message = re.sub(r"finetooth run [^\n]*? \(with the same flags\)", lambda _: again, message)
    if message == INTERRUPTED:
        return f"{message} {'To start again' if arguments[0] == 'baseline' else 'To go on'}: {again}"
    words = _positional(arguments)
    words = [str(task_file_in(Path(word)) or word) for word in words]
    given = next((word for word in words if word.endswith(TASK_FILES) or is_data_file(Path(word))), None)
    configs = (Path(word) / "config.yaml" for word in words if arguments[0] in ("train", "evaluate"))
    source = given or next((str(config) for config in configs if config.is_file()), None)
    if source is None:
        return message
    verb = arguments[0] if arguments[0] in ("train", "run") else "run"
    options = task_options_of(arguments)

    def typed(option: re.Match[str]) -> str:
        changed = {one[0]: one[1] for one in [*options, [f"--{option[1]}", option[2]]]}
        return f"finetooth {join([arguments[0], source, *chain(*changed.items())])}"

    if is_data_file(Path(source)):
        message = re.sub(_ADVICE, lambda option: f"`{typed(option)}`", message)
    elif given and (option := re.search(_ADVICE, message)):
        message = f"{message}\nAs a flag: {typed(option)}"
    kept = [option for option in options if option[0] not in ("--from", "--start", "--data.split_from")]
    for old, new, flags in (
        ("finetooth check TASK", "finetooth check", options),
        ("finetooth run TASK", f"finetooth {verb}", kept),
        ("finetooth train TASK", "finetooth train", kept),
    ):
        message = message.replace(old, f"{new} {join([source, *chain(*flags)])}")
    return message


def _positional(arguments: Sequence[str]) -> list[str]:
    """The words of a command line that are no flags and no values of flags."""
    valued = {name for name, _ in keys()} | {
        "from",
        "add",
        "random",
        "allow",
        "out",
        "label-queue",
        "grader",
        "test",
        "prompt",
    }
    flags = [word[2:] in valued and word.startswith("--") for word in arguments]
    return [
        word
        for word, is_value in zip(arguments[1:], flags, strict=False)
        if not (is_value or word.startswith("-"))
    ]


def task_options_of(arguments: Sequence[str]) -> list[list[str]]:
    """The task options of a command line, each as [flag, value], in their order."""
    names = {"from", "allow", *(key for key, _ in keys())}
    options = []
    for word, following in pairwise([*arguments, ""]):
        name, equals, value = word.partition("=")
        if name.startswith("--") and name[2:] in names:
            options.append([name, value if equals else following])
    return options


def _disk_is_full(error: BaseException) -> bool:
    """Whether the disk is full, also if a library has turned the operating system's error into its own."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return bool(re.search(r"\bos error 28\b|No space left on device|StorageFull", str(error)))


def _explain_os_error(error: OSError) -> str:
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
    if near and not (has_keys and key_hint(key.rsplit(".", 1)[-1])):
        hint = f" Did you mean {near[0]}?"
    elif has_keys:
        hint = suggest(key).replace("`finetooth train --help`", f"`{command} --help`")
    elif any(key == name for name, _ in keys()):
        hint = " Task options go to `check`, `train` and `run`; a run directory has its own in config.yaml."
    else:
        hint = f" `{command} --help` lists all flags."
    hint = re.sub(r"(Did you mean|it is called|renamed to) (?!-)", r"\1 --", hint)
    return f"{command}: unknown flag {error.option_name}.{hint}"
