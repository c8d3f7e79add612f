"""`finetooth examples [NAME]`: list the complete tasks that come with finetooth, or copy one.

An example is a folder with a task file, its data and a README, whose first line is the title.
"""

from __future__ import annotations

import os
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
    """titles: example name -> title. copied: the directory of the copy, or None."""

    titles: dict[str, str]
    copied: Path | None = None
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        copied = None if self.copied is None else str(self.copied)
        return {"examples": self.titles, "copied": copied}

    def print(self, console: Console) -> None:
        """The list, or the files of the copy."""
        if self.copied is not None:
            names = ", ".join(sorted(path.name for path in self.copied.iterdir()))
            console.print(f"{self.copied}: {names}", markup=False, highlight=False, soft_wrap=True)
            return
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        for name, title in self.titles.items():
            table.add_row(name, title)
        console.print(table)


def folder() -> Path:
    """The directory of the installed examples."""
    return Path(str(files("finetooth"))) / "examples"


def titles() -> dict[str, str]:
    """Example name -> the first line of its README."""
    result = {}
    for task in sorted(folder().glob("*/task.yaml")):
        with (task.parent / "README.md").open(encoding="utf-8") as file:
            result[task.parent.name] = file.readline().strip("# \n")
    return result


def run(name: str | None, out: Path | None) -> ExamplesReport:
    """List the examples, or copy the named one to `out` (default: a folder of its name here).

    Raises ConfigError for an unknown name, and where the target exists.
    """
    known = titles()
    if name is None:
        return ExamplesReport(known)
    if name not in known:
        raise ConfigError(f"{name}: no such example. There are {', '.join(known)}.")
    target = out or Path(name)
    if os.path.lexists(target):
        raise ConfigError(f"{target} exists already. Choose another place with --out DIR.")
    shutil.copytree(folder() / name, target, ignore=IGNORED)
    return ExamplesReport(known, target)
