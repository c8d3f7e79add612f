"""What a run was made of and where: the digests of the user's files, and whether its code may be imported."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from finetooth.config import cleaning
from finetooth.config.method_keys import REWARD_MODEL
from finetooth.config.task import EMBEDDED, Task
from finetooth.config.values import format_count, is_files, is_hub_id
from finetooth.data.examples import read_examples
from finetooth.data.read.sources import find_files
from finetooth.data.row_changes import compare_rows
from finetooth.errors import ConfigError, DataError, FinetoothError
from finetooth.evaluation import ledger
from finetooth.quality.prepare import read_rows
from finetooth.rundir import read_json, sha256_file, write_json
from finetooth.runs import next_steps, parent, workspace

MODEL_FILES = (".json", ".safetensors", ".bin", ".gguf", ".model", ".txt", ".jinja")
_CODE = re.compile(r"(.+):[A-Za-z_]\w*", re.DOTALL)  # file.py:function or package.module:function


@dataclass(frozen=True, slots=True)
class InputChange:
    """A file that is not what a run was made of. kind: data, template, prompt, grader, reward or model."""

    kind: str
    file: str
    new: bool = False


def provenance(task: Task, path: Path) -> dict[str, Any]:
    """For environment.json: digests of the task's files, and the run's own `place`.

    `inputs`: of each data, template and code file by its path. `model_files`: of each file of a local model
    directory. Each with its sha256 and what says whether it was touched since, so that it is read again only
    then: it may have gigabytes, or be the test.
    """
    files = {str(file): _digest(file) for _, file in _files(task) if file.is_file()}
    models = {str(file): _digest(file) for file in _model_files(task)}
    return {"inputs": files, "model_files": models, "place": _place(path)}


def changes(task: Task, path: Path) -> tuple[list[InputChange], list[str]]:
    """The files that differ from those that the run in `path` was made of, and those that are gone.

    ([], []) for a new run; of a run of an older version, what it recorded is compared.
    """
    record = path / "environment.json"
    if not ((path / workspace.CONFIG).is_file() and record.is_file()):
        return [], []
    environment = read_json(record)
    found: dict[str, InputChange] = {}
    gone: list[str] = []
    if (known := environment.get("inputs")) is not None:
        here = {str(file): kind for kind, file in _files(task) if file.is_file()}
        gone += [name for name in known if name not in here]
        for file, kind in here.items():
            if not _is_same(Path(file), known.get(file)):
                found[file] = InputChange(kind, file, new=file not in known)
    if (known := environment.get("model_files")) is not None:
        models = _model_files(task)
        gone += [name for name in known if Path(name) not in models]
        for model in models:
            if not _is_same(model, known.get(str(model))):
                found[str(model)] = InputChange("model", str(model), new=str(model) not in known)
    return [*found.values()], gone


def changed_since(path: Path) -> list[InputChange]:
    """The files that differ from those that the run in `path` was made of; [] where it has no record."""
    record = path / "environment.json"
    if not record.is_file() or "inputs" not in read_json(record):
        return []
    return changes(workspace.load_config(path), path)[0]


def require_unchanged(task: Task, path: Path, console: Console) -> None:
    """Raise ConfigError when a file that the run in `path` was made of has changed or is new.

    The message says what changed and what to type. A file that is gone is only reported, since a run has its
    own copy of the rows. Nothing is known of a new run.
    """
    changed, gone = changes(task, path)
    for file in gone:
        console.print(f"warning: {file} no longer exists; {path} was made of it.", style="yellow")
    if changed:
        raise changed_error(task, path, changed)
    if task.start is not None and (path / workspace.CONFIG).is_file():
        parent.require_unchanged(task, path)


def require_kinds_unchanged(task: Task, path: Path, *kinds: str) -> None:
    """Raise ConfigError when an input of these kinds has changed since the run in `path` was made.

    A run reads graders, rewards and models again when it goes on; its rows and its template it has itself.
    """
    changed = [one for one in changes(task, path)[0] if one.kind in kinds]
    if changed:
        raise changed_error(task, path, changed)


def record_graders(task: Task, path: Path) -> None:
    """Note in the run's environment.json that its results are by the graders as they are now."""
    record = path / "environment.json"
    environment = read_json(record)
    if (known := environment.get("inputs")) is None:
        return
    now = {str(file): _digest(file) for kind, file in _files(task) if kind == "grader" and file.is_file()}
    if any(not _is_same(Path(name), known.get(name)) for name in now):
        write_json(record, environment | {"inputs": known | now})


def changed_error(task: Task, path: Path, changed: Sequence[InputChange]) -> ConfigError:
    """The error for changed files: which, what changed in the rows, and the commands that go on."""
    first, more = changed[0], len(changed) - 1
    others = f" (and {format_count(more, 'other file')})" if more else ""
    what = "was not there when" if first.new else "has changed since"
    rows = _row_changes(task, path) if any(one.kind == "data" for one in changed) else ""
    only_data = all(one.kind == "data" for one in changed)
    steps = next_steps.beside(path, only_data, task.tuned)
    if task.data.add and only_data:
        steps = next_steps.iterate_again(task, path)
    if all(one.kind == "grader" for one in changed):
        steps.append((f"finetooth evaluate {quote(str(path))}", "grade again, with the grader as it is now"))
    lines = [
        f"{first.file}{others} {what} {path} was made. {rows}{' ' if rows else ''}"
        "For a run of what it holds now choose another --out:",
        *(f"  {command}    {purpose}" for command, purpose in steps),
        f"For the result as it was: finetooth report {quote(str(path))}",
    ]
    return ConfigError("\n".join(lines))


def _row_changes(task: Task, path: Path) -> str:
    """What changed in the rows, in a sentence; "" where they cannot be compared, because files are broken or
    the run keeps a part of them only.
    """
    if task.data.add or any(one.name == "balance" for one in cleaning.operations(task.data.clean)):
        return ""
    try:
        kept = [row for side in ("train", "validation") for row in read_examples(path / f"data/{side}.jsonl")]
        kept += ledger.read_sealed(path) if ledger.sealed_count(path) else []
        now = [row for result in read_rows(task).cleaned.values() for row in result.examples]
    except (FinetoothError, OSError):
        return ""
    return compare_rows(kept, now).words()


def require_trusted(
    path: Path, verb: str, trusted: bool = False, more: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Raise ConfigError for a run that names code to import, unless it is trusted or lies where it was made.

    A run that was sent, copied or moved lies elsewhere; built-in graders run none of its code. more: file of
    the run -> functions that it names, for a verb that calls them too.
    """
    code = {workspace.CONFIG: _code(workspace.load_config(path)), **(more or {})}
    named = [f"its {file} names code that would run: {names[0]}" for file, names in code.items() if names]
    if trusted or not named or is_in_its_place(path):
        return
    raise ConfigError(
        f"{path} was not made here (it was sent, copied or moved, or is of an older version), and "
        f"{', and '.join(named)}. Read it first; if you trust it: finetooth {verb} {path} --trust-code"
    )


def is_in_its_place(path: Path) -> bool:
    """Whether the run in `path` was made there."""
    file = path / "environment.json"
    return file.is_file() and read_json(file).get("place") == _place(path)


def moved(source: Path, path: Path) -> dict[str, Any]:
    """The environment of the run in `source` for one that finetooth makes of it in `path`.

    Its code is trusted there if it is trusted here.
    """
    environment: dict[str, Any] = read_json(source / "environment.json")
    return environment | ({"place": _place(path)} if is_in_its_place(source) else {})


def _place(path: Path) -> dict[str, Any]:
    """A run's place: the inode makes it no use to write another's path into a run that one sends."""
    return {"path": str(path.resolve()), "inode": path.stat().st_ino}


def _files(task: Task) -> Iterator[tuple[str, Path]]:
    """The local files that a task reads, each with its kind: data, template, prompt, grader or reward."""
    for side in ("train", "validation", "test", "add"):
        source = getattr(task.data, side)
        if isinstance(source, str) and is_hub_id(source):
            continue
        if isinstance(source, str) or is_files(source):
            try:
                yield from (("data", file.path) for file in find_files(source, side)[0])
            except DataError:  # gone
                continue
    if task.template.endswith((".jinja", ".j2")):
        yield "template", Path(task.template)
    if task.evaluate.prompt is not None:
        yield "prompt", Path(task.evaluate.prompt)
    for kind, value in (("grader", task.evaluate.grader), ("reward", task.train.reward)):
        yield from ((kind, file) for file in map(_code_file, _named_code(value)) if file is not None)


def _model_files(task: Task) -> list[Path]:
    """The files of the task's local models, a reward model too: those of a directory, or one .gguf file."""
    rewards = task.train.reward if isinstance(task.train.reward, list) else [task.train.reward]
    nested = [one.get("grader", one) for one in rewards if isinstance(one, Mapping)]
    names = [
        one.get("model") for one in nested if isinstance(one, Mapping) and one.get("name") == REWARD_MODEL
    ]
    names += [name for name in (task.model, task.tuned) if name not in (*EMBEDDED, None)]
    paths = [Path(name) for name in names if isinstance(name, str)]
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return [file for file in files if file.suffix in MODEL_FILES and file.is_file()]


def _digest(file: Path) -> dict[str, Any]:
    return {"sha256": sha256_file(file), **_stamp(file)}


def _is_same(file: Path, before: Any) -> bool:
    """Whether a file is what was recorded of it: a digest with a stamp, or in older runs a digest alone."""
    if isinstance(before, dict) and _stamp(file).items() <= before.items():
        return True
    known = before.get("sha256") if isinstance(before, dict) else before
    return known is not None and sha256_file(file) == known


def _stamp(file: Path) -> dict[str, int]:
    """What any change of a file's content changes too; a copy of the file has another one."""
    status = file.stat()
    return {"size": status.st_size, "inode": status.st_ino, "changed_ns": status.st_ctime_ns}


def _code_file(name: str) -> Path | None:
    """The file of file.py:function or package.module:function, found without importing anything."""
    source = name.rpartition(":")[0]
    if source.endswith(".py"):
        return Path(source)
    parts = source.split(".")
    places = (Path(folder or ".").joinpath(*parts) for folder in ("", *sys.path))
    files = (file for place in places for file in (place.with_suffix(".py"), place / "__init__.py"))
    return next((file.resolve() for file in files if file.is_file()), None)


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
