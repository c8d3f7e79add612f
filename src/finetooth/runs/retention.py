"""The retention of a run: measured once for the weights that it has, and kept in evaluate/retention.json."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from finetooth.data.render.renderer import Renderer
from finetooth.errors import DataError
from finetooth.evaluation.retention import FILE, FORGOTTEN, panel_rows, read_panel, retention, score_panel
from finetooth.rundir import read_json, write_json
from finetooth.runs import next_steps, workspace
from finetooth.runs.context import RunContext
from finetooth.tree import Row

WEIGHTS = 50_000_000  # a smaller base has little general ability to lose


def rows_of_panel(context: RunContext) -> list[Row]:
    """The rows of the panel as the run's base is asked. DataError where its template cannot ask."""
    return panel_rows(Renderer(context.base_tokenizer), read_panel())


def ensure_measured(context: RunContext) -> None:
    """Measure what the tuned model kept of its base's general ability, where the task asks for it.

    What was measured with these weights and this margin before is taken as it is.
    """
    wanted, method = context.task.evaluate.retention, context.task.train.method
    if wanted not in (True, "checkpoints") or method == "reward_model":  # a reward model has another head
        return
    tuned, file = context.tuned(), context.path / FILE
    margin = context.task.evaluate.retention_margin
    asked = {"tuned": tuned.digest(), "margin": margin}
    if file.is_file() and {key: read_json(file).get(key) for key in asked} == asked:
        return
    try:
        rows = rows_of_panel(context)
    except DataError as error:
        context.console.print(f"retention: not measured: {error}", markup=False, soft_wrap=True)
        return
    after = score_panel(tuned, rows)
    with context.base() as base:
        before = score_panel(base, rows)
    result: dict[str, Any] = {**asked, **retention(before, after, margin)}
    write_json(file, result)
    context.console.print(f"retention: {result['words']}", markup=False, highlight=False, soft_wrap=True)
    if can_be_mended(context.path):
        command = next_steps.interpolation(context.path)
        context.console.print(f"  To get it back without training: {command}", markup=False, soft_wrap=True)


def at_validations(context: RunContext) -> Callable[[], float] | None:
    """Measures the model in training, where evaluate.retention is `checkpoints`; None elsewhere.

    It returns the change of the right answers' mean probability from the base.
    """
    if context.task.evaluate.retention != "checkpoints":
        return None
    rows, model = rows_of_panel(context), context.model
    with model.without_adapter() if model.peft is not None else nullcontext(context.load()) as base:
        before = score_panel(base, rows)
    return lambda: float((score_panel(model, rows).right_I - before.right_I).mean())


def can_be_mended(path: Path) -> bool:
    """Whether a run's own model is measured to have forgotten, so that interpolation may get it back."""
    file = path / FILE
    if not file.is_file() or read_json(file)["verdict"] != FORGOTTEN:
        return False
    return workspace.load_config(path).tuned is None
