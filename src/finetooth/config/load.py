"""Loading a task from a file, a mapping or a Task, with flags on top. Paths become absolute here."""

from __future__ import annotations

import json
import os
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from finetooth.config.method_keys import REWARD_MODEL
from finetooth.config.named_models import is_named
from finetooth.config.task import Task, build_task, suggest
from finetooth.config.values import expand_path, is_data_file, is_files, is_hub_id, safe_name
from finetooth.config.yaml_errors import in_words
from finetooth.errors import ConfigError

MOST_VALUES = 1_000_000  # of a task file
TASK_NAMES = ("task.yaml", "task.yml", "task.toml")
SOURCES = ("train", "validation", "test")  # keys of the data section that hold files or rows


def set_dotted(values: dict[str, Any], key: str, value: Any) -> None:
    """Set `values["train"]["epochs"]` for the key "train.epochs", creating sections as needed."""
    *sections, leaf = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{key}: {section} is not a section of the task.{suggest(key)}")
        values = inner
    values[leaf] = value


def task_file_in(folder: Path) -> Path | None:
    """The task file of a folder: task.yaml, .yml or .toml; None without one, and for a run directory."""
    # Path.is_dir raises for a name that is too long, and words of a command line come here.
    if not os.path.isdir(folder) or (folder / "config.yaml").is_file():  # noqa: PTH112
        return None
    return next((file for name in TASK_NAMES if (file := folder / name).is_file()), None)


def load_task(
    source: str | Path | Mapping[str, Any] | Task, overrides: Mapping[str, Any] | None = None
) -> Task:
    """Read a task from a .yaml, .yml or .toml file, a folder with a task.yaml, a mapping or a Task, and apply
    dotted overrides.

    Relative paths of data files, templates and local model directories start at the task file; those of
    overrides start at the working directory. Raises ConfigError when the file cannot be read or a key is
    unknown or wrong.
    """
    values: dict[str, Any]
    if isinstance(source, Task):  # the keys that were set; rows as they are, since not all have a plain form
        values = source.model_dump(exclude_unset=True, exclude={"data": set(SOURCES)})
        rows = {key: getattr(source.data, key) for key in SOURCES if key in source.data.model_fields_set}
        values["data"] = values.get("data", {}) | rows
        where, folder = "the task", Path()
    elif isinstance(source, Mapping):
        values = {key: dict(value) if isinstance(value, Mapping) else value for key, value in source.items()}
        where, folder = "the task", Path()
    else:
        path = task_file_in(Path(source)) or Path(source)
        values, where, folder = _read_file(path), str(path), path.parent
        values.setdefault("name", safe_name(path.resolve().parent.name if path.stem == "task" else path.stem))
    for key, value in (overrides or {}).items():
        set_dotted(values, key, value)
    return _resolve_paths(build_task(values, where), folder, set(overrides or {}))


def _read_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ConfigError(f"{path}: no such file. Expected a task file (.yaml or .toml).")
    if (path / "config.yaml").is_file():
        raise ConfigError(
            f"{path}: expected a task file, found a run directory. To resume its training: "
            f"finetooth train {path}. To see its result: finetooth report {path}"
        )
    if not path.is_file():
        raise ConfigError(
            f"{path}: a folder without a task.yaml. Expected a task file (.yaml or .toml), or its folder."
        )
    if is_data_file(path) and path.suffix != ".json":
        raise _data_file_error(path)
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else yaml.load(text, _UniqueKeys)
        require_small(values)
    except RecursionError:
        raise ConfigError(f"{path}: cannot be read as a task file: it is nested too deeply.") from None
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as a task file: {_plainly(error, text)}") from None
    if isinstance(values, dict):
        return values
    if is_data_file(path):
        raise _data_file_error(path)
    found = {type(None): "an empty file", list: "a list"}.get(type(values), "text")
    raise ConfigError(
        f"{path}: expected a task with at least the line `data: {{train: FILE}}`, found {found}."
    )


def require_small(value: Any) -> None:
    """Raise ValueError for values of a file that are endless when written out, and for NUL characters.

    An alias repeats a value without its text, so a few lines can stand for billions of values.
    """
    parts, count = [value], 0
    while parts:
        one = parts.pop()
        count += 1
        if isinstance(one, dict):
            parts += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set):
            parts += one
        elif isinstance(one, str) and "\0" in one:
            raise ValueError(f"{one[:40]!r} has a NUL character in it. Remove it.")
        elif isinstance(one, int) and abs(one) >= 10**400:
            raise ValueError("a number has more than 400 digits. Shorten it.")
        if count + len(parts) > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES:,} values, aliases written out.")


def _plainly(error: Exception, text: str) -> str:
    if isinstance(error, yaml.YAMLError):
        return in_words(error, text)
    said = str(error)
    return "a number has thousands of digits. Shorten it." if "integer string conversion" in said else said


def _data_file_error(path: Path) -> ConfigError:
    return ConfigError(
        f"{path}: expected a task file, found a data file. A task file is a .yaml file with the line\n"
        f"  data: {{train: {path}}}\nTo see what is in the data: finetooth check {path}"
    )


class _UniqueKeys(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys, of which YAML would silently keep the last, and merged lists
    of mappings, whose size can grow with every line tenfold.
    """

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge" and isinstance(value, yaml.SequenceNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "<< takes one mapping here, found a list", value.start_mark
                )
        super().flatten_mapping(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        counts = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        repeated = sorted(name for name, count in counts.items() if count > 1)
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {repeated[0]!r} is given twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def _resolve_paths(task: Task, folder: Path, from_flags: set[str]) -> Task:
    """Make relative paths absolute: those of the task file from `folder`, those of flags from the working
    directory.
    """

    def base(key: str) -> Path:
        return Path() if key in from_flags else folder

    def absolute(key: str, value: Any) -> Any:
        if not isinstance(value, str) or (key in ("model", "tuned") and is_named(value)):
            return value
        candidate = (base(key) / expand_path(value)).resolve()
        if key.startswith("data.") and is_hub_id(value, base(key)):
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
    if data.split_from is not None:
        kept = (base("data.split_from") / expand_path(data.split_from)).resolve()
        data = data.model_copy(update={"split_from": str(kept)})
    if data.add:
        sets = [str((base("data.add") / expand_path(file)).resolve()) for file in data.add]
        data = data.model_copy(update={"add": sets})
    changed: dict[str, Any] = {"data": data}
    model = absolute("model", task.model)
    if model != task.model:  # a copied key counts as set, and a default is not
        changed["model"] = model
    if task.tuned is not None:
        changed["tuned"] = absolute("tuned", task.tuned)
    if task.template.endswith((".jinja", ".j2")):
        changed["template"] = str((base("template") / task.template).resolve())
    if task.start is not None:
        changed["start"] = str((base("start") / Path(task.start).expanduser()).resolve())
    evaluate: dict[str, Any] = {}
    grader = _resolve_grader(task.evaluate.grader, base("evaluate.grader"))
    if grader != task.evaluate.grader:
        evaluate["grader"] = grader
    if task.evaluate.prompt is not None:
        evaluate["prompt"] = str((base("evaluate.prompt") / expand_path(task.evaluate.prompt)).resolve())
    if task.evaluate.general:
        files = [base("evaluate.general") / expand_path(file) for file in task.evaluate.general]
        evaluate["general"] = [str(file.resolve()) for file in files]
    if evaluate:
        changed["evaluate"] = task.evaluate.model_copy(update=evaluate)
    reward = _resolve_grader(task.train.reward, base("train.reward"))
    if reward != task.train.reward:
        changed["train"] = task.train.model_copy(update={"reward": reward})
    return task.model_copy(update=changed)


def _resolve_grader(grader: Any, folder: Path) -> Any:
    """Graders with their files resolved: `file.py:function` and the directory of a reward model become
    absolute, also where they are the key of a weight; the name of a JSON Schema is replaced by its content,
    so that a run keeps a copy.
    """
    if isinstance(grader, list):
        return [_resolve_grader(entry, folder) for entry in grader]
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
            key if key in ("name", "type") else _resolve_grader(key, folder): (
                _resolve_grader(value, folder) if key in ("name", "grader") else value
            )
            for key, value in grader.items()
        }
    path = (folder / Path(grader["schema"]).expanduser()).resolve()
    try:
        return {**grader, "schema": json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"evaluate.grader: {path} cannot be read as a JSON Schema: {error}") from None
