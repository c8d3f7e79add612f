"""`finetooth train TASK|RUN`: fine-tune a model, or resume from the newest checkpoint; keeps the best one."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.config.method_keys import PREFERENCE_METHODS
from finetooth.config.task import Task
from finetooth.data.examples import different_first
from finetooth.data.render.turns import answer_key
from finetooth.errors import ConfigError, GradeError, Interrupted
from finetooth.evaluation import graders
from finetooth.evaluation.answer_text import answer_normaliser
from finetooth.evaluation.prompts import Prompt
from finetooth.evaluation.summary import TUNED
from finetooth.model.interpolation import Interpolation
from finetooth.rundir import read_json, write_json
from finetooth.runs import inputs, next_steps, parent, retention, workspace
from finetooth.runs.asking import candidate
from finetooth.runs.context import RunContext
from finetooth.runs.interpolation import base_weights
from finetooth.runs.preflight import ensure_preflight
from finetooth.runs.rewards import rollouts
from finetooth.runs.setup import set_up
from finetooth.training import preferences, selection, trackers
from finetooth.training.interrupts import stop_on_signals
from finetooth.training.loop import Trainer
from finetooth.training.objectives import Objective, supervised
from finetooth.training.reference import require_pairs, with_reference
from finetooth.training.schedule import group_by_unit
from finetooth.training.selection import AnswerValidator
from finetooth.training.verification import outputs, save_model, verify_saved

VERIFIED_ROWS = 8  # rows on which the saved model is compared with the trained one


@dataclass(frozen=True, slots=True)
class TrainReport:
    """The result of training: train/result.json."""

    path: Path
    result: dict[str, Any]
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The run's path and the result."""
        return {"run": str(self.path), **self.result}

    def print(self, console: Console) -> None:
        """One line: what was trained."""
        loss, score = self.result["best_loss"], self.result.get("best_score")
        shown = " (early stopping)" if self.result["stopped_early"] else ""
        shown += (
            f", validation loss {loss:.4f} at step {self.result['best_step']}" if loss is not None else ""
        )
        shown += f", score {score:.3f}" if score is not None else ""
        text = f"Trained {self.result['steps']} steps{shown}: {self.result['model']}"
        console.print(text, markup=False, soft_wrap=True)

    def next_steps(self) -> list[str]:
        """The command to type next."""
        return [next_steps.of_run(self.path)]


def run(
    source: Task | Path,
    out: Path | None,
    console: Console,
    trust_code: bool = False,
    folder: Path | None = None,
) -> TrainReport:
    """Train a task, or continue a run directory. See `train`; trust_code: see `inputs.require_trusted`.

    folder: that of the task file.
    """
    if (task := workspace.load_config(source) if isinstance(source, Path) else source).tuned is not None:
        raise ConfigError(
            f"tuned: {task.tuned} is trained already. To evaluate it: finetooth evaluate {task.tuned} TASK"
        )
    if isinstance(source, Path):
        inputs.require_trusted(source, "train", trust_code)
        context = RunContext.of_run(source, console)
        inputs.require_kinds_unchanged(context.task, source, "grader", "reward", "model")
        return train(context, needs_grader=False)
    task = parent.inherit_settings(source, console)
    path = workspace.run_path(task, out)
    with workspace.occupied(path):
        workspace.open_run(task, path)
        inputs.require_unchanged(task, path, console)
        return train(RunContext(task, path, console, folder), needs_grader=False)


def train(context: RunContext, needs_grader: bool) -> TrainReport:
    """Train the context's task, from the start or from the newest checkpoint.

    Does nothing for a trained run. needs_grader: stop before training when the task's grader cannot be used.
    Raises Interrupted, with the command that resumes, after Ctrl-C or SIGTERM; the state is saved by then.
    """
    with workspace.occupied(context.path):
        return _train(context, needs_grader)


def _train(context: RunContext, needs_grader: bool) -> TrainReport:
    path, console = context.path, context.console
    if workspace.trained_path(path) is not None and workspace.open_run(context.task, path) is not None:
        console.print(f"{path} is already trained.", highlight=False)
        context.task = workspace.load_config(path)
        return TrainReport(path, read_json(path / "train" / "result.json"))
    trackers.require_installed(context.task.train.track)
    set_up(context, needs_grader)
    task, answers, policy = context.task, _answer_validator(context), rollouts(context)
    context.probe.start()
    with stop_on_signals() as stop:
        preflight = ensure_preflight(context, stop)
        objective = _objective(context)
        verified = context.train_rows[:VERIFIED_ROWS]
        untrained_M = outputs(context.model, verified)
        result = Trainer(  # not kept in a variable: the optimizer's state is as large as two models
            context.model,
            policy.rows if policy else context.train_rows,
            context.validation_rows,
            task.train,
            path,
            context.training_seed,
            console,
            stop,
            answers=answers,
            objective=objective,
            rollouts=policy,
            probe=context.probe,
            retention=retention.at_validations(context),
        ).run()
        if task.train.interpolate < 1:
            adapter = context.model.peft is not None
            base = None if adapter else base_weights(context.load())
            Interpolation(context.model, base).move(task.train.interpolate)
        saved = save_model(context.model, path, context.renderer.chat_template)
        load = context.load if saved.name == "model" else lambda saved: context.load(adapter=saved)
        tuned = verify_saved(context.model, saved, load, verified, untrained_M)
        context.keep_tuned(tuned)
        context.probe.finish()
        selected_by = None  # what selected the checkpoint in fact: answers may have had no score
        if result.best_loss is not None:
            selected_by = "loss" if result.best_score is None else "score"
        facts = {
            "steps": result.steps,
            "best_step": result.best_step,
            "best_loss": result.best_loss,
            "best_score": result.best_score,
            "selected_by": selected_by,
            "stopped_early": result.stopped_early,
            "rows": len(group_by_unit(context.train_rows)),
            "model": str(saved),
            "preflight": preflight,
            **({"method": task.train.method} if policy else {}),
        }
        write_json(path / "train" / "result.json", facts)
        if stop():
            raise Interrupted("Stopped; training had ended, and the model is saved.", next_steps.of_run(path))
    return TrainReport(path, facts)


def _objective(context: RunContext) -> Objective:
    """The objective. For preference methods, pairs are checked and get reference log-probabilities."""
    if context.task.train.method not in PREFERENCE_METHODS:
        return supervised
    examples = [*context.prepared.train, *context.prepared.validation]
    sides = context.train_rows, context.validation_rows
    require_pairs([row for side in sides for row in side], examples, context.renderer)
    log = partial(context.console.print, highlight=False)
    rows = with_reference(context.model, sides, context.task.train, context.path, log)
    context.train_rows, context.validation_rows = rows
    return preferences.objective(context.task.train)


def _answer_validator(context: RunContext) -> AnswerValidator | None:
    """What generates answers at each validation, as evaluation does; None where they cannot be graded.

    At most 64 validation rows, drawn by the seed, that leave room for the longest answer; the first ones,
    which are printed, have different answers. Raises ConfigError or GradeError where train.select is score
    and the rows cannot be graded.
    """
    task, prepared, model = context.task, context.prepared, context.model
    required = task.train.select == "score"
    if required and task.train.method in PREFERENCE_METHODS:
        raise ConfigError(
            f"train.select is score, but train.method {task.train.method} generates no answers that could be "
            "graded. Set train.select: loss."
        )
    if task.train.method == "reward_model":
        return None
    length = task.evaluate.max_tokens
    assert isinstance(length, int), "the configuration is resolved"
    fits: dict[str, bool] = {}
    for row in context.validation_rows:
        fits[row.example_id] = fits.get(row.example_id, True) and len(row) + length <= model.max_tokens
    usable = [example for example in prepared.validation if fits.get(example.id)]
    if required and (prepared.format == "text" or not prepared.validation):
        raise ConfigError("train.select is score, but no validation row has an expected answer.")
    if prepared.format == "text" or not usable:
        if required:
            context.console.print(
                "warning: no validation row leaves room for an answer: the loss selects the checkpoint."
            )
        return None
    grader = graders.settled(graders.specs(task.evaluate.grader)[0], prepared.train)
    try:
        name, grade = graders.resolve(
            "auto" if grader == graders.PREFERENCE else grader,
            context.grading_format,
            Path.cwd(),
            task.evaluate.grader_seconds,
        )
    except GradeError:
        if required:
            raise
        return None
    if len(usable) > selection.MOST:
        drawn = random.Random(f"select {task.seed}").sample(range(len(usable)), selection.MOST)
        usable = [usable[index] for index in sorted(drawn)]
    usable = different_first(usable, answer_key, len(usable))
    asked = replace(candidate(context, name, model, Prompt(TUNED)), overlong="cut")
    return AnswerValidator(asked, usable, grade, required, answer_normaliser(context.renderer))
