"""The page of an evaluation beside a run's own, evaluate/NAME/report.html: another grader, rows or prompt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from finetooth.evaluation import ledger
from finetooth.evaluation.proof import looks_words
from finetooth.report.advice import Step
from finetooth.report.answers import answers
from finetooth.report.evidence import day
from finetooth.report.run_page import score_table
from finetooth.report.settings import environment_in_words, read_config
from finetooth.report.slices_part import slices_part
from finetooth.report.verdict_part import rows_in_words, verdict
from finetooth.rundir import read_json


def page_context(run_path: Path, evaluation: str) -> dict[str, Any]:
    """Everything that evaluation.html.jinja needs. evaluation: the folder in evaluate/.

    The rows of the sealed test are never read.
    """
    config, _ = read_config(run_path / "config.yaml")
    summary = read_json(run_path / "evaluate" / evaluation / "summary.json")
    rows = answers(run_path, summary, evaluation) if summary["split"] != "test" else None
    return {
        "name": config.get("name", run_path.name),
        "model": config.get("model", ""),
        "evaluation": evaluation,
        "date": day(ledger.result_time(run_path, evaluation)),
        "verdict": verdict(summary),
        "about": f"{summary['n']:,} rows, graded by {summary['grader']}",
        "next": _next(run_path, rows["wrong"] if rows else 0),
        "table": score_table(summary),
        "rows": rows,
        "slices": slices_part(run_path, evaluation) if rows else None,
        "limits": _limits(run_path, summary),
        "environment": environment_in_words(run_path / "environment.json"),
    }


def _next(run_path: Path, wrong: int) -> list[Step]:
    steps: list[Step] = []
    if wrong:
        noun = "answer" if wrong == 1 else "answers"
        steps.append((f"Read the {wrong:,} {noun} below without full marks; where the expected answer is the "
                      "mistake, correct the row.", ""))  # fmt: skip
    return [*steps, ("Compare with the run's own result:", f"finetooth report {quote(str(run_path))}")]


def _limits(run_path: Path, summary: Mapping[str, Any]) -> list[str]:
    limits, split = [], summary["split"]
    if split == "validation":
        limits.append(
            "These are validation rows, on which the checkpoint was chosen, so the scores are optimistic."
        )
    elif split == "test":
        if repeated := looks_words(summary, ledger.look_count(run_path)):
            limits.append(repeated)
    else:
        limits.append(
            f"Whether {rows_in_words(split)} are typical of what the model will be asked, only you can know; "
            "copies of the run's rows were left out, paraphrases were not looked for."
        )
    return [*limits, "This result stands beside the run's own, and changes nothing in it."]
