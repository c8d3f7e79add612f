"""Reading a task: from a file, a mapping or a Task, with flags on top. Paths become absolute here."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from finetooth.config.method_keys import REWARD_MODEL
from finetooth.config.task import EMBEDDED, Task, build_task, suggest
from finetooth.config.values import expand_path, is_data_file, is_files, is_hub_id
from finetooth.errors import ConfigError

SOURCES = ("train", "validation", "test")  # keys of data that are a file or rows


def set_dotted(values: dict[str, Any], key: str, value: Any) -> None:
    """Set `values["train"]["epochs"]` for the key "train.epochs", making sections on the way."""
    *sections, leaf = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{key}: {section} is not a section of the task.{suggest(key)}")
        values = inner
    values[leaf] = value


def load_task(
    source: str | Path | Mapping[str, Any] | Task, overrides: Mapping[str, Any] | None = None
) -> Task:
    """Read a task from a .yaml, .yml or .toml file, a mapping or a Task, with dotted overrides applied.

    Relative paths of data files, templates and local model directories mean: beside the task file. Raises
    ConfigError when the file cannot be read or a key is unknown or wrong.
    """
    if isinstance(source, Task):
        values: dict[str, Any] = _given(source)
        where, folder = "the task", Path()
    elif isinstance(source, Mapping):
        values = {key: dict(value) if isinstance(value, Mapping) else value for key, value in source.items()}
        where, folder = "the task", Path()
    else:
        path = Path(source)
        values, where, folder = _read_file(path), str(path), path.parent
        values.setdefault("name", path.resolve().parent.name if path.stem == "task" else path.stem)
    given = dict((overrides or {}).items())
    for key, value in given.items():
        set_dotted(values, key, value)
    task = build_task(values, where)
    return _anchor(task, folder, set(given))


def _given(task: Task) -> dict[str, Any]:
    """The keys that were set. Rows are handed on as they are: they may hold values without a plain form."""
    values = task.model_dump(exclude_unset=True, exclude={"data": set(SOURCES)})
    sources = {name: getattr(task.data, name) for name in SOURCES if name in task.data.model_fields_set}
    return values | {"data": values.get("data", {}) | sources}


def _read_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ConfigError(f"{path}: no such file. Expected a task file (.yaml or .toml).")
    if (path / "config.yaml").is_file():
        raise ConfigError(
            f"{path}: a run directory, where a task file is expected. To let its training go on: "
            f"finetooth train {path}. Its result: finetooth report {path}"
        )
    if not path.is_file():
        raise ConfigError(f"{path}: not a file. Expected a task file (.yaml or .toml).")
    if is_data_file(path) and path.suffix != ".json":
        raise _examples_given(path)
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else yaml.load(text, _UniqueKeys)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as a task file: {error}") from None
    if isinstance(values, dict):
        return values
    if is_data_file(path):
        raise _examples_given(path)
    found = {type(None): "nothing: the file is empty", list: "a list"}.get(type(values), "a text")
    raise ConfigError(
        f"{path}: expected a task, which has at least the line `data: {{train: FILE}}`, found {found}."
    )


def _examples_given(path: Path) -> ConfigError:
    return ConfigError(
        f"{path}: a file of examples, where a task file is expected: a .yaml file with the line\n"
        f"  data: {{train: {path}}}\nTo see what is in the examples: finetooth check {path}"
    )


class _UniqueKeys(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: the silent winner would be a coin toss for the reader."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {sorted(twice)[0]!r} is given twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def _anchor(task: Task, folder: Path, from_flags: set[str]) -> Task:
    """Make the task file's relative paths absolute. Flags keep meaning: relative to the working directory."""

    def absolute(key: str, value: Any) -> Any:
        if not isinstance(value, str) or (key == "model" and value in EMBEDDED):
            return value
        base = Path() if key in from_flags else folder
        candidate = (base / expand_path(value)).resolve()
        if key.startswith("data.") and is_hub_id(value, base):
            return value
        is_path = key.startswith("data.") or candidate.exists() or value.startswith((".", "/", "~"))
        return str(candidate) if is_path else value

    def source(key: str, value: Any) -> Any:
        if not is_files(value):
            return absolute(key, value)
        return [
            absolute(key, file) if isinstance(file, str) else {**file, "path": absolute(key, file["path"])}
            for file in value
        ]

    data = task.data.model_copy(
        update={name: source(f"data.{name}", getattr(task.data, name)) for name in SOURCES}
    )
    template = task.template
    if template.endswith((".jinja", ".j2")):
        template = str(((Path() if "template" in from_flags else folder) / template).resolve())
    grader_folder = Path() if "evaluate.grader" in from_flags else folder
    grader = _with_files(task.evaluate.grader, grader_folder)
    if grader != task.evaluate.grader:
        task = task.model_copy(update={"evaluate": task.evaluate.model_copy(update={"grader": grader})})
    reward = _with_files(task.train.reward, Path() if "train.reward" in from_flags else folder)
    if reward != task.train.reward:
        task = task.model_copy(update={"train": task.train.model_copy(update={"reward": reward})})
    start = task.start
    if start is not None:
        start = str(((Path() if "start" in from_flags else folder) / Path(start).expanduser()).resolve())
    model = absolute("model", task.model)
    return task.model_copy(update={"data": data, "model": model, "start": start, "template": template})


def _with_files(grader: Any, folder: Path) -> Any:
    """Graders with their files found: a schema's name becomes what the file holds, so that a run keeps a
    copy, and `file.py:function` gets the whole path, also where it is the key of a weight; so does the
    directory of a reward model.
    """
    if isinstance(grader, list):
        return [_with_files(entry, folder) for entry in grader]
    if isinstance(grader, str):
        file, _, function = grader.rpartition(":")
        return (
            f"{(folder / Path(file).expanduser()).resolve()}:{function}" if file.endswith(".py") else grader
        )
    if not isinstance(grader, dict):
        return grader
    if grader.get("name") == REWARD_MODEL and isinstance(grader.get("model"), str):
        return {**grader, "model": str((folder / expand_path(grader["model"])).resolve())}
    if not isinstance(grader.get("schema"), str):
        return {
            key if key in ("name", "type") else _with_files(key, folder): (
                _with_files(value, folder) if key in ("name", "grader") else value
            )
            for key, value in grader.items()
        }
    path = (folder / Path(grader["schema"]).expanduser()).resolve()
    try:
        return {**grader, "schema": json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"evaluate.grader: {path} cannot be read as a JSON Schema: {error}") from None
