"""The preflight check of a run: what it is given, and what is said and written of what it finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from finetooth.rundir import read_json, write_json
from finetooth.runs.context import RunContext, base_digest
from finetooth.runs.memory import device_memory
from finetooth.training import checkpoint
from finetooth.training.preflight.checks import PreflightError
from finetooth.training.preflight.rows import PreflightRow, format_row
from finetooth.training.preflight.run import PreflightInputs, run_preflight

SHOWN = 3


def ensure_preflight(context: RunContext, stop: Callable[[], bool]) -> str:
    """Let the preflight check try the way before a first step; train/preflight.json says what it found.

    Returns `passed`, `off` when the task says so, or `not tried` for a run that has begun without it. A run
    that goes on after it has passed is not tried again. Raises TrainError with the name of what is wrong.
    """
    if context.task.train.preflight == "off":
        context.console.print(
            "warning: train.preflight is off: nothing is tried before training.", style="yellow"
        )
        return "off"
    if (
        context.task.train.method == "reward_model"
    ):  # what it tries is answers, and a reward model writes none
        return "not tried"
    record = context.path / "train" / "preflight.json"
    if record.is_file() and read_json(record)["passed"]:
        return "passed"
    if checkpoint.steps(context.path / "train" / "checkpoints"):
        return "not tried"

    def show(picked: Sequence[PreflightRow]) -> None:
        for one in picked[:SHOWN]:
            context.console.print(format_row(one, context.renderer.tokenizer), soft_wrap=True)

    try:
        found = run_preflight(_trial(context, stop), show)
    except PreflightError as alarm:
        write_json(record, {"passed": False, "name": alarm.name, "message": str(alarm)})
        raise
    write_json(record, {"passed": True, **asdict(found)})
    context.console.print(f"preflight: {found}", soft_wrap=True)
    return "passed"


def _trial(context: RunContext, stop: Callable[[], bool]) -> PreflightInputs:
    task, path, model = context.task, context.path, context.model
    limit = task.data.max_tokens
    return PreflightInputs(
        model=model,
        rows=[row for row in context.train_rows if row.signals.get("chosen", 1)],
        examples=context.prepared.train,
        config=task.train,
        training_renderer=context.renderer,
        evaluation_renderer=context.renderer,
        load=context.load if model.peft is None else model.with_adapter,
        place=path / "train" / ".preflight",
        base_digest=None if model.peft is None else base_digest(path),
        uncut=limit if task.data.overlong == "cut" and isinstance(limit, int) else None,
        memory=device_memory(model.device),
        clock=time.perf_counter,
        stop=stop,
    )
