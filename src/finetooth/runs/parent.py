"""A run that goes on from another (`--from RUN`, the key `start`): what the two share.

The base, the template and the shape of the adapter are the first run's; so is the side on which each of its
rows stands. Neither torch nor transformers is imported here, since `check` looks at such tasks too.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.config.task import Task
from finetooth.data.examples import from_json
from finetooth.data.split import ParentRun
from finetooth.errors import ConfigError
from finetooth.evaluation import ledger
from finetooth.rundir import read_json, read_jsonl, sha256_file
from finetooth.runs import workspace
from finetooth.types import Example


def inherit_settings(task: Task, console: Console) -> Task:
    """The task with the model, the template and the adapter of the run that it starts from.

    Does nothing without `start`. Raises ConfigError for a run that is not trained, or writes nothing, and for
    a key of the task that says otherwise than what that run trained.
    """
    if task.start is None:
        return task
    run = Path(task.start)
    first = workspace.load_config(run)
    trained = trained_weights(run)
    if first.train.method == "reward_model":
        raise ConfigError(f"start: {run} trained a reward model, which scores answers and writes none.")
    template = workspace.template(first, run)
    _require(task, "model", task.model in ("milktooth", first.model), task.model, first.model)
    given = task.train.model_fields_set
    for key in ("adapter", "rank"):
        here, there = getattr(task.train, key), getattr(first.train, key)
        said = key in given and not (key == "rank" and first.train.adapter == "none")
        hint = f" To train an adapter on its weights: --model {trained}" if trained.name == "model" else ""
        _require(task, f"train.{key}", not said or here == there, here, there, hint)
    if task.template not in ("auto", template):
        _warn(console, f"template is {task.template}; {run} was trained with {template}")
    if "instruction" in task.model_fields_set and task.instruction != first.instruction:
        _warn(console, f"the instruction is not the one that {run} was trained with")
    if task.model != first.model:
        console.print(f"model: {first.model}, as of {run}", soft_wrap=True)
    shape = {"adapter": first.train.adapter, "rank": first.train.rank}
    return task.model_copy(
        update={
            "model": first.model,
            "template": template if task.template == "auto" else task.template,
            "instruction": task.instruction if "instruction" in task.model_fields_set else first.instruction,
            "train": task.train.model_copy(update=shape),
        }
    )


def _require(task: Task, key: str, same: bool, here: Any, there: Any, hint: str = "") -> None:
    if not same:
        raise ConfigError(
            f"{key} is {here}, but training goes on with what {task.start} trained, where it is {there}. "
            f"Leave {key} out.{hint}"
        )


def _warn(console: Console, words: str) -> None:
    console.print(f"warning: {words}.", style="yellow", soft_wrap=True)


def trained_weights(run: Path) -> Path:
    """The adapter or model that a run has kept. ConfigError before it has."""
    trained = workspace.trained_path(run)
    if trained is None:
        raise ConfigError(f"start: {run} has no tuned model yet. First: finetooth train {run}")
    return trained


def parent_weights(task: Task) -> Path | None:
    """The weights of the run that a task starts from; None where it starts from a model."""
    return None if task.start is None else trained_weights(Path(task.start))


def parent_provenance(task: Task) -> dict[str, Any] | None:
    """The run that a task starts from, and the sha256 of its weights' files; None where that is a model."""
    if task.start is None:
        return None
    return {"run": task.start, "digest": digest(trained_weights(Path(task.start)))}


def digest(trained: Path) -> str:
    """Hex sha256 over the names and the bytes of the files that hold weights, and an adapter's settings."""
    files = [*trained.glob("*.safetensors"), *trained.glob("adapter_config.json")]
    lines = (f"{file.name} {sha256_file(file)}\n" for file in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def require_unchanged(task: Task, path: Path) -> None:
    """The run that `path` went on from still holds the weights it did. Raises ConfigError."""
    if task.start is None:
        return
    known = (read_json(path / "environment.json").get("start") or {}).get("digest")
    if known != digest(trained_weights(Path(task.start))):
        raise ConfigError(f"{path}: what {task.start} holds is not what this run went on from. Train anew.")


def parent_run(task: Task) -> ParentRun | None:
    """The rows of the run that a task starts from, and of those before it; None without one.

    The sealed rows are read by the ledger, so that they stay sealed here: it is no look at the test.
    """
    if task.start is None:
        return None
    run = Path(task.start)
    first = workspace.load_config(run)
    split = read_json(run / "data" / "split.json")
    sides = {side: _rows(run, side) for side in ("train", "validation")}
    sides["test"] = ledger.read_sealed(run) if split["sealed"] else []
    earlier = parent_run(first)
    before = {side: [*earlier.before[side], *earlier.sides[side]] for side in sides} if earlier else {}
    return ParentRun(
        task.start, split.get("sealed_format", split["format"]), tuple(split["labels"]), sides, before
    )


def _rows(run: Path, side: str) -> list[Example]:
    return [from_json(line) for line in read_jsonl(run / "data" / f"{side}.jsonl")]
