"""The sentinel of a run: what it is given, and what is said and written of what it finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

from rich.console import Console

from finetooth.commands.evaluate import run_renderer
from finetooth.model.api import Model
from finetooth.rundir import read_json, write_json
from finetooth.runs.memory import of_device
from finetooth.runs.setup import Setup
from finetooth.training import checkpoint
from finetooth.training.preflight.checks import Alarm
from finetooth.training.preflight.rows import Picked, shown
from finetooth.training.preflight.run import Trial, rehearse

SHOWN = 3


def watch_over(setup: Setup, console: Console, stop: Callable[[], bool]) -> str:
    """Let the sentinel try the way before a first step; train/sentinel.json says what it found.

    Returns `passed`, `off` when the task says so, or `not tried` for a run that has begun without it. A run
    that goes on after it has passed is not tried again. Raises TrainError with the name of what is wrong.
    """
    if setup.task.train.sentinel == "off":
        console.print("warning: train.sentinel is off: nothing is tried before training.", style="yellow")
        return "off"
    if setup.task.train.method == "reward_model":  # what it tries is answers, and a reward model writes none
        return "not tried"
    record = setup.path / "train" / "sentinel.json"
    if record.is_file() and read_json(record)["passed"]:
        return "passed"
    if checkpoint.steps(setup.path / "train" / "checkpoints"):
        return "not tried"

    def show(picked: Sequence[Picked]) -> None:
        for one in picked[:SHOWN]:
            console.print(shown(one, setup.renderer.tokenizer), soft_wrap=True)

    try:
        found = rehearse(_trial(setup, stop), show)
    except Alarm as alarm:
        write_json(record, {"passed": False, "name": alarm.name, "message": str(alarm)})
        raise
    write_json(record, {"passed": True, **asdict(found)})
    console.print(f"sentinel: {found}", soft_wrap=True)
    return "passed"


def _trial(setup: Setup, stop: Callable[[], bool]) -> Trial:
    task, path, model = setup.task, setup.path, setup.model
    load = partial(
        Model.load,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        attention=model.attention,
        seed=task.seed,
        masters=model.masters,
    )
    limit = task.data.max_tokens
    return Trial(
        model=model,
        rows=[row for row in setup.train_rows if row.signals.get("chosen", 1)],
        examples=setup.prepared.train,
        config=task.train,
        renders=setup.renderer,
        asks=run_renderer(task, path),
        load=load if model.peft is None else partial(load, task.model),
        place=path / "train" / ".sentinel",
        base_digest=read_json(path / "environment.json")["model"]["digest"] if model.peft else None,
        uncut=limit if task.data.overlong == "cut" and isinstance(limit, int) else None,
        memory=of_device(model.device),
        clock=time.perf_counter,
        stop=stop,
    )
