"""Every key of the task as a flag of the command line: `train.epochs` is `--train.epochs`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import click
import yaml
from click.shell_completion import CompletionItem
from pydantic import create_model
from pydantic.fields import FieldInfo

from finetooth.cli.completion import complete_value
from finetooth.config.task import fields

FIELDS: dict[str, FieldInfo] = dict(fields())
ALLOW = "Go on in spite of this finding's block; the reports say so. As data.allow; may be given again."
_KEYS = {key.replace(".", "__"): key for key in FIELDS}  # the parameter's name in Python -> the key


class SectionedCommand(click.Command):
    """A command whose help shows the keys of the task in the sections of the task file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the verb's words; what is wrong with them is told as this verb's, whose --help helps."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section of flags for the command itself, then one for each section of the task."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if isinstance(param, click.Option) and record is not None:
                sections.setdefault(_heading(param), []).append(record)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows, col_max=32)


def _heading(param: click.Parameter) -> str:
    if param.name not in _KEYS:
        return "Options"
    first, _, rest = _KEYS[param.name].partition(".")
    return f"Keys of the task: {first}" if rest else "Keys of the task"


def task_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb one flag for every key of the task, after the verb's own flags."""
    for name, key in reversed(_KEYS.items()):
        shown = "" if FIELDS[key].is_required() else f" [{default_of(key)}]"
        text = f"{FIELDS[key].description}{shown}"
        names = (name, *(["--from"] if key == "start" else []), f"--{key}")
        command = click.option(*names, metavar="VALUE", default=None, help=text, shell_complete=_offer(key))(
            command
        )
    return click.option("--allow", multiple=True, metavar="RULE", help=ALLOW)(command)


def _offer(key: str) -> Callable[..., list[CompletionItem[Any]]]:
    return lambda context, param, incomplete: complete_value(key, FIELDS[key], incomplete)


def default_of(key: str) -> str:
    """The default of a key as one would write it in a task file; `required` when there is none."""
    field = FIELDS[key]
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return value if isinstance(value, str) and value else json.dumps(value)


def parse_value(key: str, text: str) -> Any:
    """What `--key text` means: YAML where the key takes it (3, 2e-4, [0, 4], null), else the text itself."""
    field = FIELDS[key]
    annotation: Any = field.annotation
    alone = create_model("Alone", value=(annotation, field))
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # YAML's ValueError is of 2026-99-99
        return text
    for meant in (value, text):
        try:
            alone.model_validate({"value": meant})
        except ValueError:
            continue
        return meant
    # Of a list or a mapping with a mistake inside, the check of the task says which.
    return value if isinstance(value, list | dict) else text


def parse_overrides(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that were given as flags, dotted, with their values; --allow is a key too."""
    given = {
        _KEYS[name]: parse_value(_KEYS[name], text)
        for name, text in flags.items()
        if name in _KEYS and text is not None
    }
    return given | ({"data.allow": list(flags["allow"])} if flags.get("allow") else {})
