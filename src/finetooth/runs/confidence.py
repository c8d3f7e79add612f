"""The calibrated confidence of a run's labels: fitted on validation, stored, used wherever a run is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetooth.config.task import Task
from finetooth.evaluation.calibration import Calibration, Decisions, decide, fit, measure
from finetooth.evaluation.runner import Evaluation, row_groups
from finetooth.evaluation.summary import TUNED
from finetooth.rundir import read_json, write_json
from finetooth.types import Example

CALIBRATION = "evaluate/calibration.json"
DIGITS = 4  # of a confidence that is shown or stored
UNSURE = "unsure"  # in place of a label whose confidence is too low


def of_run(path: Path) -> Calibration:
    """The calibration of a run; one of temperature 1 where it has none."""
    file = path / CALIBRATION
    if not file.is_file():
        return Calibration(reason="nothing was fitted on validation rows")
    return Calibration(**read_json(file))


def with_confidence(
    path: Path, task: Task, result: Evaluation, examples: Sequence[Example], fitted: bool
) -> Evaluation:
    """The evaluation with the tuned model's confidence in every label that it chose, and how well it holds.

    examples: the rows, by whose ids the records are matched. fitted: on validation rows: fit the temperature,
    and the threshold where the task has costs, and store them. Unchanged where the tuned model chose no
    labels, or the grader failed on an answer.
    """
    logp_R = result.logprobs.get(TUNED)
    lines = [line for line in result.records if line.candidate == TUNED]
    if logp_R is None or any(line.score is None for line in lines):
        return result
    by_id = {example.id: example for example in examples}
    rows = [by_id[line.id] for line in lines]
    right = [line.score == 1 for line in lines]
    decisions = Decisions.of(logp_R, [row.target for row in rows], right, row_groups(rows))
    costs = task.evaluate.cost_wrong, task.evaluate.cost_handover
    calibration = fit(decisions, *costs) if fitted else of_run(path)
    if fitted:
        write_json(path / CALIBRATION, calibration.to_json())
    measured: dict[str, Any] = measure(decisions, calibration)
    if calibration.threshold is not None and None not in costs:
        measured["decision"] = decide(decisions, calibration, float(costs[0] or 0), float(costs[1] or 0))
    confidence = iter(decisions.confidence_R(calibration.temperature))
    records = [
        replace(line, confidence=round(float(next(confidence)), DIGITS)) if line.candidate == TUNED else line
        for line in result.records
    ]
    return replace(result, records=records, summary={**result.summary, "calibration": measured})
