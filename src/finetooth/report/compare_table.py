"""What `compare` prints: a table of scores, and one of the settings that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from finetooth.evaluation.summary import TUNED
from finetooth.evaluation.verdict_words import percent


def scores_table(split: str, runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    """Candidates by runs: each score with its confidence interval. names: of the candidates, in order."""
    by_run = [{entry["name"]: entry for entry in each["candidates"]} for each in runs]
    where = "the sealed test" if split == "test" else "the validation rows"
    table = _table(f"Scores on {where}, with 95% confidence intervals")
    table.add_column("candidate")
    for each in runs:
        heading = f"{each['run']}\n{each['n']:,} rows, graded by {each['grader']}"
        table.add_column(Text(heading), justify="right", overflow="fold")
    for name in names:
        entries = [entries.get(name) for entries in by_run]
        if any(entries):
            table.add_row(Text(name), *map(_cell, entries), style="bold" if name == TUNED else None)
    return table


def _cell(entry: Mapping[str, Any] | None) -> Text:
    if entry is None or entry["score"] is None:
        return Text("–")
    return Text(f"{percent(entry['score'])}  {percent(entry['low'])} – {percent(entry['high'])}")


def settings_table(runs: Sequence[str], differences: Mapping[str, Sequence[Any]]) -> Table | Text:
    """The settings that differ, by runs. differences: a value of each run, by the key."""
    if not differences:
        return Text("Settings: no difference.")
    table = _table("Settings that differ")
    table.add_column("key")
    for run in runs:
        table.add_column(Text(run), overflow="fold")
    for key, values in differences.items():
        table.add_row(Text(key), *(Text("–" if value is None else str(value)) for value in values))
    return table


def _table(title: str) -> Table:
    return Table(title=Text(title, "bold"), title_justify="left", box=None, padding=(0, 2, 0, 0))
