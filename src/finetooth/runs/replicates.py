"""The trainings of one recipe with other seeds, RUN/seeds/SEED, and their scores on validation rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetooth.evaluation import ledger
from finetooth.evaluation.summary import TUNED
from finetooth.rundir import read_json, read_jsonl

FOLDER = "seeds"  # of a run
RECORDS = "evaluate/validation/records.jsonl"


def replicates(path: Path) -> list[Path]:
    """The runs of one recipe that were evaluated: the run itself, then those of its other seeds."""
    numbered = [one for one in (path / FOLDER).glob("*") if one.name.isdecimal()]
    return [
        one for one in (path, *sorted(numbered, key=lambda one: int(one.name))) if (one / RECORDS).is_file()
    ]


def scores_of(path: Path, candidate: str = TUNED) -> dict[str, float | None]:
    """A candidate's scores by the ids of the validation rows. DataError for records that were edited."""
    ledger.require_unchanged(path, "validation")
    return {
        line["id"]: line["score"] for line in read_jsonl(path / RECORDS) if line["candidate"] == candidate
    }


def carry_over(path: Path, summary: dict[str, Any]) -> None:
    """Add to a summary of the sealed test what only validation rows show: of the recipe, and of asking again.

    Only the run's own model answers sealed rows, and once.
    """
    file = path / "evaluate" / "validation" / "summary.json"
    known = read_json(file) if file.is_file() else {}
    if "asked_again" in known:
        summary["asked_again"] = known["asked_again"]
    if "recipe" in known:
        summary["recipe"] = known["recipe"]
        summary["words"] += f" {known['recipe']['words']}"
