"""The preflight check of a run: its inputs, and the record of its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from finetooth.data.examples import different_first
from finetooth.data.render.turns import answer_key
from finetooth.model.device import device_memory
from finetooth.rundir import read_json, temporary_path, write_json
from finetooth.runs.context import RunContext, base_digest
from finetooth.training import checkpoint
from finetooth.training.preflight.checks import PreflightError
from finetooth.training.preflight.rows import PreflightRow, format_row
from finetooth.training.preflight.run import PreflightInputs, run_preflight

SHOWN = 3


def ensure_preflight(context: RunContext, stop: Callable[[], bool]) -> str:
    """Run the preflight check before the first step; train/preflight.json records its result.

    Returns `passed`, `off` when the task says so, or `not tried` for a reward model and for a run that began
    without it. A continued run that passed is not checked again. Raises TrainError, naming the failed check.
    """
    if context.task.train.preflight == "off":
        context.console.print(
            "warning: train.preflight is off: the training setup is not tested.", style="yellow"
        )
        return "off"
    if context.task.train.method == "reward_model":  # the check generates answers; a reward model cannot
        return "not tried"
    record = context.path / "train" / "preflight.json"
    if record.is_file() and read_json(record)["passed"]:
        return "passed"
    if checkpoint.steps(context.path / "train" / "checkpoints"):
        return "not tried"

    def show(picked: Sequence[PreflightRow]) -> None:
        for one in different_first(picked, _answer, SHOWN):
            context.console.print(format_row(one, context.renderer.tokenizer), soft_wrap=True)

    try:
        result = run_preflight(preflight_inputs(context, stop), show)
    except PreflightError as error:
        write_json(record, {"passed": False, "name": error.name, "message": str(error)})
        raise
    write_json(record, {"passed": True, **asdict(result)})
    context.console.print(f"preflight: {result}", soft_wrap=True)
    return "passed"


def _answer(one: PreflightRow) -> str:
    return answer_key(one.example) if one.example else one.row.id


def preflight_inputs(context: RunContext, stop: Callable[[], bool]) -> PreflightInputs:
    """What the preflight check of this run works on."""
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
        directory=temporary_path(path / "train" / "preflight"),
        base_digest=None if model.peft is None else base_digest(path),
        truncation_limit=limit if task.data.overlong == "cut" and isinstance(limit, int) else None,
        memory=device_memory(model.device),
        clock=time.perf_counter,
        stop=stop,
    )
