"""A task from a data file alone: which columns are text and answer, proposed, shown, confirmed, written."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import join, quote
from typing import Any

import yaml

from finetooth.config.load import load_task, set_dotted
from finetooth.config.task import DataConfig
from finetooth.config.values import safe_name
from finetooth.data.examples import different_first
from finetooth.data.formats.column_roles import ColumnRoles, propose_roles, suggested_roles
from finetooth.data.formats.columns import listed
from finetooth.data.formats.parse import parse
from finetooth.data.read.files import read
from finetooth.data.read.table import Table
from finetooth.errors import ConfigError, DataError
from finetooth.privacy.masking import redact
from finetooth.rundir import write_text
from finetooth.runs import next_steps
from finetooth.types import Example

Ask = Callable[[str], bool]  # shows a text and asks whether to go on
SHOWN_ROWS = 3
SHOWN_TEXT = 160  # characters of a text


@dataclass(frozen=True, slots=True)
class SheetTask:
    """A task for one data file. values: of the task file. roles: what was proposed, None where the columns'
    own names, or the flags, say what they are. rows: the first ones, as they would be read.
    """

    file: Path
    values: dict[str, Any]
    roles: ColumnRoles | None
    rows: tuple[Example, ...]

    def yaml(self) -> str:
        """The text of the task file."""
        return yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True, width=100)

    def shown(self) -> str:
        """The proposal for a person: the columns, three rows, and the task file."""
        lines = [f"{self.file.name}:"]
        if self.roles is not None:
            lines += [f"  {column!r} is {why}" for column, why in self.roles.reasons.items()]
            if self.roles.unread:
                unread = "is not used" if len(self.roles.unread) == 1 else "are not used"
                lines.append(f"  {listed(self.roles.unread)} {unread}")
        for row in self.rows:
            question = " / ".join(message.content for message in row.context)
            lines += [f"  {row.id or 'row'}: {_short(question)}", f"    → {_short(row.target)}"]
        return "\n".join([*lines, "", self.yaml().rstrip()])


def sheet_task(file: Path, flags: Mapping[str, Any]) -> SheetTask:
    """The task for a data file. flags: dotted task options, which win over what is proposed.

    Raises DataError for a file that cannot be read, and where the columns do not show what they are: the
    message has the commands to choose from.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: no such file. Expected a data file or a task file (.yaml or .toml).")
    config = load_task({"data": {"train": str(file)}}, flags).data
    (table,) = read(str(file.resolve()), config.encoding)
    roles = None
    stated = bool(config.columns) or config.format != "auto" or not table.columns
    if not stated and _unreadable(table, config):
        roles = propose_roles(table)
        if roles.choices:
            choices = [{**flags, "data.columns": choice} for choice in roles.choices]
            commands = [
                f"  finetooth check {join([str(file), *next_steps.flag_words(choice)])}" for choice in choices
            ]
            raise DataError(
                f"{file}: the columns {listed(table.columns)} can be read in more than one way. Choose one:\n"
                + "\n".join(commands)
            )
        if not roles.columns:
            named = {**flags, "data.columns": suggested_roles(table.columns, table.rows)}
            raise DataError(
                f"{file}: no column of {listed(table.columns)} was recognised as the answer. Name the text "
                "and the answer (label: one of a few labels; context and answer: free text):\n"
                f"  finetooth check {join([str(file), *next_steps.flag_words(named)])}"
            )
        config = config.model_copy(update={"columns": roles.columns})
    values: dict[str, Any] = {"name": safe_name(file.stem), "data": {"train": str(file)}}
    for key, value in flags.items():
        set_dotted(values, key, value)
    if roles is not None:
        values["data"]["columns"] = dict(roles.columns)
    examples = parse(table, config, config.format).examples
    rows = different_first(examples, lambda one: one.target, SHOWN_ROWS)
    return SheetTask(file, values, roles, tuple(rows))


def task_file(file: Path, flags: Mapping[str, Any], yes: bool, ask: Ask | None, verb: str) -> Path:
    """The task file of a data file: one that trains on it already, else a new one, proposed and confirmed.

    verb: of the command that was given, for messages. Raises as `sheet_task`, `confirm` and `write_task`.
    """
    if (path := existing_task(file)) is not None:
        return path
    proposal = sheet_task(file, flags)
    confirm(proposal, yes, ask, join(["finetooth", verb, str(file), *next_steps.flag_words(flags)]))
    return write_task(proposal)


def confirm(proposal: SheetTask, yes: bool, ask: Ask | None, again: str) -> None:
    """Ask whether the proposal is right, where something was proposed.

    ask: None where nobody can be asked; then `yes` is needed. again: the command to repeat with --yes.
    Raises ConfigError for a no, or without an answer.
    """
    if proposal.roles is None or yes:
        return
    columns = next_steps.flow(proposal.roles.columns)
    change = f"To choose the columns yourself: --data.columns {quote(columns)}"
    if ask is None:
        raise ConfigError(f"{proposal.shown()}\n\nIf this is right: {again} --yes\n{change}")
    if not ask(f"{proposal.shown()}\n\nIs this right?"):
        raise ConfigError(f"Nothing was written. {change}")


def write_task(proposal: SheetTask) -> Path:
    """Write the task file here, where the paths of flags start, and return its path.

    It is task.yaml, or NAME.yaml where that exists: no file is ever replaced. Raises ConfigError.
    """
    text = proposal.yaml()
    names = _task_files(proposal.file)
    path = next((name for name in names if not os.path.lexists(name)), None)
    if path is None:
        raise ConfigError(
            f"{names[0]} and {names[1]} exist already and are never overwritten. To run one: finetooth run "
            f"{names[0]}\nFor another task, save these lines under a new name:\n{text}"
        )
    try:
        write_text(path, text)
    except OSError as error:
        raise ConfigError(
            f"{path.absolute()} cannot be written ({error.strerror or error}). Change to a folder of yours, "
            f"or save these lines there as a .yaml file, with the whole path of the data:\n{text}"
        ) from None
    return path


def existing_task(file: Path) -> Path | None:
    """The task file here that trains on this data file, under one of the names of `write_task`."""
    for path in _task_files(file):
        with suppress(ConfigError):
            if path.is_file() and load_task(path).data.train == str(file.resolve()):
                return path
    return None


def _task_files(file: Path) -> tuple[Path, Path]:
    return Path("task.yaml"), Path(f"{safe_name(file.stem)}.yaml")


def _unreadable(table: Table, config: DataConfig) -> bool:
    """Whether the names of the columns do not say what they are."""
    try:
        return not parse(table, config).examples
    except DataError:
        return True


def _short(text: str) -> str:
    line = redact(" ⏎ ".join(text.split("\n")))
    return line if len(line) <= SHOWN_TEXT else f"{line[:SHOWN_TEXT]} …"
