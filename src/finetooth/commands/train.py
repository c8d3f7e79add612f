"""`finetooth train TASK|RUN`: fine-tune, from the start or from where it stopped, and keep the best
weights.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.config.method_keys import PREFERENCE_METHODS
from finetooth.config.task import Task
from finetooth.errors import ConfigError, GradeError, Interrupted
from finetooth.evaluation import graders
from finetooth.evaluation.answer_text import answer_normaliser
from finetooth.evaluation.candidates import ModelCandidate
from finetooth.evaluation.prompts import Prompt
from finetooth.evaluation.summary import TUNED
from finetooth.rundir import read_json, write_json
from finetooth.runs import next_steps, parent, workspace
from finetooth.runs.context import RunContext
from finetooth.runs.preflight import ensure_preflight
from finetooth.runs.rewards import rollouts
from finetooth.runs.setup import grader_names, set_up
from finetooth.training import preferences, selection, trackers
from finetooth.training.interrupts import stop_on_signals
from finetooth.training.loop import Trainer, TrainingResult
from finetooth.training.objectives import Objective, supervised
from finetooth.training.reference import require_pairs, with_reference
from finetooth.training.schedule import group_by_unit
from finetooth.training.selection import AnswerValidator
from finetooth.training.verification import outputs, save_model, verify_saved
from finetooth.types import Sampling

CHECKED_ROWS = 8  # on which the saved model is compared with the trained one


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What training did: train/result.json."""

    path: Path
    result: dict[str, Any]
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The run's path and the result."""
        return {"run": str(self.path), **self.result}

    def print(self, console: Console) -> None:
        """Two lines: what was trained, and what to do next."""
        loss = self.result["best_loss"]
        shown = f", validation loss {loss:.4f} at step {self.result['best_step']}" if loss is not None else ""
        score = self.result.get("best_score")
        shown += f", score {score:.3f}" if score is not None else ""
        early = " (stopped early)" if self.result["stopped_early"] else ""
        console.print(
            f"Trained {self.result['steps']} steps{early}{shown}: {self.result['model']}",
            markup=False,
            soft_wrap=True,
        )
        console.print(f"Next: {next_steps.of_run(self.path)}", markup=False, soft_wrap=True)


def run(source: Task | Path, out: Path | None, console: Console, needs_grader: bool = False) -> TrainReport:
    """Train a task, or continue a run directory. See `train`."""
    if isinstance(source, Path):
        return train(RunContext.of_run(source, console), needs_grader)
    task = parent.inherit_settings(source, console)
    return train(RunContext(task, workspace.run_path(task, out), console), needs_grader)


def train(context: RunContext, needs_grader: bool) -> TrainReport:
    """Train what the context's task says, from the start or from the newest checkpoint.

    A run that is already trained is left as it is. needs_grader: stop before training when the task's grader
    cannot be used. Raises Interrupted, with how to go on, after Ctrl-C or SIGTERM; the state is saved by
    then.
    """
    path, console = context.path, context.console
    if workspace.trained_path(path) is not None and workspace.open_run(context.task, path) is not None:
        console.print(f"{path} is trained already.", highlight=False)
        context.task = workspace.load_config(path)
        return TrainReport(path, read_json(path / "train" / "result.json"))
    trackers.require_installed(context.task.train.track)
    set_up(context, needs_grader)
    task, answers, rewarded = context.task, _answers(context), rollouts(context)
    with stop_on_signals() as stop:
        preflight = ensure_preflight(context, stop)
        objective = _objective(context)
        checked = context.train_rows[:CHECKED_ROWS]
        untrained_M = outputs(context.model, checked)
        result = Trainer(  # not kept: the optimizer's state is as large as two models
            context.model,
            rewarded.rows if rewarded else context.train_rows,
            context.validation_rows,
            task.train,
            path,
            task.seed,
            console,
            stop,
            answers=answers,
            objective=objective,
            rollouts=rewarded,
        ).run()
        saved = save_model(context.model, path, context.renderer.chat_template)
        load = context.load if saved.name == "model" else lambda saved: context.load(adapter=saved)
        tuned = verify_saved(context.model, saved, load, checked, untrained_M)
        context.keep_tuned(tuned)
        facts = {
            "steps": result.steps,
            "best_step": result.best_step,
            "best_loss": result.best_loss,
            "best_score": result.best_score,
            "selected_by": _chosen_by(result),
            "stopped_early": result.stopped_early,
            "rows": len(group_by_unit(context.train_rows)),
            "model": str(saved),
            "preflight": preflight,
            **({"method": task.train.method} if rewarded else {}),
        }
        write_json(path / "train" / "result.json", facts)
        if stop():
            raise Interrupted("Stopped; the training has ended and is saved.", next_steps.of_run(path))
    return TrainReport(path, facts)


def _objective(context: RunContext) -> Objective:
    """What the method minimises. Pairs are checked, and get what the model as it starts says of them."""
    if context.task.train.method not in PREFERENCE_METHODS:
        return supervised
    examples = [*context.prepared.train, *context.prepared.validation]
    sides = context.train_rows, context.validation_rows
    require_pairs([row for rows in sides for row in rows], examples, context.renderer)
    say = partial(context.console.print, highlight=False)
    taken = with_reference(context.model, sides, context.task.train, context.path, say)
    context.train_rows, context.validation_rows = taken
    return preferences.objective(context.task.train)


def _chosen_by(result: TrainingResult) -> str | None:
    """What chose the weights in fact: answers may have had no score, whatever train.select says."""
    if result.best_loss is None:
        return None
    return "loss" if result.best_score is None else "score"


def _answers(context: RunContext) -> AnswerValidator | None:
    """What the model is asked at each validation, as evaluation asks it; None where it cannot be
    needs_grader.

    At most 64 validation rows, drawn by the seed, that leave room for the longest answer. Raises ConfigError
    or GradeError where the score is to choose the weights and rows cannot be needs_grader.
    """
    task, prepared, model = context.task, context.prepared, context.model
    wanted = task.train.select == "score"
    if wanted and task.train.method in PREFERENCE_METHODS:
        raise ConfigError(
            f"train.select is score, but train.method {task.train.method} learns which of two answers is "
            "preferred, and grades none that is written. Set train.select: loss."
        )
    if task.train.method == "reward_model":
        return None
    length = task.evaluate.max_tokens
    assert isinstance(length, int), "the configuration is resolved"
    fits: dict[str, bool] = {}
    for row in context.validation_rows:
        fits[row.example_id] = fits.get(row.example_id, True) and len(row) + length <= model.max_tokens
    usable = [example for example in prepared.validation if fits.get(example.id)]
    if wanted and (prepared.format == "text" or not prepared.validation):
        raise ConfigError("train.select is score, but there are no validation rows with an expected answer.")
    if prepared.format == "text" or not usable:
        if wanted:
            context.console.print("warning: no validation row leaves room for an answer: the loss chooses.")
        return None
    try:
        kind = graders.grading_format(task.data.columns, prepared.format)
        asked = grader_names(task)[0]
        name, grader = graders.resolve("auto" if asked == graders.PREFERENCE else asked, kind, Path.cwd())
    except GradeError:
        if wanted:
            raise
        return None
    if len(usable) > selection.MOST:
        drawn = random.Random(f"select {task.seed}").sample(range(len(usable)), selection.MOST)
        usable = [usable[at] for at in sorted(drawn)]
    labels = [label for label in prepared.labels if name == "label" and context.renderer.can_answer(label)]
    sampling = Sampling(task.evaluate.temperature, length, seed=task.seed)
    candidate = ModelCandidate(TUNED, model, context.renderer, Prompt(TUNED), sampling, labels or None, "cut")
    return AnswerValidator(candidate, usable, grader, wanted, answer_normaliser(context.renderer))
