"""Every error that finetooth raises on purpose. The message is written for the person who has to act on it.

    FinetoothError
    ├── ConfigError   a task file, flag or run directory says something that cannot be done
    ├── DataError     a file, row, split or template that would make the result wrong
    ├── ModelError    a model, tokenizer or adapter that cannot be loaded or does not behave as required
    ├── TrainError    training stopped before it could do harm (a non-finite loss, a broken checkpoint)
    ├── GradeError    an evaluation that would be meaningless (no rows, a grader that cannot be loaded)
    └── Interrupted   Ctrl-C or SIGTERM; the state is saved

A message says where (file, line, key), what was found, what was expected, and what to type next. The command
line prints it without a traceback and exits with code 2 (TrainError: 1, Interrupted: 130).
"""


class FinetoothError(Exception):
    """The base of every deliberate error; `str(error)` is complete and fit to be shown to the user."""


class ConfigError(FinetoothError):
    """A task file, flag or run directory says something that cannot be done."""


class DataError(FinetoothError):
    """A file, row, split or template that would make the result wrong."""


class ModelError(FinetoothError):
    """A model, tokenizer or adapter that cannot be loaded or does not behave as required."""


class TrainError(FinetoothError):
    """Training stopped before it could do harm."""


class GradeError(FinetoothError):
    """An evaluation that would be meaningless."""


class Interrupted(FinetoothError):
    """A signal asked training to stop: its state is saved, and the message says how to go on.

    message: message has stopped and message is saved. next_command: the command that goes on, "" where
    `message` says it.
    """

    def __init__(self, message: str, next_command: str = "") -> None:
        super().__init__(f"{message} Continue with: {next_command}" if next_command else message)
        self.message, self.next_command = message, next_command
