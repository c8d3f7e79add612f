"""`finetooth report RUN`: a run's result as a self-contained HTML page and as a table in the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.errors import ConfigError
from finetooth.evaluation import ledger
from finetooth.report import html
from finetooth.report.run_page import page_context
from finetooth.report.terminal import terminal_table
from finetooth.rundir import read_json, write_text
from finetooth.runs import inputs, next_steps


@dataclass(frozen=True, slots=True)
class Report:
    """The path of the page, and the summary it shows; None before the run was evaluated.

    note: what a reader should know before the result.
    """

    path: Path
    summary: dict[str, Any] | None
    note: str = ""
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The page's path and the summary of the contract."""
        return {"report": str(self.path), **(self.summary or {})}

    def print(self, console: Console) -> None:
        """The score table and the verdict, and the path of the page."""
        if self.note:
            console.print(self.note, style="dim", highlight=False, markup=False, soft_wrap=True)
        if self.summary is not None:
            console.print(terminal_table(self.summary))
        else:
            told = f"Not evaluated yet. Next: {next_steps.of_run(self.path.parent)}"
            console.print(told, highlight=False, markup=False, soft_wrap=True)
        console.print(f"\nReport: {self.path}", highlight=False, markup=False, soft_wrap=True)


def of_evaluation(run_path: Path, name: str) -> Report:
    """The result of an evaluation beside the run's own, evaluate/NAME. ConfigError where there is none."""
    summary = run_path / "evaluate" / name / "summary.json"
    if not summary.is_file():
        found = sorted(file.parent.name for file in run_path.glob("evaluate/*/summary.json"))
        raise ConfigError(f"{run_path} has no evaluation {name!r}. It has: {', '.join(found) or 'none'}.")
    ledger.require_unchanged(run_path, name)
    return Report(summary, read_json(summary))


def run(run_path: Path) -> Report:
    """Write report.html from the run directory's present contents; sealed test rows are never read."""
    unknown = ledger.require_unchanged(run_path)
    page = run_path / "report.html"
    changed = inputs.changed_since(run_path)
    notes = [f"{one.file} has changed since this run: the result is of what it was then." for one in changed]
    write_text(page, html.render("report.html.jinja", page_context(run_path, notes)))
    summary = run_path / "evaluate" / "summary.json"
    if unknown:
        notes.append(
            f"the results on {' and '.join(unknown)} are of an older version, which kept no digests: whether "
            "they were edited is not known."
        )
    shown = "\n".join(f"note: {note}" for note in notes)
    return Report(page, read_json(summary) if summary.is_file() else None, shown)
