"""The user's own tags in a file, errors/tags.yaml of a run: read, named where they are code, and kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Any

import yaml

from finetooth.analysis.annotations import FOLDER
from finetooth.analysis.tags import TAGS
from finetooth.analysis.tags.custom import CustomTags, custom_tags
from finetooth.errors import ConfigError
from finetooth.rundir import write_text

FILE = f"{FOLDER}/tags.yaml"  # of a run


def of_run(path: Path, given: Path | None = None) -> CustomTags:
    """The tags of a file that was given, else those that the run has. Their code is imported. ConfigError."""
    source = path / FILE if given is None else given
    if given is None and not source.is_file():
        return CustomTags()
    with way_out(path):
        values = _parsed(source, _read(source))
        for name, function in _functions(values):
            file = source.parent / function.rpartition(":")[0]
            if file.suffix == ".py" and not file.is_file():
                raise ConfigError(f"{source}: {name}: there is no file {file}.")
        return custom_tags(values, source.parent, [tag.name for tag in TAGS], str(source))


@contextmanager
def way_out(path: Path) -> Iterator[None]:
    """Where tags that the run has cannot be used, the ConfigError says what to do about them."""
    stored = path / FILE
    try:
        yield
    except ConfigError as error:
        if not str(error).startswith(str(stored)):  # messages about tags begin with their file
            raise
        raise ConfigError(
            f"{error}\nMend or restore it, or give other tags: finetooth errors {quote(str(path))} --tags "
            f"FILE, or delete {stored} to go on without these."
        ) from None


def code_in(path: Path) -> list[str]:
    """The functions that a run's tags name, as they are in its file; nothing is imported. ConfigError."""
    source = path / FILE
    with way_out(path):
        return [code for _, code in _functions(_parsed(source, _read(source)))] if source.is_file() else []


def store(path: Path, source: Path) -> None:
    """Keep a file of tags in the run. Functions beside it are named by absolute paths, all else stays."""
    write_text(path / FILE, _absolute(_read(source), source))


def _read(source: Path) -> str:
    try:
        return source.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source} cannot be read: {error}") from None


def _parsed(source: Path, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that is none
        raise ConfigError(f"{source} cannot be read: {error}") from None


def _functions(values: Any) -> Iterator[tuple[str, str]]:
    """Name of a tag -> the function that it names."""
    for name, entry in values.items() if isinstance(values, Mapping) else ():
        if isinstance(entry, Mapping) and "function" in entry:
            yield str(name), str(entry["function"])


def _absolute(text: str, source: Path) -> str:
    """The text of a file of valid tags with absolute paths; its order and comments stay."""
    folder, wanted = source.parent.resolve(), _parsed(source, text) or {}
    for name, function in _functions(wanted):
        wanted[name] = {**wanted[name], "function": _found(function, folder)}
    if wanted == (_parsed(source, text) or {}):
        return text
    changed = text
    for (start, end), function in sorted(_spans(yaml.compose(text)).items(), reverse=True):
        absolute = json.dumps(_found(function, folder), ensure_ascii=False)
        changed = f"{changed[:start]}{absolute}{changed[end:]}"
    with suppress(yaml.YAMLError):
        if yaml.safe_load(changed) == wanted:  # not so for a few forms, such as an anchor
            return changed
    return str(yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True))


def _spans(root: Any) -> dict[tuple[int, int], str]:
    """(first, last character) -> function, of all that tags name in a YAML document."""
    pairs = [pair for _, entry in root.value if isinstance(entry, yaml.MappingNode) for pair in entry.value]
    nodes = [node for key, node in pairs if key.value == "function"]
    return {(node.start_mark.index, node.end_mark.index): node.value for node in nodes}


def _found(function: str, folder: Path) -> str:
    """The function with the absolute path of its file; as it is where that is an installed module."""
    module, _, name = function.rpartition(":")
    if module.endswith(".py"):
        return f"{folder / module}:{name}"
    file = folder.joinpath(*module.split(".")).with_suffix(".py")
    with suppress(ImportError, ValueError):  # of no module's name
        known = find_spec(module.partition(".")[0])
        if known is not None and known.origin and folder not in Path(known.origin).resolve().parents:
            return function  # an installed module comes first
    return f"{file}:{name}" if file.is_file() else function
