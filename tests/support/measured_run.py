"""What a run has measured beside its scores: other seeds, weak groups, changed rows and other tasks."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetooth.data.examples import from_json, to_json
from finetooth.evaluation.general import task_result
from finetooth.evaluation.perturbations import robustness
from finetooth.evaluation.perturbations.kinds import Perturbed
from finetooth.evaluation.perturbations.robustness import Answer, Pair
from finetooth.evaluation.recipes import over_prompts, recipe_words
from finetooth.evaluation.retention import KEPT
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl
from finetooth.types import Example

PROMPTS = ("zero-shot", "few-shot-4")
CHANGES = {"typos": 0.14, "case": 0.03, "numbers": 0.0}  # share of right answers that a change makes wrong


def with_measured_parts(run: Path) -> Path:
    """Add them to an invented run of labels that was evaluated on validation rows."""
    rows = [from_json(line) for line in read_jsonl(run / "data" / "validation.jsonl")]
    records = [*read_jsonl(run / "evaluate" / "validation" / "records.jsonl")]
    score = {
        name: {one["id"]: one["score"] for one in records if one["candidate"] == name}
        for name in (*PROMPTS, "tuned")
    }
    rows = _with_a_weak_team(run, rows, score["tuned"])
    _other_seeds(run, score)
    _changed_rows(run, rows, score["tuned"])
    write_json(run / "evaluate" / "general.json", {"margin": 0.1, "missing": [], "tasks": _other_tasks()})
    return run


def _with_a_weak_team(run: Path, rows: list[Example], score: dict[str, float]) -> list[Example]:
    """The night shift has every wrong row, up to 45, and as many others as make it 60."""
    wrong = [row.id for row in rows if not score[row.id]][:45]
    night = {*wrong, *[row.id for row in rows if row.id not in wrong][: 60 - len(wrong)]}
    tagged = [
        replace(row, tags={**row.tags, "team": "night shift" if row.id in night else "day"}) for row in rows
    ]
    write_jsonl(run / "data" / "validation.jsonl", map(to_json, tagged))
    return tagged


def _other_seeds(run: Path, score: dict[str, dict[str, float]]) -> None:
    """Two more trainings, which answer some rows otherwise; the claim is added to the summaries."""
    draw, tuned = random.Random(5), [score["tuned"]]
    for seed in ("2", "3"):
        folder = run / "seeds" / seed / "evaluate" / "validation"
        other = {id: 1 - value if draw.random() < 0.05 else value for id, value in score["tuned"].items()}
        write_jsonl(
            folder / "records.jsonl",
            [{"id": id, "candidate": "tuned", "score": one} for id, one in other.items()],
        )
        write_json(folder / "summary.json", {"candidates": [], "comparison": None})
        tuned.append(other)
    listed = [[*one.values()] for one in tuned]
    found = over_prompts({name: [*score[name].values()] for name in PROMPTS}, listed)
    recipe = {"seeds": [1, 2, 3], **found, "words": recipe_words([1, 2, 3], found)}
    for file in run.glob("evaluate/**/summary.json"):
        summary = read_json(file)
        write_json(file, {**summary, "recipe": recipe, "words": f"{summary['words']} {recipe['words']}"})


def _changed_rows(run: Path, rows: list[Example], score: dict[str, float]) -> None:
    """All rows with typos and in other case, and a dozen with other numbers."""
    draw, kinds = random.Random(6), []
    for kind, share in CHANGES.items():
        pairs = []
        for row in rows[: 12 if kind == "numbers" else None]:
            after = 0.0 if draw.random() < share else score[row.id]
            before, now = (Answer("x" if one else "y", one) for one in (score[row.id], after))
            pairs.append(Pair(row, Perturbed(row, ()), before, now, row.id))
        kinds.append(robustness.compare_pairs(kind, pairs, len(CHANGES)))
    found = {"grader": "label", "rows": len(rows), "again": None}
    write_json(run / robustness.FILE, {**found, "candidates": [{"name": "tuned", "kinds": kinds}]})


def _other_tasks() -> list[dict[str, Any]]:
    """One that is kept, and one on which a tenth of the rows is lost for good."""
    base = [float(at % 5 > 0) for at in range(200)]
    same = task_result("routing", "label", base, base, None, 0.1)
    assert same["verdict"] == KEPT
    lost = [0.0 if at % 7 == 0 else one for at, one in enumerate(base)]
    sums = task_result("sums", "number", base, lost, None, 0.1)
    return [
        {"task": name, "file": f"{name}.yaml", **one} for name, one in (("routing", same), ("sums", sums))
    ]
