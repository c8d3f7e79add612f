"""The scores of an evaluation as tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from finetooth.evaluation.proof import shown_look
from finetooth.evaluation.verdict_words import percent, points
from finetooth.report.confidence_part import calibration_words, decision_words
from finetooth.report.html import format_corpus_score
from finetooth.report.run_page import score_table

HEADINGS = {
    "lenient": "form forgiven",
    "prompt_tokens": "prompt tokens",
    "completion_tokens": "answer tokens",
    "truncated": "truncated",
    "errors": "grader errors",
}
COLOURS = {"better": "bold green", "not proven": "bold yellow", "worse": "bold red"}


def terminal_table(summary: Mapping[str, Any]) -> Group:
    """The candidates with their intervals by every grader, and the verdict in words, for rich."""
    page = score_table(summary)
    names = {"test": "the sealed test", "validation": "the validation split"}
    split = names.get(summary["split"], summary["split"])
    look = f" ({shown})" if (shown := shown_look(summary)) else ""
    clusters = f" in {summary['groups']:,} clusters" if "groups" in summary else ""
    title = f"{summary['n']:,} rows of {split}{look}{clusters}, graded by {summary['grader']}"
    columns = [name for name in ("truncated", "errors") if page[name]]
    columns = [*(["lenient"] if page["lenient"] else []), "prompt_tokens", "completion_tokens", *columns]
    tables = [_table(title, page, columns)]
    for other in page["also"]:
        errors = any(row["errors"] for row in other["rows"])
        table = _table(f"\nalso graded by {other['grader']}", other, ["errors"] * errors)
        if difference := other["difference"]:
            bounds = f"{points(difference['low'])} – {points(difference['high'])}"
            table.add_row("paired difference", points(difference["difference"]), bounds, style="dim")
        tables.append(table)
    measured = summary.get("calibration")
    sure = [Text(f"confidence: {calibration_words(measured)}", "dim")] if measured else []
    if measured and measured.get("decision"):
        sure.append(Text(decision_words(measured["decision"]), "dim"))
    result = summary.get("comparison")
    if result and (again := summary.get("asked_again")):
        sure.append(
            Text(
                f"against {result['baseline']}: higher on {result['gained']:,} rows, lower on "
                f"{result['lost']:,}; asked again, {again['changed']} of {again['rows']} answers changed",
                "dim",
            )
        )
    notes = [Text(f"{name}: {note}", "dim") for name, note in page["notes"]]
    verdict = (summary.get("comparison") or {}).get("verdict", "")
    text = summary.get("words", "")
    words = Text(text)
    words.stylize(COLOURS.get(verdict, "bold"), 0, text.find(":") + 1)
    return Group(tables[0], *notes, *tables[1:], *sure, Text(), words)


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
            if column == "lenient":
                value = percent(value["score"]) if value else "–"
            cells.append(f"{value:,.1f}" if column.endswith("_tokens") else str(value))
        table.add_row(*map(Text, cells), style="bold" if row["kind"] == "tuned" else None)
    return table
