"""`finetooth report RUN`: a run's result as one self-contained page and as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from finetooth.evaluation.page import gather
from finetooth.evaluation.summary import TUNED, percent, points
from finetooth.rundir import read_json, write_text

COLOURS = {"better": "bold green", "not proven": "bold yellow", "worse": "bold red"}


@dataclass(frozen=True, slots=True)
class Report:
    """Where the page is, and the summary it shows; None before the run was evaluated."""

    path: Path
    summary: dict[str, Any] | None
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The page's path and the summary of the contract."""
        return {"report": str(self.path), **(self.summary or {})}

    def print(self, console: Console) -> None:
        """The table and the verdict, and where the page is."""
        if self.summary is not None:
            console.print(terminal_table(self.summary))
        else:
            console.print(f"Not evaluated yet. Next: finetooth evaluate {self.path.parent}", markup=False)
        console.print(f"\nReport: {self.path}", highlight=False, markup=False, soft_wrap=True)


def run(run_path: Path) -> Report:
    """Write report.html from what the run directory holds so far; the sealed test's rows are never read."""
    page = run_path / "report.html"
    write_text(page, render(gather(run_path)))
    summary = run_path / "evaluate" / "summary.json"
    return Report(page, read_json(summary) if summary.is_file() else None)


def render(page: Mapping[str, Any]) -> str:
    """The page as HTML. Every text in it is escaped; it needs no script and loads nothing."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=percent, points=points, p_value=p_value)
    source = files("finetooth.commands").joinpath("report.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(source).render(**page)


def p_value(p: float) -> str:
    """0.0123 as `p = 0.012`, very small ones as `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def terminal_table(summary: Mapping[str, Any]) -> Group:
    """The candidates with their intervals, and the verdict in words, for rich."""
    split = "sealed test" if summary["split"] == "test" else summary["split"]
    entries = summary["candidates"]
    table = Table(
        title=Text(
            f"{summary['n']:,} rows of the {split} split, graded by {summary['grader']}".replace(
                "sealed test split", "sealed test"
            )
        ),
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    table.add_column("candidate")
    table.add_column("score", justify="right")
    table.add_column("95% interval", justify="right")
    table.add_column("prompt tokens", justify="right")
    table.add_column("answer tokens", justify="right")
    extra = [key for key in ("truncated", "errors") if any(entry.get(key) for entry in entries)]
    for key in extra:
        table.add_column({"truncated": "cut off", "errors": "grader errors"}[key], justify="right")
    for entry in entries:
        interval = f"{percent(entry['low'])} – {percent(entry['high'])}"
        cells = [entry["name"], percent(entry["score"]), interval]
        cells += [f"{entry['prompt_tokens']:,.1f}", f"{entry['completion_tokens']:,.1f}"]
        cells += [str(entry.get(key, 0)) for key in extra]
        table.add_row(*map(Text, cells), style="bold" if entry["name"] == TUNED else None)
    notes = [Text(f"{entry['name']}: {note}", "dim") for entry in entries for note in entry.get("notes", [])]
    verdict = (summary.get("comparison") or {}).get("verdict", "")
    words = summary.get("words", "")
    said = Text(words)
    said.stylize(COLOURS.get(verdict, "bold"), 0, words.find(":") + 1)
    return Group(table, *notes, Text(), said)
