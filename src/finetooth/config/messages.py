"""Error messages of a task: what is wrong with a key, in plain words in place of pydantic's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetooth.config.other_tools import run_directory_hint

SOURCES = ("data.train", "data.validation", "data.test")
TEXTS = (
    "name",
    "model",
    "template",
    "data.group",
    "data.rates",
    "data.split_from",
    "start",
)  # keys of a text
EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping {name: value}",
    "finite_number": "a finite number",
}
EXPECTED_SOURCE = {
    "string_type": "a file",
    "list_type": "a list of files",
    "float_parsing": "a share from 0 to below 1",
    "float_type": "a share from 0 to below 1",
}
LIMITS = {
    "greater_than": ("gt", "a number above {:g}"),
    "greater_than_equal": ("ge", "a number of at least {:g}"),
    "less_than": ("lt", "a number below {:g}"),
    "less_than_equal": ("le", "a number of at most {:g}"),
}
# Steps of pydantic's path to a value that are not keys of the task: which of several types it tried.
TYPE_STEPS = {"float", "int", "str", "bool", "list", "constrained", "literal", "function", "dict", "tagged"}


def explain_problems(error: ValidationError, where: str, suggest: Callable[[str], str]) -> str:
    """The message for a task that is wrong: one line for each key, then what to do with a run directory.

    where: the file, or "the task". suggest: what to say after an unknown key. A key that takes several types
    of values has one pydantic problem for each of them, joined into one line.
    """
    lines: list[str] = []
    wrong: dict[str, list[Any]] = {}
    for problem in error.errors():
        steps = [
            str(step)
            for step in problem["loc"]
            if not (isinstance(step, str) and step.split("[")[0].split("-")[0] in TYPE_STEPS)
        ]
        while len(steps) > 1 and steps[-1].isdecimal():  # the value that was found shows which one it is
            steps.pop()
        key = ".".join(steps)
        if problem["type"] == "extra_forbidden":
            lines.append(f"  unknown key {key}.{_without_space(steps[-1]) or suggest(key)}")
            if Path(where).name == "config.yaml" and (hint := run_directory_hint(steps[-1])):
                lines.append(f"  To keep using the run directory {Path(where).parent}: {hint}.")
        elif problem["type"] == "missing":
            lines.append(f"  {key} is missing.")
        else:
            wrong.setdefault(key, []).append(problem)
    for key, problems in wrong.items():
        expected = [_expected(key, problem) for problem in problems]
        hint = _read_as(key, problems[0]["input"])
        if problems[0]["input"] is None and (missing := _without_space(key)):
            hint += f".{missing.removesuffix('.')}"
        own = [
            problem["msg"].removeprefix("Value error, ")
            for problem, words in zip(problems, expected, strict=True)
            if not words
        ]
        *first, last = dict.fromkeys(expected)
        wanted = f"{', '.join(first)} or {last}" if first else last
        lines.append(
            f"  {key}: {own[0] if own else f'expected {wanted}'}, found {shown(problems[0]['input'])}{hint}."
        )
    return f"{where}:\n" + "\n".join(dict.fromkeys(lines))


def _without_space(name: str) -> str:
    """What to say of a key that YAML read where a colon, or the space behind it, is missing; else ""."""
    if ":" in name:
        before, _, after = name.partition(":")
        return f" Put a space behind the colon: `{before.rpartition('.')[2]}: {after.strip()}`."
    word, _, rest = name.partition(" ")
    return f" Put a colon behind the key: `{word}: {rest}`." if rest and word.isidentifier() else ""


def shown(value: Any) -> str:
    """The start of a value as Python writes it; of a number with thousands of digits, how many there are."""
    try:
        return repr(value)[:80]
    except (ValueError, RecursionError):  # Python writes no more than 4,300 digits
        return "a number of thousands of digits" if isinstance(value, int) else "a value nested too deeply"


def _read_as(key: str, value: Any) -> str:
    """What YAML made of a text without quotes, and how to write it; "" where no text is wanted."""
    if isinstance(value, bool):
        kind, example = "yes, no, on and off as truth values", '"no"'
    elif isinstance(value, int | float):
        kind, example = f"{shown(value)} as a number", f'"{shown(value)}"'
    elif isinstance(value, date):
        kind, example = "this as a date", f'"{value}"'
    else:
        return ""
    if not key.endswith("[key]") and key not in TEXTS:
        return ""
    return f". YAML reads {kind}; put the name in quotes: {example}" + (": text" if "[key]" in key else "")


def _expected(key: str, problem: Mapping[str, Any]) -> str:
    """What one of pydantic's problems asks for, as a noun; "" for a message of our own validators."""
    kind, facts = problem["type"], problem.get("ctx", {})
    if kind in ("model_type", "dataclass_type", "model_attributes_type"):
        value = problem["input"] if isinstance(problem["input"], str) else "FILE"
        return f"a section, {key}: " + (f"{{train: {value}}}" if key == "data" else "{key: value}")
    if kind == "literal_error":
        return str(facts["expected"]).replace("'", "")
    if kind in LIMITS:
        name, words = LIMITS[kind]
        return words.format(facts[name])
    return (key in SOURCES and EXPECTED_SOURCE.get(kind)) or EXPECTED.get(kind, "")
