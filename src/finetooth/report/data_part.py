"""The part of a run's page on its data: counts, frequent labels, rejected rows, and what the check found."""

from __future__ import annotations

from collections import Counter
from typing import Any

from finetooth.config.values import format_count
from finetooth.data.read.locations import location
from finetooth.evaluation import ledger
from finetooth.report.answers import clip, examples_of
from finetooth.report.evidence import Evidence, Line

REJECTED_SHOWN = 8


def data_part(evidence: Evidence) -> dict[str, Any]:
    """Rows of each side, labels, and the first rejected rows with their reasons."""
    run_path, folder = evidence.path, evidence.path / "data"
    counts = [
        (split, len(evidence.lines(f"data/{split}.jsonl")))
        for split in ("train", "validation")
        if (folder / f"{split}.jsonl").is_file()
    ]
    sealed = ledger.sealed_count(run_path)
    rejected = evidence.lines("data/rejected.jsonl")
    labels = Counter(example.tags.get("label") for example in examples_of(run_path, "train"))
    labels.pop(None, None)
    return {
        "counts": counts + ([("sealed test", sealed)] if sealed is not None else []),
        "rejected": len(rejected),
        "reasons": [
            (row.get("place") or location(str(row.get("file")), row.get("line")), clip(row["reason"]))
            for row in rejected[:REJECTED_SHOWN]
        ],
        "labels": len(labels),
        "frequent": [(clip(str(label)), count) for label, count in labels.most_common(5)],
        "fewest": min(labels.values(), default=0),
    }


def data_line(evidence: Evidence) -> Line | None:
    """How many rows there are on which side, and what the data check found."""
    found = data_part(evidence)
    if not found["counts"]:
        return None
    sides = [f"{count:,} {'sealed' if split == 'sealed test' else split}" for split, count in found["counts"]]
    words = f"{_listed(sides)} rows; {format_count(found['rejected'], 'row')} rejected."
    severities = Counter(line["severity"] for line in evidence.lines("data/findings.jsonl"))
    if evidence.json("data/check.json"):
        review = severities["review"] + severities["block"]
        words += f" The data check has {format_count(review, 'finding')} to review" if review else ""
        words += "." if review else " The data check has nothing to review."
    return Line("Data", words)


def _listed(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
