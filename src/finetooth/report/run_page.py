"""A run's report: its first page, one structure of which HTML, Markdown and the model card are views, and
the details below it on report.html. Rows of the sealed test are never read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetooth.evaluation import ledger
from finetooth.evaluation.graders import PERPLEXITY
from finetooth.evaluation.summary import (
    BAG_FILE,
    CORPUS_METRICS,
    FREE,
    START,
    TUNED,
    explained,
    is_prompting,
)
from finetooth.report.advice import Step, next_steps
from finetooth.report.answers import answers
from finetooth.report.charts import score_bar
from finetooth.report.confidence_part import confidence_line, confidence_part
from finetooth.report.data_part import data_line, data_part
from finetooth.report.evidence import Evidence, Line, day, text_of
from finetooth.report.flips_part import flips_line
from finetooth.report.general_part import general_line, general_part
from finetooth.report.limits_part import limits
from finetooth.report.need_part import need_line, price_of
from finetooth.report.prompting_part import TIMING, prompting_part
from finetooth.report.reproduction import Reproduction, reproduction
from finetooth.report.retention_part import retention_line, retention_part, retention_steps
from finetooth.report.robustness_part import robustness_line, robustness_part
from finetooth.report.seeds_part import seeds_line
from finetooth.report.settings import environment_in_words, prompts_in_words, settings
from finetooth.report.slices_part import slices_line, slices_part
from finetooth.report.training_part import training_line, training_part
from finetooth.report.verdict_part import verdict

COLUMNS = ("against", "lenient", "tokens", "seconds", "price", "truncated", "errors")  # where there are any
NEXT_SHOWN = 3  # steps on the first page; the others, about its rows, stand above the answers

# The lines of the first page below the scores, in this order. A part that has nothing to say gives None.
LINES: tuple[Callable[[Evidence], Line | None], ...] = (
    need_line,
    seeds_line,
    flips_line,
    slices_line,
    confidence_line,
    robustness_line,
    retention_line,
    general_line,
    training_line,
    data_line,
)
# What follows the first page on report.html: NAME.html.jinja shows what its function gives as `NAME`.
DETAILS: Mapping[str, Callable[[Evidence], Any]] = {
    "prompting": lambda evidence: prompting_part(
        evidence.path, evidence.summary, evidence.config, evidence.reasons
    ),
    "retention": lambda evidence: retention_part(evidence.path),
    "general": lambda evidence: general_part(evidence.path),
    "confidence": lambda evidence: confidence_part(evidence.summary),
    "robustness": lambda evidence: robustness_part(evidence.path),
    "training": training_part,
}


@dataclass(frozen=True, slots=True)
class FirstPage:
    """verdict, table: None before the first evaluation. unchecked: limits. next: what to do, all steps.

    split: of the result; "" without one. date: when it was measured. skipped: that no prompt was
    searched for.
    """

    name: str
    model: str
    method: str
    split: str
    date: str
    allowed: list[str]
    skipped: str
    verdict: dict[str, Any] | None
    table: dict[str, Any] | None
    lines: list[Line]
    unchecked: list[str]
    next: list[Step]
    reproduction: Reproduction


def first_page(evidence: Evidence, notes: Sequence[str] = (), again: str = "", wrong: int = 0) -> FirstPage:
    """The first page. notes: limits that are not seen from the run directory.

    again: the command that makes the run again. wrong: validation rows that the tuned model gets wrong.
    """
    config, summary, path = evidence.config, evidence.summary, evidence.path
    steps = next_steps(
        path,
        summary,
        evidence.method,
        wrong,
        text_of(config, "data", "train"),
        (path / BAG_FILE).is_file(),
        gradable(config),
    )
    if not config.get("tuned"):
        steps = [*retention_steps(path, retention_part(path)), *steps]
    split = str(summary["split"]) if summary else ""
    return FirstPage(
        name=str(config.get("name", path.name)),
        model=str(config.get("model", "")),
        method=evidence.method,
        split=split,
        date=day(ledger.result_time(path, split)) if split else "",
        allowed=list(evidence.json("data/check.json").get("allowed", [])),
        skipped=str((DETAILS["prompting"](evidence) or {}).get("skipped", "")),
        verdict=verdict(summary) if summary else None,
        table=score_table(summary, evidence) if summary else None,
        lines=[line for part in LINES if (line := part(evidence)) is not None],
        unchecked=[*notes, *limits(evidence)],
        next=steps,
        reproduction=reproduction(evidence, again),
    )


def page_context(run_path: Path, notes: Sequence[str] = (), again: str = "") -> dict[str, Any]:
    """Everything that report.html.jinja needs; parts that the run does not have yet are None or empty.

    notes, again: as of `first_page`.
    """
    evidence = Evidence.read(run_path)
    validation = next((one for one in evidence.summaries if one["split"] == "validation"), None)
    rows = answers(run_path, validation)
    page = first_page(evidence, notes, again, rows["wrong"] if rows else 0)
    details = {name: part(evidence) for name, part in DETAILS.items()}
    shown = NEXT_SHOWN if rows else len(page.next)
    return {
        **details,
        "details": [name for name, part in details.items() if part is not None],
        "page": page,
        "name": page.name,
        "verdict": page.verdict,
        "next": page.next[:shown],
        "later": page.next[shown:],
        "table": page.table,
        "second": score_table(evidence.summaries[1], evidence) if len(evidence.summaries) > 1 else None,
        "prompts": prompts_in_words(run_path / "environment.json", evidence.config),
        "rows": rows,
        "slices": slices_part(run_path),
        "data": data_part(evidence),
        "data_page": "data/report.html" if (run_path / "data" / "report.html").is_file() else "",
        "config": settings(evidence.config, evidence.reasons),
        "environment": environment_in_words(run_path / "environment.json"),
    }


def gradable(config: Mapping[str, Any]) -> bool:
    """Whether the task has a grader; for plain text, auto was resolved to none."""
    evaluation = config.get("evaluate")
    return not isinstance(evaluation, Mapping) or evaluation.get("grader") != []


def _against(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The tuned model's comparison with each candidate that it was compared with."""
    found = {one["baseline"]: one for one in summary.get("comparisons") or [summary.get("comparison")] if one}
    return {
        **found,
        **(summary.get("simple_baselines") or {}),
        **({START: summary[START]} if START in summary else {}),
    }


def score_table(summary: Mapping[str, Any], evidence: Evidence | None = None) -> dict[str, Any]:
    """The candidates by the primary grader, and under `also` a table for each further grader.

    evidence: of the run, whose task may give prices, and which may know the seconds of an answer.
    """
    comparison, against = summary.get("comparison") or {}, _against(summary)
    free = any(entry["name"] == FREE for entry in summary["candidates"])
    shown = {TUNED: "tuned, constrained", FREE: "tuned, free"} if free else {}

    def row(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        kind = "tuned" if name == TUNED else "prompting" if is_prompting(name) else "baseline"
        scored = entry["score"] is not None
        bar = score_bar(entry["score"], entry["low"], entry["high"], kind) if scored else ""
        corpus_score = entry.get("corpus", {}).get("value")
        return {
            **entry,
            "candidate": name,
            "name": shown.get(name, name),
            "about": explained(name, summary["grader"]),
            "kind": kind,
            "bar": bar,
            "corpus_score": corpus_score,
        }

    def corpus(grader: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What the corpus score is called, "" where there is none, and how it was counted."""
        found = [entry["corpus"] for entry in entries if entry.get("corpus")]
        return {
            "corpus": CORPUS_METRICS.get(grader, grader) if found else "",
            "signature": found[0]["signature"] if found and grader != PERPLEXITY else "",
        }

    timing = evidence.json(f"evaluate/{summary['split']}/{TIMING}") if evidence else {}
    rows = [
        {
            **row(entry["name"], entry),
            "seconds": timing.get(entry["name"]),
            "against": against.get(entry["name"]),
            "price": price_of(evidence, entry) if evidence else None,
        }
        for entry in summary["candidates"]
    ]
    also = []
    for grader in dict.fromkeys(name for entry in rows for name in entry.get("also", {})):
        entries = [
            row(one["candidate"], one["also"][grader]) for one in rows if grader in one.get("also", {})
        ]
        difference = comparison.get("also", {}).get(grader)
        columns = {**dict.fromkeys(COLUMNS, False), "errors": True, **corpus(grader, entries)}
        also.append({"grader": grader, "rows": entries, "difference": difference, **columns})
    return {
        "split": summary["split"],
        "n": summary["n"],
        "groups": summary.get("groups"),
        "grader": summary["grader"],
        "rows": rows,
        "baseline": comparison.get("baseline"),
        "start": summary.get(START),
        "errors": any(entry["errors"] for entry in rows),
        "truncated": any(entry.get("truncated") for entry in rows),
        "lenient": any(entry.get("lenient") for entry in rows),
        "tokens": True,
        "against": bool(against),
        "seconds": any(entry["seconds"] is not None for entry in rows),
        "price": any(entry["price"] is not None for entry in rows),
        "notes": [(entry["name"], note) for entry in rows for note in entry.get("notes", [])],
        "also": also,
        **corpus(summary["grader"], rows),
    }
