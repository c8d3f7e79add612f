"""The run directory: opening, continuing and discarding it, its configuration and environment."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from finetooth.config.task import Task, build_task
from finetooth.config.values import is_files
from finetooth.errors import ConfigError
from finetooth.rundir import write_json, write_text

CONFIG = "config.yaml"
ATOMIC_KEYS = ("columns", "grader", "reward")  # mappings that are compared as one value
LIMITS = {"grader_seconds"}  # keys that decide no result, so that a run continues with another value
NULL_IS_AUTO = {"beta"}  # keys whose null is resolved to a value, like auto
FROM_PYTHON = "rows from Python"  # in config.yaml, in place of rows that are in no file
# Files of a run that stopped before its config.yaml was written. Nothing else is ever deleted.
PARTIAL_RUN_FILES = (
    "data/train.jsonl",
    "data/validation.jsonl",
    "data/sealed.jsonl",
    "data/split.json",
    "ledger.jsonl",
    "environment.json",
    "template.jinja",
)
REJECTED = "data/rejected.jsonl"
# Files of `check`, which are kept.
CHECK_FILES = ("data/check.json", "data/findings.jsonl", "data/report.html", "data/label_queue.jsonl")
FIXED = "data/fixed"
PACKAGES = ("finetooth", "torch", "transformers", "peft", "tokenizers", "numpy", "scikit-learn")


def run_path(task: Task, out: Path | None) -> Path:
    """Where this task runs: `out`, else runs/NAME."""
    return out if out is not None else Path("runs") / task.name


def open_run(task: Task, path: Path) -> Task | None:
    """The resolved task of the existing run that this task continues; None for a new run.

    Raises ConfigError when the directory has a run with another configuration (naming the first differing
    key), has other files, or is not writable.
    """
    if (path / CONFIG).is_file():
        stored = load_config(path)
        for key, wanted, found in _differences(_plain(task), _plain(stored)):
            raise ConfigError(
                f"{path} has a run with another configuration: {key} is {found!r} there and {wanted!r} "
                "here. Choose another --out, or delete the directory."
            )
        evaluate = stored.evaluate.model_copy(update={"grader_seconds": task.evaluate.grader_seconds})
        return stored.model_copy(update={"evaluate": evaluate})
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path} is a file; a run needs a directory. Choose another --out.")
    if path.exists():
        files = [item for item in path.rglob("*") if not item.is_dir() and not item.name.startswith(".")]
        names = sorted(item.relative_to(path).as_posix() for item in files)
        known = (*PARTIAL_RUN_FILES, REJECTED, *CHECK_FILES)
        foreign = [name for name in names if name not in known and not name.startswith(f"{FIXED}/")]
        if foreign:
            raise ConfigError(
                f"{path} is not empty and not a run: it has {foreign[0]}. Choose another --out."
            )
    discard(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ConfigError(f"{path}: a part of this path is a file. Choose another --out.") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"{path}: this directory is not writable. Choose another --out.")
    return None


def trained_path(path: Path) -> Path | None:
    """The directory of the run's tuned adapter or model; None until training has ended and was verified."""
    if not (path / "train" / "result.json").is_file():
        return None
    return next((p for p in (path / "train" / "adapter", path / "train" / "model") if p.is_dir()), None)


def known_runs(start: str = "runs/") -> list[str]:
    """Run directories whose path begins with `start`."""
    folder, name = os.path.split(start)
    found = Path(folder).glob(f"*/{CONFIG}")
    return sorted(str(config.parent) for config in found if config.parent.name.startswith(name))


def discard(path: Path) -> None:
    """Delete the files of a run without config.yaml; the list of rejected rows stays."""
    for name in PARTIAL_RUN_FILES:
        (path / name).unlink(missing_ok=True)
    rejected = path / REJECTED
    if rejected.is_file() and not rejected.stat().st_size:
        rejected.unlink()
    for folder in (path / "data", path):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _plain(task: Task) -> dict[str, Any]:
    """The task as plain values; rows passed from Python are replaced by their number and digest."""
    values = task.model_dump(mode="json", exclude={"data": {"train", "validation", "test"}})
    for key in ("train", "validation", "test"):
        rows = getattr(task.data, key)
        values["data"][key] = rows
        if isinstance(rows, list) and not is_files(rows):
            content = json.dumps(rows, sort_keys=True, ensure_ascii=False, default=str).encode(
                "utf-8", "surrogatepass"
            )
            digest = hashlib.sha256(content).hexdigest()[:16]
            values["data"][key] = f"{len(rows)} {FROM_PYTHON} (sha256 {digest})"
    return values


def _differences(
    wanted: Mapping[str, Any], found: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """(key, wanted, found) of keys whose stored value differs. auto matches any stored value."""
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(found.get(key), dict) and key not in ATOMIC_KEYS:
            yield from _differences(value, found[key], f"{prefix}{key}.")
        elif (
            key not in LIMITS
            and value != "auto"
            and value != found.get(key)
            and (value is not None or key not in NULL_IS_AUTO)
        ):
            yield f"{prefix}{key}", value, found.get(key)


def save_config(path: Path, task: Task, reasons: Mapping[str, str]) -> None:
    """Write config.yaml: all resolved values, then as comments the reasons of the automatic ones."""
    text = yaml.safe_dump(_plain(task), sort_keys=False, allow_unicode=True, width=100)
    if reasons:
        text += "\n# Chosen automatically:\n"
        text += "".join(f"#   {key}: {reason}\n" for key, reason in reasons.items())
    write_text(path / CONFIG, text)


def template(task: Task, path: Path) -> str:
    """The run's template: its own copy of a .jinja file, else the name in the task."""
    copy = path / "template.jinja"
    return str(copy) if copy.is_file() else task.template


def load_config(path: Path) -> Task:
    """The resolved task of a run. ConfigError where the directory is not a run."""
    if not (path / CONFIG).is_file():
        raise ConfigError(f"{path} is not a run directory: it has no {CONFIG}.")
    try:
        values = yaml.safe_load((path / CONFIG).read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path / CONFIG} cannot be read: {error}") from None
    return build_task(values if isinstance(values, dict) else {}, str(path / CONFIG))


def save_environment(path: Path, facts: Mapping[str, Any]) -> None:
    """Write environment.json: versions, machine, and facts about model and data."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    machine = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
    }
    write_json(path / "environment.json", {"versions": versions, "machine": machine, **facts})
