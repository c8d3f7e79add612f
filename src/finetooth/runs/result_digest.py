"""What decides a result, as one digest: the same digest twice is one look at the sealed test."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from finetooth.config.evaluate_keys import PRICES, RETENTION, ROBUSTNESS
from finetooth.data.examples import to_json
from finetooth.evaluation import graders
from finetooth.model.api import Model
from finetooth.rundir import sha256_file
from finetooth.runs import parent
from finetooth.runs.best_prompt import prompt_file
from finetooth.runs.context import RunContext, base_digest


def result_digest(context: RunContext, tuned: Model) -> str:
    """A digest of everything that decides the test's result: weights, prompts, sampling and graders."""
    task = context.task
    unset = {"free", "margin"} - {name for name in ("free", "margin") if getattr(task.evaluate, name)}
    # As in older results. Of a prompt the content counts; the others decide no answer.
    apart = {"prompt", "ladder", "grader_seconds", "looks", "cost_wrong", "cost_handover"}
    excluded = {*apart, *unset, *PRICES, *RETENTION, *ROBUSTNESS}
    parts: dict[str, Any] = {
        "tuned": tuned.digest(),
        "base": tuned.digest(adapter=False) if tuned.peft is not None else base_digest(context.path),
        "evaluate": task.evaluate.model_dump(mode="json", exclude=excluded),
        "instruction": task.instruction,
        "template": context.renderer.chat_template,
        "graders": [graders.grader_digest(spec, Path.cwd()) for spec in graders.specs(task.evaluate.grader)],
    }
    if (prompt := prompt_file(context)) is not None:
        parts["prompt"] = sha256_file(prompt)
    if task.tuned is not None:
        parts["base_template"] = context.base_renderer.chat_template
        # These decide the prompts' demonstrations, and elsewhere the trained weights with them.
        parts["train"] = [task.seed, [to_json(row) | {"tags": {}} for row in context.prepared.train]]
    if task.start is not None:
        parts["start"] = parent.digest(parent.trained_weights(Path(task.start)))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
