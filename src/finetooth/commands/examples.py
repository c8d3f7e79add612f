"""`finetooth examples [NAME]`: the complete tasks that come with finetooth, listed or copied.

An example is a folder with a task file, its data and a README; its first line is the title.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from finetooth.errors import ConfigError

IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc")


@dataclass(frozen=True, slots=True)
class ExamplesReport:
    """titles: of every example, by its name. copied: where one was copied to, or None."""

    titles: dict[str, str]
    copied: Path | None = None
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        copied = None if self.copied is None else str(self.copied)
        return {"examples": self.titles, "copied": copied}

    def print(self, console: Console) -> None:
        """The list, or what was copied."""
        if self.copied is not None:
            held = ", ".join(sorted(path.name for path in self.copied.iterdir()))
            console.print(f"{self.copied}: {held}", markup=False, highlight=False, soft_wrap=True)
            return
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        for name, title in self.titles.items():
            table.add_row(name, title)
        console.print(table)


def folder() -> Path:
    """Where the examples lie in this installation."""
    return Path(str(files("finetooth"))) / "examples"


def titles() -> dict[str, str]:
    """The first line of every example's README, by the example's name."""
    found = {}
    for task in sorted(folder().glob("*/task.yaml")):
        with (task.parent / "README.md").open(encoding="utf-8") as file:
            found[task.parent.name] = file.readline().strip("# \n")
    return found


def run(name: str | None, out: Path | None) -> ExamplesReport:
    """List the examples, or copy the one of that name to `out` (by default a folder of its name here).

    Raises ConfigError for a name that is not there, and where something stands in the way.
    """
    known = titles()
    if name is None:
        return ExamplesReport(known)
    if name not in known:
        raise ConfigError(f"{name}: no such example. There are {', '.join(known)}.")
    goal = out or Path(name)
    if goal.exists():
        raise ConfigError(f"{goal}: there is something already. --out DIR copies to another place.")
    shutil.copytree(folder() / name, goal, ignore=IGNORED)
    return ExamplesReport(known, goal)
