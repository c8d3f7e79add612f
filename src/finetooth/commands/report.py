"""`finetooth report RUN`: a run's result as one self-contained page and as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from finetooth.evaluation.summary import CORPUS_METRICS, TUNED, percent, points
from finetooth.report import html
from finetooth.report.html import format_corpus_score
from finetooth.report.run_page import page_context
from finetooth.rundir import read_json, write_text
from finetooth.runs import next_steps

COLOURS = {"better": "bold green", "not proven": "bold yellow", "worse": "bold red"}
EXTRA = {"truncated": "cut off", "errors": "grader errors"}


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
            console.print(f"Not evaluated yet. Next: {next_steps.of_run(self.path.parent)}", markup=False)
        console.print(f"\nReport: {self.path}", highlight=False, markup=False, soft_wrap=True)


def run(run_path: Path) -> Report:
    """Write report.html from what the run directory holds so far; the sealed test's rows are never read."""
    page = run_path / "report.html"
    write_text(page, render(page_context(run_path)))
    summary = run_path / "evaluate" / "summary.json"
    return Report(page, read_json(summary) if summary.is_file() else None)


def render(page: Mapping[str, Any]) -> str:
    """The page of a run as HTML; see pages.render."""
    return html.render("report.html.jinja", page)


def terminal_table(summary: Mapping[str, Any]) -> Group:
    """The candidates with their intervals by every grader, and the verdict in words, for rich."""
    split = "the sealed test" if summary["split"] == "test" else f"the {summary['split']} split"
    groups = f" in {summary['groups']:,} groups" if "groups" in summary else ""
    entries = summary["candidates"]
    shown = _table(f"{summary['n']:,} rows of {split}{groups}, graded by {summary['grader']}")
    corpus = CORPUS_METRICS.get(summary["grader"], "") if any("corpus" in entry for entry in entries) else ""
    extra = [key for key in ("truncated", "errors") if any(entry.get(key) for entry in entries)]
    for name in ["score", "95% interval", *([f"{corpus} of all"] if corpus else [])]:
        shown.add_column(name, justify="right")
    for name in ["prompt tokens", "answer tokens", *(EXTRA[key] for key in extra)]:
        shown.add_column(name, justify="right")
    for entry in entries:
        cells = [entry["name"], *_score(entry)]
        cells += [format_corpus_score(entry.get("corpus", {}).get("value"))] if corpus else []
        cells += [f"{entry['prompt_tokens']:,.1f}", f"{entry['completion_tokens']:,.1f}"]
        cells += [str(entry.get(key, 0)) for key in extra]
        shown.add_row(*map(Text, cells), style="bold" if entry["name"] == TUNED else None)
    notes = [Text(f"{entry['name']}: {note}", "dim") for entry in entries for note in entry.get("notes", [])]
    verdict = (summary.get("comparison") or {}).get("verdict", "")
    words = summary.get("words", "")
    said = Text(words)
    said.stylize(COLOURS.get(verdict, "bold"), 0, words.find(":") + 1)
    return Group(shown, *notes, *_further(summary), Text(), said)


def _further(summary: Mapping[str, Any]) -> list[Table]:
    """A table for each further grader; the difference stands below its candidates."""
    entries = [entry for entry in summary["candidates"] if entry.get("also")]
    comparison = summary.get("comparison") or {}
    tables = []
    for grader in dict.fromkeys(name for entry in entries for name in entry["also"]):
        shown = _table(f"\nalso graded by {grader}")
        scored = [(entry["name"], entry["also"][grader]) for entry in entries if grader in entry["also"]]
        corpus = CORPUS_METRICS.get(grader, "") if any("corpus" in entry for _, entry in scored) else ""
        errors = any(entry["errors"] for _, entry in scored)
        extra = [f"{corpus} of all"] * bool(corpus) + [EXTRA["errors"]] * errors
        for name in ["score", "95% interval", *extra]:
            shown.add_column(name, justify="right")
        for name, entry in scored:
            cells = [name, *_score(entry)]
            cells += [format_corpus_score(entry.get("corpus", {}).get("value"))] if corpus else []
            cells += [str(entry["errors"])] if errors else []
            shown.add_row(*map(Text, cells), style="bold" if name == TUNED else None)
        if difference := comparison.get("also", {}).get(grader):
            bounds = f"{points(difference['low'])} – {points(difference['high'])}"
            shown.add_row("difference", points(difference["difference"]), bounds, style="dim")
        tables.append(shown)
    return tables


def _table(title: str) -> Table:
    shown = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    shown.add_column("candidate")
    return shown


def _score(entry: Mapping[str, Any]) -> tuple[str, str]:
    if entry["score"] is None:
        return "–", "–"
    return percent(entry["score"]), f"{percent(entry['low'])} – {percent(entry['high'])}"
