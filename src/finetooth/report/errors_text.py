"""The analysis of errors in the terminal: one screen; the page has the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from finetooth.analysis.annotations import Annotations, judged_tags
from finetooth.evaluation.verdict_words import percent
from finetooth.privacy.masking import redact
from finetooth.report.errors_page import asked_again, graded_by, headline, largest_issue
from finetooth.report.html import p_value
from finetooth.report.terminal import COLOURS

SHOWN = {"tags": 8, "issues": 6, "slices": 3, "clusters": 4, "confusions": 4}
LONGEST = 60  # characters of a cell
STATES = {"fixed": COLOURS["better"], "regressed": COLOURS["worse"], "new": COLOURS["worse"]}
STATES["flickering"] = COLOURS["not proven"]


def print_errors(
    analysis: Mapping[str, Any], console: Console, annotations: Annotations | None = None
) -> None:
    """Print headline, tags with their precision, issues, weak slices, clusters and confusions.

    analysis: as in errors.json. annotations: of the same run; the tags' precision follows from them.
    """
    tags = [
        {**tag, "title": redact(tag["title"])} for tag in judged_tags(analysis, annotations or Annotations())
    ]
    console.print(Text(f"{headline(analysis)} ({graded_by(analysis)})", "bold"))
    if largest := largest_issue(tags, analysis):
        console.print(Text(largest))
    if flips := analysis["flips"]:
        words = ", ".join(f"{count:,} {kind}" for kind, count in flips.items())
        console.print(f"Against {analysis['against']}: {words}.")
    if again := asked_again(analysis):
        console.print(again, style="dim")
    for table in (
        _tags(tags),
        _issues(analysis, {tag["tag"]: tag["title"] for tag in tags}),
        _slices(analysis),
        _clusters(analysis),
        _confusions(analysis),
    ):
        if table is not None:
            console.print(table)
    if training := len(analysis["training"]):
        some = "1 training row" if training == 1 else f"{training:,} training rows"
        console.print(f"{some} may teach the wrong thing: see the page.", style="dim")


def _tags(tags: Sequence[Mapping[str, Any]]) -> Table | None:
    rows: list[list[str | Text]] = []
    for tag in tags:
        if not tag["rows"]:
            continue
        judged, others = tag["confirmed"] + tag["rejected"], tag["others"]
        known = "not known" if others else "not reviewed"
        if judged:
            low, high = (f"{100 * bound:.0f}" for bound in (tag["low"], tag["high"]))
            known = f"{100 * tag['precision']:.0f}% ({low}–{high}%), {tag['confirmed']} of {judged}"
        known += f", {others:,} outside the sample" if others else ""
        style, wolf = ("", "") if tag["headline"] else ("dim", "cries wolf")
        cells = (tag["title"], f"{tag['wrong']:,}", f"{tag['rows']:,}", known, wolf)
        rows.append([Text(cell, style) for cell in cells])
    return _table("tags", ("Tag", "wrong rows", "all rows", "precision (95% CI)", ""), rows)


def _issues(analysis: Mapping[str, Any], titles: Mapping[str, str]) -> Table | None:
    if analysis["against"] is None:
        return None  # the table of tags says the same
    rows: list[list[str | Text]] = []
    for one in analysis["issues"]:
        title = titles.get(one["tag"], one["tag"])
        before = "–" if one["before"] is None else f"{one['before']:,}"
        proof = p_value(one["adjusted"]) if one["adjusted"] is not None else ""
        name = f"{title}, {one['slice']}" if one["slice"] else title
        state = Text(one["state"], STATES.get(one["state"], ""))
        rows.append([_cell(name), before, f"{one['now']:,}", f"{one['rows']:,}", state, proof])
    return _table("issues", ("Issue", "before", "now", "of rows", "state", "adjusted p"), rows)


def _slices(analysis: Mapping[str, Any]) -> Table | None:
    rows: list[list[str | Text]] = [
        [
            _cell(" and ".join(one["conditions"])),
            f"{one['rows']:,}",
            f"{percent(one['error'])} ({percent(one['low'])} – {percent(one['high'])})",
            percent(one["others"]),
        ]
        for one in analysis["slices"]["found"]
    ]
    return _table("slices", ("Weak slice, exploratory", "rows", "errors (95% CI)", "elsewhere"), rows)


def _clusters(analysis: Mapping[str, Any]) -> Table | None:
    rows: list[list[str | Text]] = [[_cell(one["title"]), f"{one['rows']:,}"] for one in analysis["clusters"]]
    return _table("clusters", ("Cluster of wrong rows", "rows"), rows)


def _confusions(analysis: Mapping[str, Any]) -> Table | None:
    rows: list[list[str | Text]] = []
    for one in analysis["confusions"]:
        bounds = f"{percent(one['low'])} – {percent(one['high'])}"
        doubt = "–" if one["train_noise"] is None else f"{one['train_noise']:,}"
        pair = _cell(f"{one['want']} → {one['got']}")
        rows.append([pair, f"{one['rows']:,} of {one['of']:,}", bounds, doubt])
    return _table("confusions", ("Expected → answered", "rows", "95% CI", "training rows in doubt"), rows)


def _table(kind: str, headings: Iterable[str], rows: Sequence[Sequence[str | Text]]) -> Table | None:
    """A table of the first rows, and how many more there are; None without rows."""
    if not rows:
        return None
    most = SHOWN[kind]
    more = f"… {len(rows) - most:,} more on the page" if len(rows) > most else None
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", caption=more, caption_justify="left")
    for number, heading in enumerate(headings):
        right = number and not heading.startswith(("precision", "state")) and heading
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in rows[:most]:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return table


def _cell(text: str) -> Text:
    """A short text on one line, with personal data redacted."""
    words = " ".join(redact(text).split())
    return Text(words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}…")
