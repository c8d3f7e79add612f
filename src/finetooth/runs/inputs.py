"""What a run was made of and where: the digests of the user's files, and whether its code may be imported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.config.task import Task
from finetooth.config.values import is_files, is_hub_id
from finetooth.data.read.sources import find_files
from finetooth.errors import ConfigError, DataError
from finetooth.rundir import read_json, sha256_file
from finetooth.runs import workspace

_CODE = re.compile(r"(.+):[A-Za-z_]\w*", re.DOTALL)  # file.py:function or package.module:function


def provenance(task: Task, path: Path) -> dict[str, Any]:
    """For environment.json: `inputs`, the sha256 of each file by its path, and the run's own `place`."""
    inputs = {str(file): sha256_file(file) for file in _files(task) if file.is_file()}
    return {"inputs": inputs, "place": _place(path)}


def require_unchanged(task: Task, path: Path, console: Console) -> None:
    """Raise ConfigError when a file that the run in `path` was made of has changed, is new or is left out.

    A file that is gone is only reported, since a run has its own copy of the rows. Nothing is known of a new
    run, or of one of an older version.
    """
    if not (path / workspace.CONFIG).is_file():
        return
    known = read_json(path / "environment.json").get("inputs")
    if known is None:
        return
    here = {str(file): sha256_file(file) for file in _files(task) if file.is_file()}
    for file in [name for name in known if name not in here]:
        console.print(f"warning: {file} no longer exists; {path} was made of it.", style="yellow")
    for file, digest in here.items():
        if known.get(file) != digest:
            what = "has changed since" if file in known else "was not there when"
            raise ConfigError(
                f"{file} {what} {path} was made. For a run of what it holds now choose another --out; "
                f"for the result as it was: finetooth report {path}"
            )


def require_trusted(path: Path, verb: str, trusted: bool = False) -> None:
    """Raise ConfigError for a run that names code to import, unless it is trusted or lies where it was made.

    A run that was sent, copied or moved lies elsewhere; built-in graders run none of its code.
    """
    code = _code(workspace.load_config(path))
    if trusted or not code or is_in_its_place(path):
        return
    raise ConfigError(
        f"{path} was not made here (it was sent, copied or moved, or is of an older version), and its "
        f"config.yaml names code that would run: {code[0]}. Read it first; if you trust it: "
        f"finetooth {verb} {path} --trust-code"
    )


def is_in_its_place(path: Path) -> bool:
    """Whether the run in `path` was made there."""
    file = path / "environment.json"
    return file.is_file() and read_json(file).get("place") == _place(path)


def _place(path: Path) -> dict[str, Any]:
    """A run's place: the inode makes it no use to write another's path into a run that one sends."""
    return {"path": str(path.resolve()), "inode": path.stat().st_ino}


def _files(task: Task) -> Iterator[Path]:
    """The local files that a task reads: data, template, graders and rewards."""
    for side in ("train", "validation", "test"):
        source = getattr(task.data, side)
        if isinstance(source, str) and is_hub_id(source):
            continue
        if isinstance(source, str) or is_files(source):
            try:
                yield from (file.path for file in find_files(source, side)[0])
            except DataError:  # gone
                continue
    if task.template.endswith((".jinja", ".j2")):
        yield Path(task.template)
    yield from (Path(name.rpartition(":")[0]) for name in _code(task) if ".py:" in name)


def _code(task: Task) -> list[str]:
    """The graders and rewards of a task that are code."""
    return [*_named_code(task.evaluate.grader), *_named_code(task.train.reward)]


def _named_code(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from [value] if _CODE.fullmatch(value) else []
    elif isinstance(value, list):
        for entry in value:
            yield from _named_code(entry)
    elif isinstance(value, Mapping):  # options, or names with weights
        for key, entry in value.items():
            yield from _named_code(entry if key in ("name", "grader", "graders") else key)
