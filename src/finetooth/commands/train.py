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

from finetooth.config.preference_keys import PREFERENCES
from finetooth.config.task import Task
from finetooth.errors import ConfigError, GradeError, Interrupted
from finetooth.evaluation import graders
from finetooth.evaluation.answer_text import as_written
from finetooth.evaluation.candidates import ModelCandidate
from finetooth.evaluation.prompts import Prompt
from finetooth.evaluation.summary import TUNED
from finetooth.rundir import read_json, write_json
from finetooth.runs import next_steps, parent, workspace
from finetooth.runs.preflight import watch_over
from finetooth.runs.rewards import rollouts
from finetooth.runs.setup import Setup, grader_names, set_up
from finetooth.training import preferences, selection, trackers
from finetooth.training.interrupts import stop_on_signals
from finetooth.training.loop import Fit, FitResult
from finetooth.training.objectives import Objective, supervised
from finetooth.training.order import together
from finetooth.training.reference import require_pairs, with_reference
from finetooth.training.selection import Answers
from finetooth.training.verification import save_model, verify_saved
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


def run(source: Task | Path, out: Path | None, console: Console, graded: bool = False) -> TrainReport:
    """Train a task, or continue a run directory. A run that is already trained is left as it is.

    graded: stop before training when the task's grader cannot be used. Raises Interrupted, with how to go on,
    after Ctrl-C or SIGTERM; the state is saved by then.
    """
    path = source if isinstance(source, Path) else workspace.run_path(source, out)
    task = workspace.load_config(path) if isinstance(source, Path) else parent.followed(source, console)
    done = path / "train" / "result.json"
    if workspace.trained_path(path) is not None and workspace.open_run(task, path) is not None:
        console.print(f"{path} is trained already.", highlight=False)
        return TrainReport(path, read_json(done))
    trackers.require_installed(task.train.track)
    setup = set_up(task, path, console, graded)
    task, answers, rewarded = setup.task, _answers(setup, console), rollouts(setup, console)
    with stop_on_signals() as stop:
        sentinel = watch_over(setup, console, stop)
        objective = _objective(setup, console)
        result = Fit(  # not kept: the optimizer's state is as large as two models
            setup.model,
            rewarded.rows if rewarded else setup.train_rows,
            setup.validation_rows,
            task.train,
            path,
            task.seed,
            console,
            stop,
            answers=answers,
            objective=objective,
            rollouts=rewarded,
        ).run()
        saved = save_model(setup.model, path, setup.renderer.chat_template)
        rows, start = setup.train_rows[:CHECKED_ROWS], parent.started_from(task)
        verify_saved(setup.model, saved, task.model, rows, task.seed, release=True, start=start)
        facts = {
            "steps": result.steps,
            "best_step": result.best_step,
            "best_loss": result.best_loss,
            "best_score": result.best_score,
            "selected_by": _chosen_by(result),
            "stopped_early": result.stopped_early,
            "rows": len(together(setup.train_rows)),
            "model": str(saved),
            "sentinel": sentinel,
            **({"method": task.train.method} if rewarded else {}),
        }
        write_json(done, facts)
        if stop():
            raise Interrupted("Stopped; the training has ended and is saved.", next_steps.of_run(path))
    return TrainReport(path, facts)


def _objective(setup: Setup, console: Console) -> Objective:
    """What the method minimises. Pairs are checked, and get what the model as it starts says of them."""
    if setup.task.train.method not in PREFERENCES:
        return supervised
    examples = [*setup.prepared.train, *setup.prepared.validation]
    sides = setup.train_rows, setup.validation_rows
    require_pairs([row for rows in sides for row in rows], examples, setup.renderer)
    say = partial(console.print, highlight=False)
    taken = with_reference(setup.model, sides, setup.task.train, setup.path, say)
    setup.train_rows, setup.validation_rows = taken
    return preferences.objective(setup.task.train)


def _chosen_by(result: FitResult) -> str | None:
    """What chose the weights in fact: answers may have had no score, whatever train.select says."""
    if result.best_loss is None:
        return None
    return "loss" if result.best_score is None else "score"


def _answers(setup: Setup, console: Console) -> Answers | None:
    """What the model is asked at each validation, as evaluation asks it; None where it cannot be graded.

    At most 64 validation rows, drawn by the seed, that leave room for the longest answer. Raises ConfigError
    or GradeError where the score is to choose the weights and rows cannot be graded.
    """
    task, prepared, model = setup.task, setup.prepared, setup.model
    wanted = task.train.select == "score"
    if wanted and task.train.method in PREFERENCES:
        raise ConfigError(
            f"train.select is score, but train.method {task.train.method} learns which of two answers is "
            "preferred, and grades none that is written. Set train.select: loss."
        )
    if task.train.method == "reward_model":
        return None
    length = task.evaluate.max_tokens
    assert isinstance(length, int), "the configuration is resolved"
    fits: dict[str, bool] = {}
    for row in setup.validation_rows:
        for id in {row.id, row.id.rpartition("#")[0]}:  # turns of a conversation are id#1, id#2
            fits[id] = fits.get(id, True) and len(row) + length <= model.max_tokens
    usable = [example for example in prepared.validation if fits.get(example.id)]
    if wanted and (prepared.format == "text" or not prepared.validation):
        raise ConfigError("train.select is score, but there are no validation rows with an expected answer.")
    if prepared.format == "text" or not usable:
        if wanted:
            console.print("warning: no validation row leaves room for an answer: the loss chooses.")
        return None
    try:
        kind = graders.kind(task.data.columns, prepared.format)
        asked = grader_names(task)[0]
        name, grader = graders.resolve("auto" if asked == graders.PREFERENCE else asked, kind, Path.cwd())
    except GradeError:
        if wanted:
            raise
        return None
    if len(usable) > selection.MOST:
        drawn = random.Random(f"select {task.seed}").sample(range(len(usable)), selection.MOST)
        usable = [usable[at] for at in sorted(drawn)]
    labels = [label for label in prepared.labels if name == "label" and setup.renderer.can_answer(label)]
    sampling = Sampling(task.evaluate.temperature, length, seed=task.seed)
    candidate = ModelCandidate(TUNED, model, setup.renderer, Prompt(TUNED), sampling, labels or None, "cut")
    return Answers(candidate, usable, grader, wanted, as_written(setup.renderer))
