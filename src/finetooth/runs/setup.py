"""From a task to everything training needs: data on disk, a model, rows of tokens, and no `auto` left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from finetooth.config.method_keys import PREFERENCE_METHODS
from finetooth.config.task import Task
from finetooth.data.examples import to_json
from finetooth.data.render.overlong import Fitted, fit_rows, row_limit
from finetooth.data.render.renderer import Renderer
from finetooth.errors import ConfigError, DataError, GradeError
from finetooth.evaluation import graders, ledger
from finetooth.model import reward_head
from finetooth.quality.prepare import PreparedData, prepare
from finetooth.rundir import append_jsonl, write_bytes
from finetooth.runs import check, memory, next_steps, parent, workspace
from finetooth.runs.context import RunContext, base_digest
from finetooth.runs.rewards import require_valid_reward
from finetooth.training import defaults, order, preferences
from finetooth.training.gradient_checkpointing import enable_gradient_checkpointing
from finetooth.tree import Row
from finetooth.types import Example


def set_up(context: RunContext, needs_grader: bool) -> None:
    """Prepare a new run or take up a known one; for a new one config.yaml is written last.

    Afterwards the context has the resolved task, the model with its adapter, untrained, and the rows.
    needs_grader: the run will be evaluated, so its grader must load; else it may be plain text. Raises
    FinetoothError with one message when the data, the model or the configuration cannot be used.
    """
    stored = workspace.open_run(context.task, context.path)
    try:
        _set_up(context, stored, needs_grader)
    except BaseException:
        if stored is None and not (context.path / workspace.CONFIG).is_file():
            workspace.discard(context.path)
        raise


def _set_up(context: RunContext, stored: Task | None, needs_grader: bool) -> None:
    asked, path, console = context.task, context.path, context.console
    context.task = task = stored or asked
    preferences.require_used(task.train)
    context.prepared = prepared = prepare(
        task, path, None if stored else check.run_gate(context, needs_grader)
    )
    _require_pairs(asked, prepared)
    if prepared.sealed_count:
        ledger.seal(path, time.time, parent.parent_provenance(asked) if stored is None else None)
    if needs_grader:
        _require_gradable(asked, prepared, console)
    if stored is None:
        require_valid_reward(asked, prepared, console)
    for note in prepared.notes:
        console.print(f"data: {note}")
    context.model = model = context.initial_model()
    if stored is None and asked.template.endswith((".jinja", ".j2")) and Path(asked.template).is_file():
        write_bytes(path / "template.jinja", Path(asked.template).read_bytes())
    renderer = context.renderer
    for what, notes in (("model", model.notes), ("template", renderer.notes)):
        for note in notes:
            console.print(f"{what}: {note}")
    limit = row_limit(task.data.max_tokens, model.max_tokens, context.tokenizer) or model.max_tokens
    context.train_rows, context.validation_rows = [], []
    together = len(prepared.train) + len(prepared.validation)
    for name, examples, rows in (
        ("training", prepared.train, context.train_rows),
        ("validation", prepared.validation, context.validation_rows),
    ):
        fitted, unfit = render_and_fit(examples, renderer, limit, asked, console, name, together)
        rows += fitted
        if stored is None:
            for line in unfit:
                append_jsonl(path / workspace.REJECTED, line)
    if not context.train_rows:
        raise DataError("No training row is left. Look at them with: finetooth check TASK")
    if stored is None:
        if prepared.sealed_count and asked.data.overlong == "raise":
            _require_short(path, renderer.training_rows, limit)
        _resolve(context, limit)
        context.task = workspace.load_config(path)
    else:
        context.require_same_start(model)
    if asked.train.method == "reward_model":
        reward_head.attach(model.hf)
    if context.task.train.adapter == "lora":
        console.print(f"model: {context.add_adapter(model)}")
    if context.task.train.checkpointing:
        console.print(
            f"model: {enable_gradient_checkpointing(model)} layers are computed again in the backward pass"
        )
    model.add_stop(renderer.stop_id)


def _require_pairs(task: Task, prepared: PreparedData) -> None:
    if task.train.method in PREFERENCE_METHODS and prepared.format != "preference":
        raise ConfigError(
            f"train.method {task.train.method} learns from pairs of a chosen and a rejected answer; the data "
            f"format is {prepared.format}. Bring rows with prompt, chosen and rejected, or map their columns "
            "to these names with data.columns."
        )


def _require_gradable(task: Task, prepared: PreparedData, console: Console) -> None:
    """Stop before training when the run could not be evaluated after it; say what may be needs_grader
    wrongly.
    """
    if prepared.format == "text":
        raise next_steps.not_gradable_error("To train on it: finetooth train TASK")
    if not prepared.validation and not prepared.sealed_count:
        raise ConfigError("data.validation and data.test are both 0, so no row is left to evaluate on.")
    kind = graders.grading_format(task.data.columns, prepared.format)
    refused, doubts = graders.validate_graders(task.evaluate.grader, kind, prepared.train, Path.cwd())
    if refused:
        raise GradeError(f"evaluate.grader: {refused[0]}.")
    for doubt in doubts:
        console.print(f"warning: evaluate.grader: {doubt}.", style="yellow")


def _require_short(path: Path, make: Callable[[Example], list[Row]], limit: int) -> None:
    """The sealed rows must fit too; only the ledger reads them, and only their lengths come out."""
    lengths = ledger.lengths(path, lambda example: max(len(row) for row in make(example)))
    long = [id for id, length in lengths.items() if length > limit]
    if long:
        raise DataError(
            f"{len(long)} of {len(lengths)} test rows are longer than {limit} tokens (the longest: "
            f"{max(lengths.values())}): {', '.join(long[:5])}. Set data.overlong: cut or drop."
        )


def grader_names(task: Task) -> list[graders.GraderSpec]:
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
    rendered = renderer.render_all(examples, together, task.train.method in PREFERENCE_METHODS)
    fitted: Fitted = fit_rows(rendered.rows, limit, task.data.overlong, examples)
    reasons = {example.id: reason for example, reason in rendered.rejected}
    example_of = {row.id: row.example_id for row in rendered.rows}
    reasons |= {example_of[id]: f"longer than {limit} tokens" for id in fitted.dropped}
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


def _resolve(context: RunContext, limit: int) -> None:
    """Replace every `auto`, print each with its reason, and save configuration and environment."""
    task, model, console = context.task, context.model, context.console
    resolved = defaults.resolve(task.train, _facts(context))
    reasons = {
        f"train.{key}": f"{getattr(resolved.config, key)}: {why}" for key, why in resolved.reasons.items()
    }
    values = task.model_dump() | {"train": resolved.config.model_dump()}
    if task.start is not None and context.prepared.sealed_format is not None:
        _graded_as_before(Path(task.start), values["evaluate"], reasons)
    if values["evaluate"]["max_tokens"] == "auto":
        longest = max(int((row.weight > 0).sum()) for row in context.train_rows)
        answer = min(limit, longest + max(8, math.ceil(longest / 4)))
        values["evaluate"]["max_tokens"] = answer
        reasons["evaluate.max_tokens"] = f"{answer}: the longest training answer has {longest} tokens"
    if values["evaluate"]["grader"] == "auto" and context.prepared.format != "text":
        kind = graders.grading_format(task.data.columns, context.prepared.format)
        preferring = task.train.method in PREFERENCE_METHODS
        grader = graders.PREFERENCE if preferring else graders.resolve("auto", kind)[0]
        values["evaluate"]["grader"] = grader
        reasons["evaluate.grader"] = f"{grader}: the data format is {kind}"
    if task.data.max_tokens == "auto":
        values["data"]["max_tokens"] = limit
        reasons["data.max_tokens"] = f"{limit}: what the model allows"
    if task.template == "auto":
        own = (
            "the tokenizer's own" if context.renderer.kind == "chat" else "the tokenizer has no chat template"
        )
        values["template"] = context.renderer.kind
        reasons["template"] = f"{context.renderer.kind}: {own}"
    if context.prepared.format == "text":
        values["evaluate"]["grader"] = []  # plain text is not needs_grader
    values["data"]["format"] = context.prepared.format
    for key, reason in reasons.items():
        console.print(f"auto: {key} = {reason}")
    for warning in resolved.warnings:
        console.print(f"warning: {warning}", style="yellow")
    about = {
        "name": task.model,
        "digest": base_digest(Path(task.start)) if task.start else model.digest(),
        "attention": model.attention,
        "dtype": str(model.dtype).removeprefix("torch."),
        "masters": model.master_weights,
        "device": str(model.device),
        "notes": model.notes,
    }
    start = {"start": parent.parent_provenance(task)} if task.start else {}
    facts = {"model": about, "threads": torch.get_num_threads(), "data": context.prepared.notes, **start}
    workspace.save_environment(context.path, facts)
    workspace.save_config(context.path, Task.model_validate(values), reasons)


def _graded_as_before(run: Path, evaluate: dict[str, Any], reasons: dict[str, str]) -> None:
    """The test is that of the run before, so its answers are needs_grader, and as long, as there."""
    before = workspace.load_config(run).evaluate
    for key in ("grader", "max_tokens"):
        if evaluate[key] == "auto":
            evaluate[key] = getattr(before, key)
            reasons[f"evaluate.{key}"] = f"{evaluate[key]}: as in {run}, whose test this is"


def _facts(context: RunContext) -> defaults.DefaultsContext:
    """What automatic values are made from."""
    hf = context.model.hf
    units = order.group_by_unit(context.train_rows)
    vocabulary, hidden = hf.get_input_embeddings().weight.shape
    return defaults.DefaultsContext(
        family=hf.config.model_type,
        hidden=int(hidden),
        layers=int(hf.config.num_hidden_layers),
        vocabulary=int(vocabulary),
        weights=int(hf.num_parameters()),
        fresh=context.model.fresh,
        rows=len(units),
        validation_rows=len(order.group_by_unit(context.validation_rows)),
        memory=memory.device_memory(context.model.device),
        model_state_bytes=memory.model_state_bytes(hf, context.task.train.adapter)
        if context.model.device.type == "cuda"
        else None,
        inner=defaults.inner_width(hf.config),
        sample=tuple(row for unit in units[:: max(1, len(units) // 64)][:64] for row in unit),
        ungradable_reason=ungradable_reason(context),
    )


def ungradable_reason(context: RunContext) -> str:
    """Why answers cannot be needs_grader at every validation without being asked for; "" when they can."""
    if context.prepared.format == "text":
        return "plain text is not needs_grader"
    if context.task.train.method in PREFERENCE_METHODS:
        return "pairs are preferred, and no answer is written"
    name = grader_names(context.task)[0]
    try:
        kind = graders.grading_format(context.task.data.columns, context.prepared.format)
        name, _ = graders.resolve(name, kind, Path.cwd())
    except GradeError:
        return "there is no grader for these rows"
    if name == graders.PERPLEXITY:
        return "perplexity follows from the loss"
    return f"{name} may be slow; `train.select: score` takes it" if graders.is_custom(name) else ""
