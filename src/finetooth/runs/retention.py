"""The retention of a run: measured once for the weights that it has, and kept in evaluate/retention.json."""

from __future__ import annotations

from typing import Any

from finetooth.data.render.renderer import Renderer
from finetooth.errors import DataError
from finetooth.evaluation.retention import FILE, panel_rows, read_panel, retention, score_panel
from finetooth.rundir import read_json, write_json
from finetooth.runs.context import RunContext

WEIGHTS = 50_000_000  # a smaller base has little general ability to lose


def ensure_measured(context: RunContext) -> None:
    """Measure what the tuned model kept of its base's general ability, where the task asks for it.

    What was measured with these weights and this margin before is taken as it is.
    """
    wanted, method = context.task.evaluate.retention, context.task.train.method
    if wanted is not True or method == "reward_model":  # a reward model has another head
        return
    tuned, file = context.tuned(), context.path / FILE
    margin = context.task.evaluate.retention_margin
    asked = {"tuned": tuned.digest(), "margin": margin}
    if file.is_file() and {key: read_json(file).get(key) for key in asked} == asked:
        return
    try:
        rows = panel_rows(Renderer(context.base_tokenizer), read_panel())
    except DataError as error:
        context.console.print(f"retention: not measured: {error}", markup=False, soft_wrap=True)
        return
    after = score_panel(tuned, rows)
    with context.base() as base:
        before = score_panel(base, rows)
    result: dict[str, Any] = {**asked, **retention(before, after, margin)}
    write_json(file, result)
    context.console.print(f"retention: {result['words']}", markup=False, highlight=False, soft_wrap=True)
