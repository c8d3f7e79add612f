"""From a task to everything training needs: data on disk, a model, rows of tokens, and no `auto` left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from finetooth.commands import check
from finetooth.config.preference_keys import PREFERENCES
from finetooth.config.task import Task
from finetooth.data.examples import to_json
from finetooth.data.render.overlong import Fitted, fit_rows, row_limit
from finetooth.data.render.renderer import Renderer
from finetooth.errors import ConfigError, DataError, GradeError
from finetooth.evaluation import graders, ledger
from finetooth.model import reward_head
from finetooth.model.api import Model
from finetooth.quality.prepare import Prepared, prepare
from finetooth.rundir import append_jsonl, write_bytes
from finetooth.runs import memory, models, next_steps, parent, workspace
from finetooth.runs.rewards import require_sound
from finetooth.training import defaults, order, preferences
from finetooth.training.gradient_checkpointing import recompute_layers
from finetooth.tree import Row
from finetooth.types import Example


@dataclass(slots=True)
class Setup:
    """A run that is ready to train. task: resolved. The model carries its adapter, untrained."""

    task: Task
    path: Path
    model: Model
    renderer: Renderer
    prepared: Prepared
    train_rows: list[Row]
    validation_rows: list[Row]


def set_up(task: Task, path: Path, console: Console, graded: bool) -> Setup:
    """Prepare a new run or take up a known one; for a new one config.yaml is written last.

    graded: the run will be evaluated, so its grader must load; else it may be plain text. Raises
    FinetoothError with one message when the data, the model or the configuration cannot be used.
    """
    stored = workspace.open_run(task, path)
    try:
        return _set_up(task, stored, path, console, graded)
    except BaseException:
        if stored is None and not (path / workspace.CONFIG).is_file():
            workspace.discard(path)
        raise


def _set_up(task: Task, stored: Task | None, path: Path, console: Console, graded: bool) -> Setup:
    preferences.require_used((stored or task).train)
    prepared = prepare(stored or task, path, None if stored else check.passed(task, path, console, graded))
    _require_pairs(task, prepared)
    if prepared.sealed_count:
        ledger.seal(path, time.time, parent.about(task) if stored is None else None)
    if graded:
        _require_gradable(task, prepared, console)
    if stored is None:
        require_sound(task, prepared, console)
    for note in prepared.notes:
        console.print(f"data: {note}")
    model = models.before_training(stored or task, path)
    assert model.tokenizer is not None
    if stored is None and task.template.endswith((".jinja", ".j2")) and Path(task.template).is_file():
        write_bytes(path / "template.jinja", Path(task.template).read_bytes())
    renderer = Renderer(model.tokenizer, workspace.template(stored or task, path), task.instruction)
    for what, notes in (("model", model.notes), ("template", renderer.notes)):
        for note in notes:
            console.print(f"{what}: {note}")
    limit = row_limit((stored or task).data.max_tokens, model.max_tokens, model.tokenizer) or model.max_tokens
    setup = Setup(stored or task, path, model, renderer, prepared, [], [])
    together = len(prepared.train) + len(prepared.validation)
    for name, examples, rows in (
        ("training", prepared.train, setup.train_rows),
        ("validation", prepared.validation, setup.validation_rows),
    ):
        fitted, unfit = render_and_fit(examples, renderer, limit, task, console, name, together)
        rows += fitted
        if stored is None:
            for line in unfit:
                append_jsonl(path / workspace.REJECTED, line)
    if not setup.train_rows:
        raise DataError("No training row is left. Look at them with: finetooth check TASK")
    if stored is None:
        if prepared.sealed_count and task.data.overlong == "raise":
            _require_short(path, partial(rows_of, renderer), limit)
        _resolve(setup, limit, console)
        setup.task = workspace.load_config(path)
    models.require_same_start(setup.task, path, model)
    if task.train.method == "reward_model":
        reward_head.attach(model.hf)
    if setup.task.train.adapter == "lora":
        console.print(f"model: {models.add_adapter(setup.task, model)}")
    if setup.task.train.checkpointing:
        console.print(f"model: {recompute_layers(model)} layers are computed again in the backward pass")
    model.add_stop(renderer.stop_id)
    return setup


def _require_pairs(task: Task, prepared: Prepared) -> None:
    if task.train.method in PREFERENCES and prepared.format != "preference":
        raise ConfigError(
            f"train.method {task.train.method} learns from pairs of a chosen and a rejected answer; the data "
            f"format is {prepared.format}. Bring rows with prompt, chosen and rejected, or map their columns "
            "to these names with data.columns."
        )


def _require_gradable(task: Task, prepared: Prepared, console: Console) -> None:
    """Stop before training when the run could not be evaluated after it; say what may be graded wrongly."""
    if prepared.format == "text":
        raise next_steps.nothing_to_grade("To train on it: finetooth train TASK")
    if not prepared.validation and not prepared.sealed_count:
        raise ConfigError("data.validation and data.test are both 0, so no row is left to evaluate on.")
    kind = graders.kind(task.data.columns, prepared.format)
    refused, doubts = graders.try_out(task.evaluate.grader, kind, prepared.train, Path.cwd())
    if refused:
        raise GradeError(f"evaluate.grader: {refused[0]}.")
    for doubt in doubts:
        console.print(f"warning: evaluate.grader: {doubt}.", style="yellow")


def rows_of(renderer: Renderer, example: Example) -> list[Row]:
    """The rows of an example: of a pair both. DataError where it cannot be rendered."""
    pairs = "rejected" in {answer.role for answer in example.answers}
    return renderer.pair(example) if pairs else renderer.rows(example)


def _require_short(path: Path, make: Callable[[Example], list[Row]], limit: int) -> None:
    """The sealed rows must fit too; only the ledger reads them, and only their lengths come out."""
    lengths = ledger.lengths(path, lambda example: max(len(row) for row in make(example)))
    long = [id for id, length in lengths.items() if length > limit]
    if long:
        raise DataError(
            f"{len(long)} of {len(lengths)} test rows are longer than {limit} tokens (the longest: "
            f"{max(lengths.values())}): {', '.join(long[:5])}. Set data.overlong: cut or drop."
        )


def grader_names(task: Task) -> list[graders.Spec]:
    """The graders of a task, by name or with options, the primary one first."""
    return graders.specs(task.evaluate.grader)


def render_and_fit(
    examples: Sequence[Example],
    renderer: Renderer,
    limit: int,
    task: Task,
    console: Console,
    what: str,
    together: int = 0,
) -> tuple[list[Row], list[dict[str, object]]]:
    """Rendered rows that fit, and lines for rejected.jsonl of those set aside or dropped; all are counted.

    together: how many examples these and others are, of which 1% may be set aside.
    """
    if not examples:
        return [], []
    rendered = renderer.render_all(examples, together, task.train.method in PREFERENCES)
    fitted: Fitted = fit_rows(rendered.rows, limit, task.data.overlong, examples)
    known = {example.id for example in examples}
    reasons = {example.id: reason for example, reason in rendered.rejected}
    for id in fitted.dropped:  # a row of several is ID#k, and an id of the user may hold a # as well
        reasons[id if id in known else id.rpartition("#")[0]] = f"longer than {limit} tokens"
    if rendered.rejected:
        example, reason = rendered.rejected[0]
        console.print(f"data: {len(rendered.rejected)} {what} rows are left out; {example.id}: {reason}")
    for verb, ids in (("cut", fitted.cut), ("dropped", fitted.dropped)):
        if ids:
            shown = ", ".join(ids[:5])
            console.print(f"data: {len(ids)} {what} rows longer than {limit} tokens were {verb}: {shown}")
    lines: list[dict[str, object]] = [
        {
            "file": example.tags.get("file"),
            "line": example.tags.get("line"),
            "reason": reasons[example.id],
            "row": to_json(example),
        }
        for example in examples
        if example.id in reasons
    ]
    return fitted.rows, lines


def _resolve(setup: Setup, limit: int, console: Console) -> None:
    """Replace every `auto`, print each with its reason, and save configuration and environment."""
    task, model = setup.task, setup.model
    resolved = defaults.resolve(task.train, _facts(setup))
    reasons = {
        f"train.{key}": f"{getattr(resolved.config, key)}: {why}" for key, why in resolved.reasons.items()
    }
    values = task.model_dump() | {"train": resolved.config.model_dump()}
    if task.start is not None and setup.prepared.sealed_format is not None:
        _graded_as_before(Path(task.start), values["evaluate"], reasons)
    if values["evaluate"]["max_tokens"] == "auto":
        longest = max(int((row.weight > 0).sum()) for row in setup.train_rows)
        answer = min(limit, longest + max(8, math.ceil(longest / 4)))
        values["evaluate"]["max_tokens"] = answer
        reasons["evaluate.max_tokens"] = f"{answer}: the longest training answer has {longest} tokens"
    if values["evaluate"]["grader"] == "auto" and setup.prepared.format != "text":
        kind = graders.kind(task.data.columns, setup.prepared.format)
        preferring = task.train.method in PREFERENCES
        grader = graders.PREFERENCE if preferring else graders.resolve("auto", kind)[0]
        values["evaluate"]["grader"] = grader
        reasons["evaluate.grader"] = f"{grader}: the data format is {kind}"
    if task.data.max_tokens == "auto":
        values["data"]["max_tokens"] = limit
        reasons["data.max_tokens"] = f"{limit}: what the model allows"
    if task.template == "auto":
        own = "the tokenizer's own" if setup.renderer.kind == "chat" else "the tokenizer has no chat template"
        values["template"] = setup.renderer.kind
        reasons["template"] = f"{setup.renderer.kind}: {own}"
    if setup.prepared.format == "text":
        values["evaluate"]["grader"] = []  # plain text is not graded
    values["data"]["format"] = setup.prepared.format
    for key, reason in reasons.items():
        console.print(f"auto: {key} = {reason}")
    for warning in resolved.warnings:
        console.print(f"warning: {warning}", style="yellow")
    about = {
        "name": task.model,
        "digest": models.base_digest(Path(task.start)) if task.start else model.digest(),
        "attention": model.attention,
        "dtype": str(model.dtype).removeprefix("torch."),
        "masters": model.masters,
        "device": str(model.device),
        "notes": model.notes,
    }
    start = {"start": parent.about(task)} if task.start else {}
    facts = {"model": about, "threads": torch.get_num_threads(), "data": setup.prepared.notes, **start}
    workspace.save_environment(setup.path, facts)
    workspace.save_config(setup.path, Task.model_validate(values), reasons)


def _graded_as_before(run: Path, evaluate: dict[str, Any], reasons: dict[str, str]) -> None:
    """The test is that of the run before, so its answers are graded, and as long, as there."""
    before = workspace.load_config(run).evaluate
    for key in ("grader", "max_tokens"):
        if evaluate[key] == "auto":
            evaluate[key] = getattr(before, key)
            reasons[f"evaluate.{key}"] = f"{evaluate[key]}: as in {run}, whose test this is"


def _facts(setup: Setup) -> defaults.Facts:
    """What automatic values are made from."""
    hf = setup.model.hf
    units = order.together(setup.train_rows)
    vocabulary, hidden = hf.get_input_embeddings().weight.shape
    return defaults.Facts(
        family=hf.config.model_type,
        hidden=int(hidden),
        layers=int(hf.config.num_hidden_layers),
        vocabulary=int(vocabulary),
        weights=int(hf.num_parameters()),
        fresh=setup.model.fresh,
        rows=len(units),
        validation_rows=len(order.together(setup.validation_rows)),
        memory=memory.of_device(setup.model.device),
        held=memory.held(hf, setup.task.train.adapter) if setup.model.device.type == "cuda" else None,
        inner=defaults.inner_width(hf.config),
        sample=tuple(row for unit in units[:: max(1, len(units) // 64)][:64] for row in unit),
        ungraded=ungraded(setup),
    )


def ungraded(setup: Setup) -> str:
    """Why answers cannot be graded at every validation without being asked for; "" when they can."""
    if setup.prepared.format == "text":
        return "plain text is not graded"
    if setup.task.train.method in PREFERENCES:
        return "pairs are preferred, and no answer is written"
    name = grader_names(setup.task)[0]
    try:
        kind = graders.kind(setup.task.data.columns, setup.prepared.format)
        name, _ = graders.resolve(name, kind, Path.cwd())
    except GradeError:
        return "there is no grader for these rows"
    if name == graders.PERPLEXITY:
        return "perplexity follows from the loss"
    return f"{name} may be slow; `train.select: score` takes it" if graders.is_own(name) else ""
