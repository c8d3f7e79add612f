"""All errors that finetooth raises deliberately.

    FinetoothError
    ├── ConfigError   an invalid task file, flag or run directory
    ├── DataError     a file, row, split or template that would make the result wrong
    ├── ModelError    a model, tokenizer or adapter that cannot be loaded or does not behave as required
    ├── TrainError    training stopped to prevent damage (a non-finite loss, a broken checkpoint)
    ├── GradeError    an evaluation that would be meaningless (no rows, a grader that cannot be loaded)
    └── Interrupted   Ctrl-C or SIGTERM; the state is saved

A message says where (file, line, key), what was found, what was expected, and what to type next. The command
line prints it without a traceback and exits with code 2 (TrainError: 1, Interrupted: 130).
"""

from __future__ import annotations

import re

# Control characters except tab and line feed, and those that change the direction of the text after them.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with the characters that could command a terminal as escapes such as \\x1b."""
    return _COMMANDS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class FinetoothError(Exception):
    """Base class; `str(error)` is the complete message to show to the user."""


class ConfigError(FinetoothError):
    """An invalid task file, flag or run directory."""


class DataError(FinetoothError):
    """A file, row, split or template that would make the result wrong."""


class ModelError(FinetoothError):
    """A model, tokenizer or adapter that cannot be loaded or does not behave as required."""


class TrainError(FinetoothError):
    """Training stopped to prevent damage."""


class GradeError(FinetoothError):
    """An evaluation that would be meaningless."""


class Interrupted(FinetoothError):
    """A signal stopped training; its state is saved, and the message says how to continue.

    message: what has stopped and what is saved. next_command: the command that continues, "" if `message`
    already names it.
    """

    def __init__(self, message: str, next_command: str = "") -> None:
        super().__init__(f"{message} Continue with: {next_command}" if next_command else message)
        self.message, self.next_command = message, next_command
