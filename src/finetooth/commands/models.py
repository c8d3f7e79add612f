"""`finetooth models`: the named models, whether each is here and fits here.

`models get NAME` fetches one, `models DATA` ranks those that are here on a sample of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from finetooth import machine
from finetooth.config.named_models import NamedModel, named_models, nearest_names
from finetooth.config.task import Task
from finetooth.data import fetch, gguf_cache
from finetooth.errors import ConfigError
from finetooth.runs import workspace
from finetooth.training.model_memory import METHODS, fits, needed_bytes

if TYPE_CHECKING:
    from finetooth.report.base_ranking import BaseRanking

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class ModelsReport:
    """here: name -> the directory of each model on this machine. memory: bytes of this machine.

    fetched: the model that was asked for.
    """

    here: dict[str, Path]
    memory: int
    fetched: NamedModel | None = None
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        chosen = [self.fetched] if self.fetched else named_models().values()
        return {"memory": self.memory, "models": [self._entry(model) for model in chosen]}

    def _entry(self, model: NamedModel) -> dict[str, Any]:
        values = model._asdict() | {"parameters": round(model.parameters * 1e6)}
        values["shape"] = model.shape._asdict()
        values["pypi"] = None if model.pypi is None else list(model.pypi.packages)
        path = self.here.get(model.name)
        return values | {"path": None if path is None else str(path), "fits": self._fits(model)}

    def _fits(self, model: NamedModel) -> dict[str, bool]:
        return {
            method: fits(needed_bytes(model.shape, model.parameters * 1e6, method, self.memory), self.memory)
            for method in METHODS
        }

    def print(self, console: Console) -> None:
        """The table, or what was fetched."""
        if self.fetched is not None:
            model = self.fetched
            for line in (
                f"{model.name}: {self.here[model.name]}",
                f"licence: {model.licence}: {model.duties}",
            ):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for heading in ("model", "size", "context", "", "here", *METHODS, "licence"):
            right = heading in ("size", "context")
            table.add_column(heading, justify="right" if right else "left", no_wrap=True)
        for model in named_models().values():
            size = f"{model.parameters / 1000:.1f} B" if model.parameters >= 1000 else f"{model.parameters} M"
            fits = ["yes" if fit else "–" for fit in self._fits(model).values()]
            here = "yes" if model.name in self.here else "–"
            row = (model.name, size, f"{model.context:,}", model.kind, here, *fits, model.licence)
            table.add_row(*row, style="bold" if model.name in self.here else None)
        console.print(table)
        text = (
            f"lora, full, 4-bit: whether training fits into the {self.memory / GIB:,.0f} GiB of memory here, "
            "as a run estimates it for the CPU; finetooth itself does not train in 4 bits. Languages, duties "
            "of the licences and uses: --json, and docs/models.md."
        )
        console.print(f"\n{text}", markup=False, highlight=False)


def list_models() -> ModelsReport:
    """All named models; nothing is fetched."""
    found = {name: fetch.local(model) for name, model in named_models().items()}
    return ModelsReport({name: path for name, path in found.items() if path}, machine.memory())


def get(name: str, from_hub: bool, console: Console) -> ModelsReport:
    """Fetch a named model into the cache. Raises ConfigError for an unknown name, ModelError."""
    model = named_models().get(name)
    if model is None:
        raise ConfigError(
            f"{name}: no model of this name.{nearest_names(name)} For the list: finetooth models"
        )
    if from_hub and not model.hub:
        raise ConfigError(f"{name}: not on the hub; it is part of finetooth.")

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    path = fetch.fetch(model, say, bars=console.is_terminal and not console.quiet, from_hub=from_hub)
    if file := gguf_cache.find_in(path):
        path = file
    return ModelsReport({name: path}, machine.memory(), model)


def rank(task: Task, named: Sequence[str], rows: int, out: Path | None, console: Console) -> BaseRanking:
    """Rank the models that are here, and `named`, on at most so many rows of the task's data.

    Written to models/ in `out` (default runs/NAME). Raises as runs.base_ranking.rank, and ConfigError for an
    `out` that is not finetooth's.
    """
    from finetooth.report.console import answer_bars
    from finetooth.runs import base_ranking  # here, as the list needs no torch

    folder = workspace.run_path(task, out)
    workspace.require_ours(folder)
    with answer_bars(console, "models") as progress:
        ranking = base_ranking.rank(task, named, rows, folder, console, progress)
    return base_ranking.write(ranking, folder)
