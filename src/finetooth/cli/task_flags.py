"""Task options: every key of the task as a command-line flag, `train.epochs` as `--train.epochs`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from shlex import quote
from typing import Any

import click
import yaml
from click.shell_completion import CompletionItem
from pydantic import create_model
from pydantic.fields import FieldInfo

from finetooth.cli.completion import TASK_FILES, complete_value, literals
from finetooth.config.method_keys import PreferenceKeys, RewardKeys
from finetooth.config.task import fields
from finetooth.errors import FinetoothError

FIELDS: dict[str, FieldInfo] = dict(fields())
ALLOW = "Override this blocking rule (repeatable); recorded in reports. Same as data.allow."
_KEYS = {key.replace(".", "__"): key for key in FIELDS}  # name of the Python parameter -> key
COMMON = ("model", "data.columns", "data.encoding", "train.epochs", "train.learning_rate", "evaluate.grader")
DASHES = "-–—−‐‑"  # those of editors and web pages, too
MOST_USED = "Task options that most tasks need"
_COLUMN = 24  # width up to which a flag shares a line with its description


class FlagWithoutDashes(FinetoothError):
    """A flag that was typed without `--`, or with other dashes, and would be taken for a file."""


class SectionedCommand(click.Command):
    """A command whose help groups the task options like the task file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; usage errors name this verb, so that they point to its --help."""
        words = list(args)
        flags = {flag for param in self.get_params(ctx) for flag in param.opts if flag.startswith("--")}
        try:
            rest = super().parse_args(ctx, args)
        except click.UsageError as error:
            if slip := _without_dashes(words, flags):
                raise FlagWithoutDashes(f"{ctx.command_path}: {slip}") from None
            error.ctx = error.ctx or ctx
            raise
        arguments = [param.name for param in self.params if isinstance(param, click.Argument)]
        given = [value for name, value in ctx.params.items() if name in arguments]
        named = [str(value) for value in given if isinstance(value, str | Path)]
        # The first word may well be a file that is not there and has a flag's name.
        doubtful = [word for at, word in enumerate(words) if word in named and (at or "." in word)]
        if slip := _without_dashes(doubtful, flags):
            raise FlagWithoutDashes(f"{ctx.command_path}: {slip}")
        return rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verb's own flags, the task options that most tasks need, and the others by section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if isinstance(param, click.Option) and record is not None:
                key = _KEYS.get(param.name or "")
                heading = "Options" if key is None else MOST_USED if key in COMMON else heading_of(key)
                sections.setdefault(heading, []).append(record)
        first = [heading for heading in ("Options", MOST_USED) if heading in sections]
        for heading in [*first, *(heading for heading in sections if heading not in first)]:
            rows = sections[heading]
            with formatter.section(heading):
                formatter.write_dl(rows, col_max=_COLUMN)


def _without_dashes(words: Sequence[str], flags: Set[str]) -> str:
    """What to say about the first word that is a flag of this verb but for its dashes; "" without one."""
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        flag = f"--{name.lstrip(DASHES)}"
        if word.startswith("--") or flag not in flags or Path(word).exists():
            continue
        following = words[at + 1] if at + 1 < len(words) else ""
        if not equals and not following.startswith(tuple(DASHES)) and not following.endswith(TASK_FILES):
            value = following
        typed = f"{flag} {quote(value)}" if value else flag
        return f"{word} is a flag and begins with two dashes. Type `{typed}`."
    return ""


def heading_of(key: str) -> str:
    """The section of the help in which a key of the task stands."""
    section, _, leaf = key.rpartition(".")
    if leaf in RewardKeys.model_fields and section == "train":
        return "Task options: train, for reinforcement learning"
    if leaf in PreferenceKeys.model_fields and section == "train":
        return "Task options: train, for preference methods"
    return f"Task options: {section}" if section else "Task options"


def task_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add one flag for every key of the task to a verb, after the verb's own flags."""

    def suggestions(key: str) -> Callable[..., list[CompletionItem[Any]]]:
        return lambda context, param, incomplete: complete_value(key, FIELDS[key], incomplete)

    for name, key in reversed(_KEYS.items()):
        names = (name, *(["--from"] if key == "start" else []), f"--{key}")
        command = click.option(
            *names, metavar="VALUE", help=_help(key), show_default=False, shell_complete=suggestions(key)
        )(command)
    return click.option("--allow", multiple=True, metavar="RULE", help=ALLOW)(command)


def _help(key: str) -> str:
    """The description of a key, then its values if the description does not name them, and its default."""
    field, default = FIELDS[key], default_of(key)
    text, values = field.description or "", list(literals(field.annotation))
    unnamed = [value for value in values if value != "auto" and value not in text]
    facts = [", ".join(values)] if unnamed else []
    if key != "name" and default not in ("required", "null", "[]", "{}", '""'):  # a task file names itself
        facts.append(f"default: {default}")
    return f"{text}  [{'; '.join(facts)}]" if facts else text


def default_of(key: str) -> str:
    """The default of a key as written in a task file; `required` if there is none."""
    field = FIELDS[key]
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return value if isinstance(value, str) and value else json.dumps(value)


def parse_value(key: str, text: str) -> Any:
    """The value of `--key text`: YAML if the key accepts that (3, 2e-4, [0, 4], null), otherwise the text."""
    field = FIELDS[key]
    annotation: Any = field.annotation
    if text in literals(annotation):  # on and off are truth values in YAML
        return text
    model = create_model("Value", value=(annotation, field))
    try:
        value = yaml.safe_load(text)
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        RecursionError,
    ):  # ValueError: 2026-99-99 looks like a date
        return text
    for candidate in (value, text):
        try:
            model.model_validate({"value": candidate})
        except ValueError:
            continue
        return candidate
    # A list or mapping with a mistake inside stays one, so that the task's error message names the mistake.
    return value if isinstance(value, list | dict) else text


def parse_overrides(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The task options on the command line, as dotted keys with their values; --allow is data.allow."""
    overrides = {
        _KEYS[name]: parse_value(_KEYS[name], text)
        for name, text in flags.items()
        if name in _KEYS and text is not None
    }
    return overrides | ({"data.allow": list(flags["allow"])} if flags.get("allow") else {})
