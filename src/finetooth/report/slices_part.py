"""The part of a page on weak slices: groups of rows on which the tuned model errs more often than elsewhere.

Validation rows, and new rows of an evaluation beside the run's own; a list for the sealed test would tell
which rows to fix.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetooth.data.examples import read_examples
from finetooth.evaluation.runner import row_groups
from finetooth.evaluation.slices import FALSE_SHARE, SUPPORT, WeakSlices, weak_slices
from finetooth.evaluation.summary import TUNED
from finetooth.evaluation.verdict_words import percent
from finetooth.report.answers import ROWS, clip, examples_of
from finetooth.report.evidence import Evidence, Line
from finetooth.rundir import read_jsonl

SHOWN = 10


def run_slices(run_path: Path, evaluation: str = "validation") -> WeakSlices | None:
    """The weak slices of a run's tuned model; None where it has no graded answer to such rows.

    evaluation: the folder of records in evaluate/.
    """
    records = run_path / "evaluate" / evaluation / "records.jsonl"
    if not records.is_file():
        return None
    own = records.with_name(ROWS)
    examples = {
        row.id: row for row in (read_examples(own) if own.is_file() else examples_of(run_path, "validation"))
    }
    scored = [
        (examples[line["id"]], line["score"])
        for line in read_jsonl(records)
        if line["candidate"] == TUNED and line["score"] is not None and line["id"] in examples
    ]
    if not scored:
        return None
    rows = [row for row, _ in scored]
    return weak_slices(rows, [score for _, score in scored], row_groups(rows))


def slices_part(run_path: Path, evaluation: str = "validation") -> dict[str, Any] | None:
    """What the page shows of `run_slices`; None where no slice had enough rows to be tested."""
    result = run_slices(run_path, evaluation)
    if result is None or not result.tested:
        return None
    rows = [(clip(" and ".join(one.conditions)), one) for one in result.found[:SHOWN]]
    more = len(result.found) - len(rows)
    return {"tested": result.tested, "rows": rows, "more": more, "support": SUPPORT, "chance": FALSE_SHARE}


def slices_line(evidence: Evidence) -> Line | None:
    """The group of validation rows that is most clearly weak; None where no group could be tested."""
    result = run_slices(evidence.path)
    if result is None or not result.tested:
        return None
    if not result.found:
        return Line(
            "Weak groups",
            f"None of {result.tested:,} groups of {SUPPORT} validation rows or more is proven to have more "
            "errors than the other rows.",
        )
    first, weak = result.found[0], len(result.found)
    among = f"the clearest of {weak} weak ones" if weak > 1 else "the only weak one"
    errors = (
        f"{percent(first.error)} errors in {first.rows:,} validation rows (95% CI {percent(first.low)} to "
        f"{percent(first.high)}), {percent(first.others)} in the others; of {result.tested:,} groups tested "
        f"{among}, to be confirmed on new rows."
    )
    words = f"{clip(' and '.join(first.conditions))}: {errors}"
    return Line("Weak groups", words, "exploratory", "not-proven", public=f"One has {errors}")
