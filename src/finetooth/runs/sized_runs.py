"""Runs of a task with fewer of its training rows: which rows, their settings, and what each has measured.

The rows of every size are the first ones of an order that the seed draws, so that those of a smaller size are
among those of a larger one. All answer the same validation rows. None has sealed rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetooth.config.task import Task, build_task, fields
from finetooth.data.split import split_keys, uniform
from finetooth.errors import ConfigError, FinetoothError
from finetooth.quality.prepare import AssembledData, PreparedData
from finetooth.report.settings import read_config
from finetooth.rundir import has_manifest, is_ours, read_json
from finetooth.runs import workspace
from finetooth.types import Example

FOLDER = "curve"  # of the runs, one for each size and seed
ANSWERS, MEASURED = "answers.jsonl", "measured.json"  # in each of them; the second one is written last
FEWEST = 16  # training rows of the smallest default size
HALVINGS = 3


@dataclass(frozen=True, slots=True)
class Sized:
    """One training: so many rows, drawn and trained by this seed."""

    size: int
    seed: int

    @property
    def name(self) -> str:
        """Its folder in OUT/curve."""
        return f"{self.size}-{self.seed}"


def default_sizes(rows: int) -> list[int]:
    """All training rows and halvings of them down to 16, the smallest first."""
    halved = [rows // 2**times for times in range(HALVINGS + 1)]
    return sorted({size for size in halved if size >= FEWEST} | {rows})


def plan(sizes: Sequence[int], first_seed: int, seeds: int) -> list[Sized]:
    """The trainings in their order: all sizes of a seed, the smallest first, then the next seed."""
    return [Sized(size, first_seed + at) for at in range(seeds) for size in sizes]


def ordered_rows(rows: Sequence[Example], seed: int) -> list[Example]:
    """The rows in the order that a seed draws; those of one group or context are neighbours."""
    keyed = [(uniform(seed, key), row.id, row) for key, row in zip(split_keys(rows), rows, strict=True)]
    return [row for *_, row in sorted(keyed, key=lambda entry: entry[:2])]


def rows_of(prepared: PreparedData, one: Sized) -> AssembledData:
    """The data of one training: the first rows of its seed's order and all validation rows.

    All rows keep their own order, so that with the seed of a run they repeat its training.
    """
    everything = one.size == len(prepared.train)
    train = prepared.train if everything else ordered_rows(prepared.train, one.seed)[: one.size]
    sides = {"train": train, "validation": prepared.validation, "test": []}
    total = len(sides["train"]) + len(prepared.validation)
    return AssembledData(prepared.format, sides, [], total, [], [])


def task_of(task: Task, one: Sized, preflight: bool) -> Task:
    """The task with this size and seed. Of evaluation only what answers to validation rows depend on."""
    changes: dict[str, Any] = {"seed": one.seed, "seeds": 1, "track": []}
    if not preflight:
        changes["preflight"] = "off"
    asked: dict[str, Any] = {"shots": [], "prompt": None, "ladder": False, "free": False, "retention": False}
    asked |= {"general": [], "perturbations": False}
    return task.model_copy(
        update={
            "name": f"{task.name}-{one.name}",
            "data": task.data.model_copy(update={"test": 0.0}),
            "train": task.train.model_copy(update=changes),
            "evaluate": task.evaluate.model_copy(update=asked),
        }
    )


def task_of_run(run: Path) -> Task:
    """The task of a run, as its user wrote it: what was chosen automatically is `auto` again."""
    values, reasons = read_config(run / workspace.CONFIG)
    automatic = {key: field.default for key, field in fields() if field.default == "auto"}
    for key in reasons.keys() & {*automatic, "train.beta"} - {"template"}:
        section, _, leaf = key.rpartition(".")
        values[section][leaf] = automatic.get(key)
    task = build_task(values, str(run / workspace.CONFIG))
    template = workspace.template(task, run)
    return task.model_copy(update={"template": template})


def require_curve(task: Task) -> None:
    """Raise ConfigError for a task that has no curve: its model is not trained, or not graded by answers."""
    if task.tuned is not None:
        raise ConfigError(f"tuned: {task.tuned} is trained already, so there is no curve of its training.")
    if task.train.method != "sft":
        raise ConfigError(
            f"train.method {task.train.method}: a curve is of supervised fine-tuning, whose answers are "
            "graded. Set train.method: sft."
        )


def is_curve(path: Path) -> bool:
    """Whether the directory is that of a curve, finished or not: its runs are what it claims first of all."""
    with suppress(FinetoothError, OSError):
        return not (path / workspace.CONFIG).is_file() and has_manifest(path) and is_ours(path, FOLDER)
    return False


def measured(out: Path) -> Iterator[dict[str, Any]]:
    """What the finished trainings in OUT/curve have measured, by size and seed: their measured.json."""
    found = [read_json(file) for file in (out / FOLDER).glob(f"*/{MEASURED}")]
    yield from sorted(found, key=lambda entry: (entry["size"], entry["seed"]))
