"""Setting up a run: from a task to data on disk, a model, tokenized rows, and no `auto` left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from finetooth.config.method_keys import PREFERENCE_METHODS
from finetooth.config.task import Task
from finetooth.config.values import first_few
from finetooth.data.examples import to_json
from finetooth.data.hub import context_length
from finetooth.data.render.overlong import FittedRows, fit_rows, row_limit
from finetooth.data.render.renderer import Renderer
from finetooth.errors import ConfigError, DataError, GradeError
from finetooth.evaluation import graders, ledger
from finetooth.model import reward_head
from finetooth.model.device import device_memory
from finetooth.quality.prepare import prepare
from finetooth.rundir import append_jsonl, write_bytes
from finetooth.runs import best_prompt, check, inputs, next_steps, parent, retention, workspace
from finetooth.runs.context import RunContext, base_digest
from finetooth.runs.estimate import probe_of
from finetooth.runs.rewards import require_valid_reward
from finetooth.training import defaults, preferences, schedule
from finetooth.training.gradient_checkpointing import enable_gradient_checkpointing
from finetooth.tree import Row
from finetooth.types import Example


def set_up(context: RunContext, needs_grader: bool) -> None:
    """Prepare a new run, or continue an existing one; config.yaml is written last.

    Afterwards the context has the resolved task, the model with its untrained adapter, and the rows.
    needs_grader: the run will be evaluated, so its grader must work; without it, the data may be plain text.
    Raises FinetoothError with one message when the data, the model or the configuration cannot be used.
    """
    with workspace.occupied(context.path):
        stored = workspace.open_run(context.task, context.path)
        try:
            _set_up(context, stored, needs_grader)
        except BaseException:
            if stored is None and not (context.path / workspace.CONFIG).is_file():
                workspace.discard(context.path)
            raise


def ensure_set_up(context: RunContext) -> None:
    """`set_up` for a model that was trained elsewhere, unless the run is; then its task is as stored."""
    with workspace.occupied(context.path):
        stored = workspace.open_run(context.task, context.path)
        if stored is None:
            set_up(context, needs_grader=True)
        else:
            context.task = stored


def _set_up(context: RunContext, stored: Task | None, needs_grader: bool) -> None:  # long: the steps in order
    requested, path, console = context.task, context.path, context.console
    context.task = task = stored or requested
    preferences.reject_unused_keys(task.train)
    data = None if stored else context.given or check.run_gate(context, needs_grader)
    context.prepared = prepared = prepare(task, path, data)
    if requested.train.method in PREFERENCE_METHODS and prepared.format != "preference":
        raise ConfigError(
            f"train.method {requested.train.method} trains on pairs of a chosen and a rejected answer; the "
            f"data format is {prepared.format}. Provide rows with prompt, chosen and rejected, or map their "
            "columns to these names with data.columns."
        )
    if prepared.sealed_count:
        start = parent.sealed_provenance(requested) if stored is None else None
        ledger.seal(path, time.time, start, context.folder)
    if needs_grader:
        _require_gradable(context)
    if stored is None:
        require_valid_reward(context)
    for note in prepared.notes:
        console.print(f"data: {note}")
    elsewhere = task.tuned is not None
    context.model = model = context.trained_elsewhere() if elsewhere else context.initial_model()
    if (
        stored is None
        and requested.template.endswith((".jinja", ".j2"))
        and Path(requested.template).is_file()
    ):
        write_bytes(path / "template.jinja", Path(requested.template).read_bytes())
    renderer = context.renderer
    for source, notes in (("model", model.notes), ("template", renderer.notes)):
        for note in notes:
            console.print(f"{source}: {note}")
    longest = min(model.max_tokens, context_length(context.tokenizer_directory) or model.max_tokens)
    limit = row_limit(task.data.max_tokens, longest, context.tokenizer) or longest
    context.train_rows, context.validation_rows = [], []
    total = len(prepared.train) + len(prepared.validation)
    for side, examples, rows in (
        ("training", prepared.train, context.train_rows),
        ("validation", prepared.validation, context.validation_rows),
    ):
        fitted, rejected = render_and_fit(examples, renderer, limit, requested, console, side, total)
        rows += fitted
        if stored is None:
            append_jsonl(path / workspace.REJECTED, rejected)
    facts: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    if not context.train_rows:
        raise DataError("No training row is left. To see why: finetooth check TASK")
    if stored is None:
        if prepared.sealed_count and requested.data.overlong == "raise":
            lengths = ledger.lengths(path, lambda example: max(map(len, renderer.training_rows(example))))
            long = [id for id, length in lengths.items() if length > limit]
            if long:
                raise DataError(
                    f"{len(long)} of {len(lengths)} test rows are longer than {limit} tokens (the longest: "
                    f"{max(lengths.values())}): {first_few(long, 5)}. Set data.overlong: cut or drop."
                )
        facts, reasons = _resolve(context, limit)
    else:
        context.require_same_start(model)
    if not elsewhere:
        _prepare_training(context)
    if stored is None:
        workspace.save_environment(path, facts)
        workspace.save_config(path, context.task, reasons)
        context.task = workspace.load_config(path)


def _prepare_training(context: RunContext) -> None:
    """The model as it is trained, with its adapter or score layer, and the probe of the estimate."""
    model, train, console = context.model, context.task.train, context.console
    if train.method == "reward_model":
        reward_head.attach(model.hf)
    if train.adapter == "lora":
        console.print(f"model: {context.add_adapter(model)}")
    if train.checkpointing:
        layers = enable_gradient_checkpointing(model)
        console.print(f"model: gradient checkpointing in {layers} layers")
    model.add_stop(context.renderer.stop_id)
    context.probe = probe_of(context)


def _require_gradable(context: RunContext) -> None:
    """Stop before training when the run could not be evaluated afterwards; warn about doubtful graders."""
    prepared, evaluate = context.prepared, context.task.evaluate
    if prepared.format == "text":
        raise next_steps.not_gradable_error("To train on it: finetooth train TASK")
    if not prepared.validation and not prepared.sealed_count:
        raise ConfigError("data.validation and data.test are both 0, so there is no row to evaluate on.")
    errors, warnings = graders.validate_graders(
        evaluate.grader, context.grading_format, prepared.train, Path.cwd(), evaluate.grader_seconds
    )
    if errors:
        raise GradeError(f"evaluate.grader: {errors[0]}.")
    for warning in warnings:
        context.console.print(f"warning: evaluate.grader: {warning}.", style="yellow")


def render_and_fit(
    examples: Sequence[Example],
    renderer: Renderer,
    limit: int,
    task: Task,
    console: Console,
    side: str,
    total: int = 0,
) -> tuple[list[Row], list[dict[str, object]]]:
    """Rendered rows that fit, and lines for rejected.jsonl of the others, which are reported on the console.

    total: the number of these and other examples, of which 1% may fail to render.
    """
    if not examples:
        return [], []
    rendered = renderer.render_all(examples, total, task.train.method in PREFERENCE_METHODS)
    fitted: FittedRows = fit_rows(rendered.rows, limit, task.data.overlong, examples)
    reasons = {example.id: reason for example, reason in rendered.rejected}
    example_of = {row.id: row.example_id for row in rendered.rows}
    reasons |= {example_of[id]: f"longer than {limit} tokens" for id in fitted.dropped}
    if rendered.rejected:
        example, reason = rendered.rejected[0]
        console.print(f"data: {len(rendered.rejected)} {side} rows are left out; {example.id}: {reason}")
    for verb, ids in (("cut", fitted.cut), ("dropped", fitted.dropped)):
        if ids:
            longer = f"{len(ids)} {side} rows longer than {limit} tokens"
            console.print(f"data: {longer} were {verb}: {first_few(ids, 5)}")
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


def _resolve(  # long: the automatic values, one after the other
    context: RunContext, limit: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """Replace every `auto` of the context's task, and print each with its reason.

    Returns the facts for environment.json, and the reasons.
    """
    task, model, console, prepared = context.task, context.model, context.console, context.prepared
    values, reasons = task.model_dump(), {}
    if task.tuned is None:
        resolved = defaults.resolve(task.train, _defaults_context(context))
        values["train"] = resolved.config.model_dump()
        reasons = {f"train.{key}": f"{values['train'][key]}: {why}" for key, why in resolved.reasons.items()}
        for warning in resolved.warnings:
            console.print(f"warning: {warning}", style="yellow")
    evaluate = values["evaluate"]
    if task.start is not None and prepared.sealed_format is not None:
        inherited = workspace.load_config(Path(task.start)).evaluate
        if evaluate["grader"] == "auto":
            inputs.require_trusted(Path(task.start), "evaluate")
        for key in ("grader", "max_tokens"):
            if evaluate[key] == "auto":
                evaluate[key] = getattr(inherited, key)
                reasons[f"evaluate.{key}"] = f"{evaluate[key]}: as in {task.start}, whose test this is"
    if evaluate["max_tokens"] == "auto":
        longest = max(int((row.weight > 0).sum()) for row in context.train_rows)
        evaluate["max_tokens"] = defaults.answer_tokens(longest, limit)
        reasons["evaluate.max_tokens"] = (
            f"{evaluate['max_tokens']}: the longest training answer has {longest} tokens"
        )
    if evaluate["retention"] == "auto":
        weights = sum(weight.numel() for weight in model.hf.parameters())
        evaluate["retention"] = weights >= retention.WEIGHTS and not model.fresh
        reasons["evaluate.retention"] = f"{evaluate['retention']}: the base has {weights:,} weights"
    if evaluate["grader"] == "auto" and prepared.format != "text":
        preference = task.train.method in PREFERENCE_METHODS
        format = context.grading_format
        evaluate["grader"] = graders.PREFERENCE if preference else graders.resolve("auto", format)[0]
        why = "the expected answers are long" if format == "long answers" else f"the data format is {format}"
        reasons["evaluate.grader"] = f"{evaluate['grader']}: {why}"
    if task.data.max_tokens == "auto":
        values["data"]["max_tokens"] = limit
        reasons["data.max_tokens"] = f"{limit}: the longest row that the model allows"
    if task.template == "auto" and task.tuned is None:  # else each of the two models has its own
        kind = values["template"] = context.renderer.kind
        why = "the tokenizer's chat template" if kind == "chat" else "the tokenizer has no chat template"
        reasons["template"] = f"{kind}: {why}"
    if prepared.format == "text":
        evaluate["grader"] = []  # plain text is not graded
    values["data"]["format"] = prepared.format
    if evaluate["ladder"] == "auto":
        context.task = Task.model_validate(values)
        evaluate["ladder"], why = best_prompt.automatic(context)
        reasons["evaluate.ladder"] = f"{evaluate['ladder']}: {why}"
    for key, reason in reasons.items():
        console.print(f"auto: {key} = {reason}")
    about = {
        "name": task.model,
        "digest": base_digest(Path(task.start)) if task.start else model.digest(task.tuned is None),
        "attention": model.attention,
        "dtype": str(model.dtype).removeprefix("torch."),
        "masters": model.master_weights,
        "device": str(model.device),
        "notes": list(model.notes),
    }
    start = {"start": parent.parent_provenance(task)} if task.start else {}
    facts = {"model": about, "threads": torch.get_num_threads(), "data": prepared.notes, **start}
    facts["prompts"] = {"template": context.renderer.kind, "added_system": context.renderer.added_system}
    facts |= inputs.provenance(task, context.path)
    context.task = Task.model_validate(values)
    return facts, reasons


def _defaults_context(context: RunContext) -> defaults.DefaultsContext:
    """The facts about model, data and machine that the automatic values depend on."""
    model, adapter = context.model, context.task.train.adapter
    units = schedule.group_by_unit(context.train_rows)
    vocabulary, hidden = model.hf.get_input_embeddings().weight.shape
    weights = int(model.hf.num_parameters())
    state = None  # the CPU's memory is shared with other programs: the careful default applies
    if model.device.type == "cuda":  # full fine-tuning adds float32 gradients and two moments
        state = sum(weight.numel() * weight.element_size() for weight in model.hf.parameters())
        state += 12 * weights if adapter == "none" else 0
    return defaults.DefaultsContext(
        family=model.hf.config.model_type,
        hidden=int(hidden),
        layers=int(model.hf.config.num_hidden_layers),
        vocabulary=int(vocabulary),
        weights=weights,
        fresh=model.fresh,
        rows=len(units),
        validation_rows=len(schedule.group_by_unit(context.validation_rows)),
        memory=device_memory(model.device),
        model_state_bytes=state,
        inner=defaults.inner_width(model.hf.config),
        sample=tuple(row for unit in units[:: max(1, len(units) // 64)][:64] for row in unit),
        ungradable_reason=_ungradable_reason(context),
    )


def _ungradable_reason(context: RunContext) -> str:
    """Why answers are not graded at every validation by default; "" when they can be."""
    if context.prepared.format == "text":
        return "plain text is not graded"
    if context.task.train.method in PREFERENCE_METHODS:
        return "a preference method generates no answers"
    name = graders.specs(context.task.evaluate.grader)[0]
    try:
        name, _ = graders.resolve(name, context.grading_format, Path.cwd())
    except GradeError:
        return "there is no grader for these rows"
    if name == graders.PERPLEXITY:
        return "perplexity follows from the loss"
    return f"{name} may be slow; `train.select: score` uses it" if graders.is_custom(name) else ""
