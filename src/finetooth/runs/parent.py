"""The parent run: the run that another one continues (`--from RUN`, the key `start`), and what it inherits.

A run inherits its parent's base model, template, adapter type and rank, and the split of the parent's rows.
Imports neither torch nor transformers, since `check` accepts such tasks too.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.config.task import Task
from finetooth.data.examples import read_examples
from finetooth.data.split import ParentRun
from finetooth.errors import ConfigError
from finetooth.evaluation import ledger
from finetooth.rundir import read_json, sha256_file
from finetooth.runs import workspace


def inherit_settings(task: Task, console: Console) -> Task:
    """The task with the model, template, instruction and adapter shape of its parent run.

    Returns the task itself without `start`. Raises ConfigError for a parent that is not trained or is a
    reward model, and for a key of the task that contradicts the parent's.
    """
    if task.start is None:
        return task
    run = Path(task.start)
    parent = workspace.load_config(run)
    trained = trained_weights(run)
    if parent.tuned is not None:
        raise ConfigError(
            f"start: {run} has evaluated {parent.tuned}, which was trained elsewhere. To train that on: "
            "--model for a whole model; an adapter must be merged first."
        )
    if parent.train.method == "reward_model":
        raise ConfigError(f"start: {run} trained a reward model, which cannot generate text.")
    template = workspace.template(parent, run)
    conflicts: list[tuple[str, Any, Any, str]] = []  # key, value here, value there, hint
    if "model" in task.model_fields_set and task.model != parent.model:
        conflicts.append(("model", task.model, parent.model, ""))
    for key in ("adapter", "rank"):
        here, there = getattr(task.train, key), getattr(parent.train, key)
        given = key in task.train.model_fields_set and not (key == "rank" and parent.train.adapter == "none")
        if given and here != there:
            hint = (
                f" To train an adapter on its weights: --model {trained}"
                if not workspace.is_adapter(trained)
                else ""
            )
            conflicts.append((f"train.{key}", here, there, hint))
    for key, here, there, hint in conflicts:
        raise ConfigError(
            f"{key} is {here}, but {task.start} was trained with {there}. Leave {key} out.{hint}"
        )
    warnings = []
    if task.template not in ("auto", template):
        warnings.append(f"template is {task.template}; {run} was trained with {template}")
    if "instruction" in task.model_fields_set and task.instruction != parent.instruction:
        warnings.append(f"the instruction is not the one that {run} was trained with")
    for warning in warnings:
        console.print(f"warning: {warning}.", style="yellow", soft_wrap=True)
    if task.model != parent.model:
        console.print(f"model: {parent.model}, from {run}", soft_wrap=True)
    shape = {"adapter": parent.train.adapter, "rank": parent.train.rank}
    return task.model_copy(
        update={
            "model": parent.model,
            "template": template if task.template == "auto" else task.template,
            "instruction": task.instruction if "instruction" in task.model_fields_set else parent.instruction,
            "train": task.train.model_copy(update=shape),
        }
    )


def trained_weights(run: Path) -> Path:
    """The directory of a run's trained adapter or model. ConfigError before training has ended."""
    trained = workspace.trained_path(run)
    if trained is None:
        raise workspace.not_trained(run, "start")
    return trained


def parent_weights(task: Task) -> Path | None:
    """The parent run's weights; None where a task starts from a base model."""
    return None if task.start is None else trained_weights(Path(task.start))


def sealed_provenance(task: Task) -> dict[str, Any] | None:
    """For the ledger: the run whose sealed rows may be among this task's; None for a split of its own."""
    run = split_run(task)
    return parent_provenance(task) or (None if run is None else {"run": str(run)})


def parent_provenance(task: Task) -> dict[str, Any] | None:
    """{run, digest} of the parent run and its weights; None where a task starts from a base model."""
    if task.start is None:
        return None
    return {"run": task.start, "digest": digest(trained_weights(Path(task.start)))}


def digest(trained: Path) -> str:
    """Hex sha256 of the names and contents of the weight files, and of an adapter's configuration."""
    files = [*trained.glob("*.safetensors"), *trained.glob("adapter_config.json")]
    lines = (f"{file.name} {sha256_file(file)}\n" for file in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def require_unchanged(task: Task, path: Path) -> None:
    """Raise ConfigError unless the parent run still has the weights that the run in `path` continued."""
    if task.start is None:
        return
    known = (read_json(path / "environment.json").get("start") or {}).get("digest")
    if known != digest(trained_weights(Path(task.start))):
        raise ConfigError(
            f"{path}: the weights in {task.start} have changed since this run continued them. Restore them, "
            "or start a new run with another --out."
        )


def parent_run(task: Task) -> ParentRun | None:
    """The rows of the run whose split a task keeps, and of that run's own parents; None without one.

    That is its parent run, or the run of data.split_from. Its sealed rows are read through the ledger and
    stay sealed here, so this is no look at the test. Raises ConfigError for a run without a split.
    """
    run = split_run(task)
    if run is None:
        return None
    parent = workspace.load_config(run)
    if not (run / "data" / "split.json").is_file():
        raise ConfigError(f"{run} has no split yet. To make it: finetooth train {run}")
    split = read_json(run / "data" / "split.json")
    sides = {side: list(read_examples(run / "data" / f"{side}.jsonl")) for side in ("train", "validation")}
    sides["test"] = ledger.read_sealed(run) if split["sealed"] else []
    earlier = parent_run(parent)
    before = {side: earlier.rows(side) for side in sides} if earlier else {}
    return ParentRun(
        str(run),
        split.get("sealed_format", split["format"]),
        tuple(split["labels"]),
        sides,
        before,
        continued=task.start is not None,
    )


def split_run(task: Task) -> Path | None:
    """The run whose split a task keeps. Raises ConfigError where `start` and data.split_from differ."""
    if None not in (task.start, task.data.split_from) and task.start != task.data.split_from:
        raise ConfigError(
            f"data.split_from is {task.data.split_from}, and a run that continues {task.start} keeps that "
            "run's split. Leave data.split_from out."
        )
    name = task.start or task.data.split_from
    return None if name is None else Path(name)
