"""The tables of scores in report.html, from a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetooth.evaluation.graders import PERPLEXITY
from finetooth.evaluation.summary import CORPUS_METRICS, START, TUNED, is_prompting
from finetooth.report.charts import score_bar


def score_table(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The candidates by the first grader, and under `also` a table for each further grader."""
    comparison = summary.get("comparison") or {}
    rows = [{**entry, **_shown(entry["name"], entry)} for entry in summary["candidates"]]
    others = dict.fromkeys(name for entry in rows for name in entry.get("also", {}))
    also = []
    for grader in others:
        scored = [(row["name"], row["also"][grader]) for row in rows if grader in row.get("also", {})]
        entries = [{**entry, "name": name, **_shown(name, entry)} for name, entry in scored]
        difference = comparison.get("also", {}).get(grader)
        also.append({"grader": grader, "rows": entries, "difference": difference, **_corpus(grader, entries)})
    return {
        "split": summary["split"],
        "n": summary["n"],
        "groups": summary.get("groups"),
        "grader": summary["grader"],
        "rows": rows,
        "baseline": comparison.get("baseline"),
        "start": summary.get(START),
        "errors": any(row["errors"] for row in rows),
        "truncated": any(row.get("truncated") for row in rows),
        "notes": [(row["name"], note) for row in rows for note in row.get("notes", [])],
        "also": also,
        **_corpus(summary["grader"], rows),
    }


def _shown(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """How a candidate's score is drawn."""
    kind = "tuned" if name == TUNED else "prompting" if is_prompting(name) else "cheap"
    scored = entry["score"] is not None
    bar = score_bar(entry["score"], entry["low"], entry["high"], kind) if scored else ""
    return {"kind": kind, "bar": bar, "whole": entry.get("corpus", {}).get("value")}


def _corpus(grader: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the number over all rows together is called, "" where there is none, and how it was counted."""
    found = [entry["corpus"] for entry in entries if entry.get("corpus")]
    return {
        "corpus": CORPUS_METRICS.get(grader, grader) if found else "",
        "signature": found[0]["signature"] if found and grader != PERPLEXITY else "",
    }
