"""What ended a command: its exit code, and the one message that says what to do."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Sequence
from itertools import pairwise
from shlex import join

import click

from finetooth.cli.completion import TASK_FILES
from finetooth.config.task import KEY_HINTS, keys, suggest
from finetooth.errors import FinetoothError, Interrupted, TrainError

EXIT_OK, EXIT_REFUSED, WRONG_INPUT, BUG, INTERRUPTED, EXIT_BROKEN_PIPE = 0, 1, 2, 70, 130, 141


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
        return EXIT_REFUSED if stopped else WRONG_INPUT, str(error)
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


def fill_in_task(message: str, arguments: Sequence[str]) -> str:
    """The message, with the task file and the keys of this command line where it says `check TASK`."""
    words = [*arguments, ""]
    task = next((word for word in words if word.endswith(TASK_FILES)), None)
    if task is None:
        return message
    given = [task]
    for word, following in pairwise(words):
        name, equals, _ = word.partition("=")
        if name.startswith("--") and "." in name:
            given += [word] if equals else [word, following]
    return message.replace("finetooth check TASK", f"finetooth check {join(given)}")


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
    if near and not (has_keys and key.rsplit(".", 1)[-1] in KEY_HINTS):
        hint = f" Did you mean {near[0]}?"
    elif has_keys:
        hint = suggest(key).replace("`finetooth train --help`", f"`{command} --help`")
    elif any(key == name for name, _ in keys()):
        hint = " Keys of the task are given to `train` and `run`; a run directory has its own in config.yaml."
    else:
        hint = f" `{command} --help` lists all flags."
    return f"{command}: unknown flag {error.option_name}.{hint}"
