"""What `log` prints: the iterations of a task as a table, then what changed in each and how to repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from finetooth.evaluation.verdict_words import percent, points
from finetooth.report.terminal import COLOURS

WIDE = 100  # columns of a terminal from which on all of the table is shown


def print_task(console: Console, task: Mapping[str, Any]) -> None:
    """Print one task. On a narrow terminal the table has the scores and the steps alone."""
    console.print(_table(task, console.width >= WIDE))
    console.print()
    for one in task["iterations"]:
        _print_details(console, one)
    console.print()
    console.print(Text(task["note"], "dim"))


def _table(task: Mapping[str, Any], wide: bool) -> Table:
    listed = task["iterations"]
    table = Table(title=Text(task["title"], "bold"), title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("no.", justify="right")
    table.add_column("run", overflow="fold", min_width=8)
    sealed = wide and any(one["sealed"] for one in listed)
    if wide:
        table.add_column("data", no_wrap=True)
    table.add_column("score", justify="right", overflow="fold")
    table.add_column("to the run before", overflow="fold")
    if wide:
        table.add_column("against prompts", overflow="fold")
    if sealed:
        table.add_column("sealed test", overflow="fold")
    for one in listed:
        number = "–" if one["number"] is None else str(one["number"])
        cells = [Text(number), Text(f"{one['name']}{' (random rows)' if one['arm_of'] else ''}")]
        if wide:
            train = (one["data"] or {}).get("train")
            cells.append(Text(f"{train['version']} {train['rows']:,} rows" if train else "–"))
        cells += [_score(one["score"], one["state"], "\n" if not wide else " "), _step(one["step"])]
        if wide:
            cells.append(_verdict(one["verdict"]))
        if sealed:
            cells.append(_score(one["sealed"], "–", "\n"))
        table.add_row(*cells)
    return table


def _score(score: Mapping[str, Any] | None, otherwise: str, between: str) -> Text:
    if score is None:
        return Text("–" if otherwise == "measured" else otherwise, "dim")
    text = f"{percent(score['score'])}{between}{percent(score['low'])} – {percent(score['high'])}"
    return Text(text)


def _step(step: Mapping[str, Any] | None) -> Text:
    if step is None:
        return Text("–", "dim")
    shown = Text(f"{points(step['difference'])} ({points(step['low'])} to {points(step['high'])}) ")
    return shown.append(step["verdict"], COLOURS[step["verdict"]])


def _verdict(verdict: Mapping[str, Any] | None) -> Text:
    if verdict is None:
        return Text("–", "dim")
    return Text(verdict["verdict"], COLOURS[verdict["verdict"]]).append(
        f" {points(verdict['difference'])}", "not bold default"
    )


def _print_details(console: Console, one: Mapping[str, Any]) -> None:
    """What an iteration was made from, what changed in it, and the command that repeats it, on one line."""
    number = "–" if one["number"] is None else one["number"]
    console.print(Text(f"{number}  {one['name']} ", "bold").append(one["lineage"], "not bold"))
    lines = [f"{one['problem']} {one['next']}".strip()] if one["problem"] or one["next"] else []
    lines += [f"changed: {words}" for words in one["changes"]]
    lines += [f"no difference to the run before: {one['no_step']}"] if one["no_step"] else []
    for line in [*lines, *one["fit"]]:
        console.print(Padding(Text(line), (0, 0, 0, 3)))
    if one["versions"]:
        console.print(Padding(Text(one["versions"], "dim"), (0, 0, 0, 3)))
    if one["again"]:
        console.print(Text(f"   {one['again']}", "dim"), soft_wrap=True)
