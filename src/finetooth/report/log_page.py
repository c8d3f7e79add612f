"""The page of `log`: the iterations of a task, the curve over them, what changed, how to repeat each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetooth.evaluation.verdict_words import percent
from finetooth.report import html
from finetooth.report.evidence import day
from finetooth.report.log_chart import iterations_curve


def render(result: Mapping[str, Any]) -> str:
    """The page as HTML. result: of `log`, as JSON."""
    tasks = [_task(task) for task in result["tasks"]]
    title = tasks[0]["name"] if len(tasks) == 1 else f"{len(tasks)} tasks"
    return html.render("log.html.jinja", {"title": title, "tasks": tasks})


def _task(task: Mapping[str, Any]) -> dict[str, Any]:
    listed = [_row(one) for one in task["iterations"]]
    return {
        **task,
        "headline": headline(task["iterations"]),
        "chart": iterations_curve(task["iterations"]),
        "iterations": listed,
        "has_sealed": any(one["sealed"] for one in listed),
        "has_arms": any(one["arm_of"] and one["score"] for one in listed),
        "has_prompts": any(one["verdict"] for one in listed),
    }


def _row(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **one,
        "date": day(one["time"]),
        "kind": one["step"]["verdict"].replace(" ", "-") if one["step"] else "none",
    }


def headline(listed: Sequence[Mapping[str, Any]]) -> str:
    """The number of iterations, and the first and last score."""
    steps = [one for one in listed if one["number"] is not None]
    scores = [one["score"]["score"] for one in steps if one["score"]]
    words = f"{len(steps):,} {'iteration' if len(steps) == 1 else 'iterations'}"
    if len(scores) > 1:
        return f"{words}, from {percent(scores[0])} to {percent(scores[-1])}"
    return f"{words}, {percent(scores[0])}" if scores else words
