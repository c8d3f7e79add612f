"""`finetooth report RUN`: a run's result as a self-contained HTML page and as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from finetooth.evaluation import ledger
from finetooth.evaluation.summary import TUNED, percent, points
from finetooth.report import html
from finetooth.report.html import format_corpus_score
from finetooth.report.run_page import page_context, score_table
from finetooth.rundir import read_json, write_text
from finetooth.runs import next_steps

HEADINGS = {
    "prompt_tokens": "prompt tokens",
    "completion_tokens": "answer tokens",
    "truncated": "truncated",
    "errors": "grader errors",
}
COLOURS = {"better": "bold green", "not proven": "bold yellow", "worse": "bold red"}


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
            console.print(f"Not evaluated yet. Next: {next_steps.of_run(self.path.parent)}", markup=False)
        console.print(f"\nReport: {self.path}", highlight=False, markup=False, soft_wrap=True)


def run(run_path: Path) -> Report:
    """Write report.html from the run directory's present contents; sealed test rows are never read."""
    unknown = ledger.require_unchanged(run_path)
    page = run_path / "report.html"
    write_text(page, render(page_context(run_path)))
    summary = run_path / "evaluate" / "summary.json"
    note = ""
    if unknown:
        note = (
            f"note: the results on {' and '.join(unknown)} are of an older version, which kept no digests: "
            "whether they were edited is not known."
        )
    return Report(page, read_json(summary) if summary.is_file() else None, note)


def render(page: Mapping[str, Any]) -> str:
    """The page of a run as HTML; see html.render."""
    return html.render("report.html.jinja", page)


def terminal_table(summary: Mapping[str, Any]) -> Group:
    """The candidates with their intervals by every grader, and the verdict in words, for rich."""
    page = score_table(summary)
    split = "the sealed test" if summary["split"] == "test" else f"the {summary['split']} split"
    clusters = f" in {summary['groups']:,} clusters" if "groups" in summary else ""
    title = f"{summary['n']:,} rows of {split}{clusters}, graded by {summary['grader']}"
    columns = [name for name in ("truncated", "errors") if page[name]]
    tables = [_table(title, page, ["prompt_tokens", "completion_tokens", *columns])]
    for other in page["also"]:
        errors = any(row["errors"] for row in other["rows"])
        table = _table(f"\nalso graded by {other['grader']}", other, ["errors"] * errors)
        if difference := other["difference"]:
            bounds = f"{points(difference['low'])} – {points(difference['high'])}"
            table.add_row("paired difference", points(difference["difference"]), bounds, style="dim")
        tables.append(table)
    notes = [Text(f"{name}: {note}", "dim") for name, note in page["notes"]]
    verdict = (summary.get("comparison") or {}).get("verdict", "")
    text = summary.get("words", "")
    words = Text(text)
    words.stylize(COLOURS.get(verdict, "bold"), 0, text.find(":") + 1)
    return Group(tables[0], *notes, *tables[1:], Text(), words)


def _table(title: str, page: Mapping[str, Any], columns: Sequence[str]) -> Table:
    """The scores by one grader. columns: what else is shown of each candidate."""
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("candidate")
    corpus = [f"corpus {page['corpus']}"] if page["corpus"] else []
    for name in ["score", "95% CI", *corpus, *(HEADINGS[column] for column in columns)]:
        table.add_column(name, justify="right")
    for row in page["rows"]:
        cells = [row["name"], "–", "–"]
        if row["score"] is not None:
            cells[1:] = [percent(row["score"]), f"{percent(row['low'])} – {percent(row['high'])}"]
        cells += [format_corpus_score(row["corpus_score"])] if corpus else []
        for column in columns:
            value = row.get(column, 0)
            cells.append(f"{value:,.1f}" if column.endswith("_tokens") else str(value))
        table.add_row(*map(Text, cells), style="bold" if row["name"] == TUNED else None)
    return table
