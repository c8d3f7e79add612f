"""The page of `compare`: which of several runs is better on the rows that they share, and how they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetooth.evaluation.summary import TUNED, explained
from finetooth.report import html
from finetooth.report.charts import difference_bar, score_bar


def render(result: Mapping[str, Any], names: Sequence[str]) -> str:
    """The page as HTML. result: of `compare`, as JSON. names: of all candidates, in their order."""
    runs = [
        {"name": run["run"], "n": run["n"], "grader": run["grader"], "entries": _by_name(run)}
        for run in result["runs"]
    ]
    scored = [name for name in names if any(name in run["entries"] for run in runs)]
    return html.render(
        "compare.html.jinja",
        {
            "sealed": result["split"] == "test",
            "adjustment": " ".join(filter(None, (result["adjusted_for"], result.get("claim")))),
            "runs": runs,
            "headline": _headline(result["comparisons"]),
            "comparisons": [
                {
                    **pair,
                    "kind": pair["verdict"].replace(" ", "-"),
                    "words": pair["words"].partition(": ")[2],
                    "chart": difference_bar(
                        pair["difference"],
                        pair["low"],
                        pair["high"],
                        pair["verdict"],
                        ("first run better", "this run better"),
                    ),
                }
                for pair in result["comparisons"]
            ],
            "candidates": [
                {
                    "name": name,
                    "about": "the model that the run trained" if name == TUNED else explained(name),
                    "cells": [_cell(run["entries"].get(name), name) for run in runs],
                }
                for name in scored
            ],
            "differences": list(result["differences"].items()),
        },
    )


def _by_name(run: Mapping[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry for entry in run["candidates"]}


def _cell(entry: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
    """A score with its bar; None where the run has no such candidate, or no row of it was graded."""
    if entry is None or entry["score"] is None:
        return None
    kind = "tuned" if name == TUNED else "prompting"
    return {**entry, "bar": score_bar(entry["score"], entry["low"], entry["high"], kind)}


def _headline(comparisons: Sequence[Mapping[str, Any]]) -> str:
    first = comparisons[0]
    if len(comparisons) == 1:
        return {
            "better": f"{first['candidate']} is better than {first['baseline']}",
            "worse": f"{first['candidate']} is worse than {first['baseline']}",
        }.get(first["verdict"], f"No proven difference between {first['baseline']} and {first['candidate']}")
    better = [pair["candidate"] for pair in comparisons if pair["verdict"] == "better"]
    if not better:
        return f"No run is proven better than {first['baseline']}"
    return f"Better than {first['baseline']}: {', '.join(better)}"
