"""Write the generated parts of docs/reference.md, the task options and the verbs, and of docs/models.md.

    python tools/reference.py

The rest of the page is written by hand. A test compares the page with the output.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from finetooth.cli.app import group
from finetooth.cli.task_flags import FIELDS, default_of, heading_of
from finetooth.config.named_models import named_models
from finetooth.config.task import Task

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference.md"
MODELS = PAGE.with_name("models.md")
SCHEMA = Task.model_json_schema()


def kind_of(key: str) -> str:
    """The values that a key accepts, in words: `auto` or whole number ≥ 1."""
    *sections, leaf = key.split(".")
    node = SCHEMA
    for section in sections:
        reference = node["properties"][section]
        name = (reference.get("$ref") or reference["allOf"][0]["$ref"]).rsplit("/", 1)[-1]
        node = SCHEMA["$defs"][name]
    words = _words(node["properties"][leaf])
    source = key in ("data.train", "data.validation", "data.test")
    return words.replace("list of text or mapping", "files or rows") if source else words


def _words(part: dict[str, Any]) -> str:
    if "anyOf" in part:
        return " or ".join(_words(inner) for inner in part["anyOf"])
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    kind = part.get("type", "value")
    if kind == "array":
        return f"list of {_words(part['items'])}"
    names = {"string": "text", "integer": "whole number", "object": "mapping"}
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {part[name]:g}" for name, sign in bounds.items() if name in part]
    return " ".join([names.get(kind, kind), ", ".join(limits)]).strip()


def keys_tables() -> str:
    """One table of keys for each section of a task file, with the headings of `finetooth run --help`."""
    sections: dict[str, list[str]] = {}
    for key, field in FIELDS.items():
        default = "(required)" if field.is_required() else f"`{default_of(key)}`"
        row = f"| `{key}` | {kind_of(key)} | {default} | {field.description} |"
        sections.setdefault(heading_of(key), []).append(row)
    head = "| key | values | default | meaning |\n|---|---|---|---|\n"
    return "\n\n".join(
        f"### {title.partition(': ')[2] or 'Top level'}\n\n{head}" + "\n".join(rows)
        for title, rows in sections.items()
    )


def verbs_table() -> str:
    """One line for each verb, from its help."""
    lines = ["| command | what it does |", "|---|---|"]
    for name, command in group.commands.items():
        arguments = [param.metavar for param in command.params if isinstance(param, click.Argument)]
        usage = " ".join(["finetooth", name, *map(str, arguments)]).replace("|", "\\|")
        lines.append(f"| `{usage}` | {command.get_short_help_str(200)} |")
    return "\n".join(lines)


def models_table() -> str:
    """One line for each named model."""
    lines = ["| name | parameters | context | languages | kind | licence: duties | good for | where |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for model in named_models().values():
        size = f"{model.parameters:,} M"
        wheels = f"`{model.pypi.packages[0].partition('==')[0]}` on PyPI" if model.pypi else ""
        where = ", ".join(filter(None, [f"`{model.hub}`" if model.hub else "embedded", wheels]))
        terms = f"{model.licence}: {model.duties}"
        cells = (
            f"`{model.name}`",
            size,
            f"{model.context:,}",
            model.languages,
            model.kind,
            terms,
            model.good_for,
        )
        lines.append(f"| {' | '.join([*cells, where])} |")
    return "\n".join(lines)


PARTS = {PAGE: {"keys": keys_tables, "verbs": verbs_table}, MODELS: {"models": models_table}}


def render(page: str, path: Path = PAGE) -> str:
    """The page with the text between the markers generated from the code."""
    for name, text in ((name, make()) for name, make in PARTS[path].items()):
        pattern = rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)"
        page, count = re.subn(
            pattern, lambda match, text=text: f"{match[1]}{text}\n{match[2]}", page, flags=re.S
        )
        if count != 1:
            raise SystemExit(f"{path.name}: expected one marker for {name!r}, found {count}.")
    return page


if __name__ == "__main__":
    for path in PARTS:
        path.write_text(render(path.read_text(encoding="utf-8"), path), encoding="utf-8")
