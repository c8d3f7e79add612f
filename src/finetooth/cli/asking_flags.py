"""Flags of the verbs that ask a model: `predict` and `chat`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from finetooth.cli.task_flags import parse_value
from finetooth.config.values import SEEDS, encoding
from finetooth.errors import ConfigError


def predict_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags of `predict`."""
    command = click.option("--force", is_flag=True, help="Replace the output file if it exists.")(command)
    command = click.option(
        "--encoding", metavar="NAME", callback=_encoding, help="Encoding of FILE.  [default: that of the run]"
    )(command)
    command = click.option(
        "--system", metavar="TEXT", help="System message for rows that have none of their own."
    )(command)
    command = click.option(
        "--candidate",
        type=click.Choice(["tuned", "bag-of-words"]),
        default="tuned",
        help="What answers: the tuned model, or the word counts of the run.  [default: tuned]",
    )(command)
    command = click.option(
        "--unsure-below",
        type=click.FloatRange(0, 1),
        metavar="NUMBER",
        help="Write `unsure` instead of a label whose confidence is below this.",
    )(command)
    command = click.option(
        "--columns",
        metavar="MAPPING",
        help='Columns of this file, as in data.columns, such as "{body: text}".  [default: those of the run]',
    )(command)
    command = click.option(
        "--out",
        type=click.Path(path_type=str, allow_dash=True),
        metavar="FILE",
        help="Output file; - is stdout.  [default: NAME.predicted.EXT beside FILE; stdout if FILE is -]",
    )(command)
    return command


def chat_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags of `chat`."""
    command = click.option(
        "--seed",
        "stream",  # not the task option of that name
        type=click.IntRange(0, SEEDS - 1),
        metavar="NUMBER",
        help="Random seed of the sampling.  [default: the run's, else 1]",
    )(command)
    command = click.option(
        "--top-p", type=float, metavar="NUMBER", help="Nucleus sampling: probability mass.  [default: 1.0]"
    )(command)
    command = click.option(
        "--max-tokens",
        type=int,
        metavar="NUMBER",
        help="Maximum answer length in tokens.  [default: the run's, else 256]",
    )(command)
    command = click.option(
        "--temperature",
        type=float,
        metavar="NUMBER",
        help="Sampling temperature.  [default: the run's, else 0]",
    )(command)
    command = click.option(
        "--free", is_flag=True, help="Generate freely, also where the test chose among labels."
    )(command)
    command = click.option(
        "--system",
        metavar="TEXT",
        help="System message.  [default: that of the training rows, if they share one]",
    )(command)
    command = click.option(
        "--conversation", is_flag=True, help="From a pipe: every line is a turn of one conversation."
    )(command)
    command = click.option(
        "--both", is_flag=True, help="Show the base model's answers beside the fine-tuned model's."
    )(command)
    return command


def parse_mapping(text: str | None) -> dict[str, str] | None:
    """The value of --columns. Raises ConfigError for anything but a mapping of names."""
    value = parse_value("data.columns", text) if text is not None else None
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f'--columns: expected a mapping such as "{{body: text}}", found {text!r}.')
    return value


def _encoding(context: click.Context, param: click.Parameter, name: str | None) -> str | None:
    """The canonical name of --encoding."""
    try:
        return encoding(name) if name is not None else None
    except ValueError as error:
        raise ConfigError(f"--encoding {name}: {error}.") from None
