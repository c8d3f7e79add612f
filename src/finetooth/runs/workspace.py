"""The run directory: opening, continuing and discarding it, its configuration and environment."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from finetooth.config.evaluate_keys import PRICES
from finetooth.config.task import Task, build_task
from finetooth.config.values import is_files
from finetooth.errors import ConfigError, DataError
from finetooth.machine import processor
from finetooth.rundir import (
    OWN,
    has_manifest,
    is_ours,
    locked,
    read_json,
    read_jsonl,
    remove_leftovers,
    start_manifest,
    write_json,
    write_text,
)

CONFIG = "config.yaml"
ATOMIC_KEYS = ("columns", "grader", "reward")  # mappings that are compared as one value
LIMITS = {"grader_seconds", *PRICES}  # keys that decide no result, so that a run continues with another value
NULL_IS_AUTO = {"beta"}  # keys whose null is resolved to a value, like auto
FROM_PYTHON = "rows from Python"  # in config.yaml, in place of rows that are in no file
# Files of a run that stopped before its config.yaml was written, which a new start deletes if they are ours.
PARTIAL_RUN_FILES = (
    "data/train.jsonl",
    "data/validation.jsonl",
    "data/sealed.jsonl",
    "data/split.json",
    "ledger.jsonl",
    "ledger.sha256",
    "environment.json",
    "template.jinja",
)
REJECTED = "data/rejected.jsonl"
# Files of `check`, which are kept.
CHECK_FILES = ("data/check.json", "data/findings.jsonl", "data/report.html", "data/label_queue.jsonl")
FIXED = "data/fixed"
# What a run of a version without manifests has written.
OLDER_RUN: tuple[str, ...] = (
    *PARTIAL_RUN_FILES,
    REJECTED,
    *CHECK_FILES,
    FIXED,
    CONFIG,
    "report.html",
    "pairs.jsonl",
)
OLDER_RUN += ("train", "evaluate")
IGNORED = (OWN, ".DS_Store", ".gitignore", ".gitkeep")  # a directory with nothing else is empty
PACKAGES = ("finetooth", "torch", "transformers", "peft", "tokenizers", "numpy", "scikit-learn")


def run_path(task: Task, out: Path | None) -> Path:
    """Where this task runs: `out`, else runs/NAME."""
    return out if out is not None else Path("runs") / task.name


def run_directory(path: Path) -> Path:
    """The path, if it is a run directory; otherwise a ConfigError that says what it is instead."""
    if (path / CONFIG).is_file():
        return path
    if path.is_file() and path.suffix in (".yaml", ".yml", ".toml"):
        raise ConfigError(f"{path}: expected a run directory, found a task. First: finetooth run {path}")
    found = "no such directory" if not path.exists() else "no config.yaml in it"
    runs = ", ".join(known_runs()[:8])
    there = f" Runs here: {runs}." if runs else ""
    raise ConfigError(
        f"{path}: not a run directory ({found}).{there} To create it: finetooth run TASK --out {path}"
    )


def require_ours(path: Path) -> None:
    """Raise ConfigError unless `path` is missing, empty, or a directory that finetooth has made."""
    if path.is_symlink() and not path.exists():
        raise ConfigError(f"{path} is a link to a place that does not exist. Choose another --out.")
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path} is a file; a run needs a directory. Choose another --out.")
    if not path.is_dir() or has_manifest(path) or _is_older_run(path):
        return
    found = sorted(entry for entry in path.iterdir() if entry.name not in IGNORED)
    if found:
        inside = found[0]
        while inside.is_dir() and (entries := sorted(inside.iterdir())):
            inside = entries[0]  # the name of a file says more than that of a folder
        raise ConfigError(
            f"{path} is not empty and not a run: it has {inside.relative_to(path)}. Choose another --out."
        )


def _is_older_run(path: Path) -> bool:
    """Whether this is a run of a version that kept no manifest."""
    with suppress(DataError, OSError, TypeError, KeyError):
        return (path / CONFIG).is_file() and "finetooth" in read_json(path / "environment.json")["versions"]
    return False


@contextmanager
def occupied(path: Path) -> Iterator[None]:
    """Be the only process that writes into this run directory. Creates it, and removes it if it stays empty.

    Raises ConfigError for a directory that is not ours, cannot be written, or is in use.
    """
    require_ours(path)
    created = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"{path}: a part of this path is a file. Choose another --out.") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"{path}: this directory is not writable. Choose another --out.")
    with locked(path) as outermost:
        if not outermost:
            yield
            return
        if _is_empty(path):
            start_manifest(path)
        elif not has_manifest(path):
            require_ours(path)
            start_manifest(path, OLDER_RUN)
        remove_leftovers(path)
        try:
            yield
        finally:
            if _is_empty(path):
                shutil.rmtree(path / OWN)
                for folder in created:
                    with suppress(OSError):  # something else was made there
                        folder.rmdir()


def _is_empty(path: Path) -> bool:
    return all(entry.name in IGNORED for entry in path.iterdir())


def open_run(task: Task, path: Path) -> Task | None:
    """The resolved task of the existing run that this task continues; None for a new run.

    Raises ConfigError when the directory has a run with another configuration (naming the first differing
    key), or is not ours.
    """
    require_ours(path)
    if (path / CONFIG).is_file():
        stored = load_config(path)
        for key, wanted, found in _differences(_plain(task), _plain(stored)):
            raise ConfigError(
                f"{path} has a run with another configuration: {key} is {found!r} there and {wanted!r} "
                "here. To continue that run, give the same value; for a new one choose another --out."
            )
        evaluate = stored.evaluate.model_copy(update={key: getattr(task.evaluate, key) for key in LIMITS})
        return stored.model_copy(update={"evaluate": evaluate})
    discard(path)
    return None


def trained_path(path: Path) -> Path | None:
    """The directory of the run's tuned adapter or model; None until training has ended and was verified.

    Of a model that was trained elsewhere, its own place.
    """
    if (path / CONFIG).is_file() and (tuned := load_config(path).tuned) is not None:
        return Path(tuned)
    if not (path / "train" / "result.json").is_file():
        return None
    return next((p for p in (path / "train" / "adapter", path / "train" / "model") if p.is_dir()), None)


def is_adapter(trained: Path) -> bool:
    """Whether a directory is that of a PEFT adapter, not of a whole model."""
    return (trained / "adapter_config.json").is_file()


def not_trained(path: Path, key: str = "") -> ConfigError:
    """The error for a run without a tuned model; a training that was stopped is told with its last step.

    key: the task's key that names the run.
    """
    metrics = path / "train" / "metrics.jsonl"
    steps = [line["step"] for line in read_jsonl(metrics) if "loss" in line] if metrics.is_file() else []
    stopped = f": its training stopped after step {steps[-1]}" if steps else ""
    then = "To go on" if steps else "First"
    name = f"{key}: {path}" if key else str(path)
    return ConfigError(f"{name} has no tuned model yet{stopped}. {then}: finetooth train {path}")


def known_runs(start: str = "runs/") -> list[str]:
    """Run directories whose path begins with `start`."""
    folder, name = os.path.split(start)
    found = Path(folder).glob(f"*/{CONFIG}")
    return sorted(str(config.parent) for config in found if config.parent.name.startswith(name))


def discard(path: Path) -> None:
    """Delete what a run without config.yaml has written; the list of rejected rows stays."""
    for name in (name for name in PARTIAL_RUN_FILES if is_ours(path, name)):
        (path / name).unlink(missing_ok=True)
    rejected = path / REJECTED
    if is_ours(path, REJECTED) and rejected.is_file() and not rejected.stat().st_size:
        rejected.unlink()
    folder = path / "data"
    if has_manifest(path) and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def require_same_task(task: Task, file: Path, more: Mapping[str, Any]) -> None:
    """Keep the task's values and `more` in `file`, or raise ConfigError where it has others. `file`: JSON."""
    values = {**_plain(task), **more}
    if not file.is_file():
        write_json(file, values)
        return
    stored = read_json(file)
    differing = [*_differences(values, stored)]  # auto here is any value there, so the other way round too
    differing += [(key, wanted, found) for key, found, wanted in _differences(stored, values)]
    for key, wanted, found in differing:
        raise ConfigError(
            f"{file.parents[1]} was begun with another configuration: {key} is {found!r} there and "
            f"{wanted!r} here. To go on, give the same value; else choose another --out."
        )


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
    values = _plain(task)
    if task.tuned is not None:  # nothing was trained here
        values["train"] = {"method": task.train.method}
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
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
        "processor": processor() or platform.machine(),
        "cores": os.cpu_count(),
    }
    write_json(path / "environment.json", {"versions": versions, "machine": machine, **facts})
