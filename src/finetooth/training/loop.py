"""The training loop: from the first step, or the newest intact checkpoint, to the best weights.

Everything that determines a number is an argument, a pure function of (seed, step), or in the checkpoint, so
a killed and resumed run ends with the same weights as an uninterrupted one. Training uses no random
generator, so there is no generator state to save.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from finetooth.config.task import TrainConfig
from finetooth.errors import Interrupted, TrainError
from finetooth.model.api import Model
from finetooth.training import checkpoint as checkpoints
from finetooth.training import optimizer as optimizers
from finetooth.training.journal import Journal, ProgressBar
from finetooth.training.monitor import TrainingMonitor
from finetooth.training.objectives import Objective, supervised
from finetooth.training.probe import Probe
from finetooth.training.provenance import require_same, run_fingerprint
from finetooth.training.rl.rollout import RolloutTrainer
from finetooth.training.schedule import (
    batch_indices,
    group_by_unit,
    learning_rate_multiplier,
    steps_per_epoch,
    total_steps,
)
from finetooth.training.selection import AnswerValidator, better
from finetooth.training.step import StepResult, evaluate_rows, train_step
from finetooth.tree import Row


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """steps: optimizer steps taken. best_step, best_loss, best_score: of the weights that are kept.

    best_loss is None without validation rows, best_score where answers are not graded. stopped_early:
    patience ran out before the last step.
    """

    steps: int
    best_step: int
    best_loss: float | None
    stopped_early: bool
    best_score: float | None = None


@dataclass(slots=True)
class _State:
    """Position and best results; saved with every checkpoint."""

    step: int = 0
    best_loss: float | None = None
    best_score: float | None = None
    best_step: int = 0
    stale: int = 0  # validations since the best one
    first_loss: float | None = None  # before the first step; not a candidate for the best weights
    first_score: float | None = None
    finished: bool = False


class Trainer:
    """One training run. Construct it, then call `run`."""

    def __init__(
        self,
        model: Model,
        train_rows: Sequence[Row],
        validation_rows: Sequence[Row],
        config: TrainConfig,
        run_path: Path,
        seed: int,
        console: Console,
        stop: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.perf_counter,
        answers: AnswerValidator | None = None,
        objective: Objective = supervised,
        rollouts: RolloutTrainer | None = None,
        probe: Probe | None = None,
        retention: Callable[[], float] | None = None,
    ) -> None:
        """config: without any auto. console: for messages and the progress bar. stop: polled after every
        step.

        answers: generates and grades answers at each validation, None for no answers. Rows of one unit stay
        in one step and count as one row. rollouts: takes the steps of reinforcement learning; train_rows are
        then its prompts. probe: corrects its estimate by the first steps. retention: measured at
        each validation.
        """
        if not train_rows:
            raise TrainError("There are no training rows.")
        self.model, self.units, self.validation_rows = model, group_by_unit(train_rows), validation_rows
        self.objective = objective
        self.config, self.seed, self.console, self.stop, self.clock = config, seed, console, stop, clock
        self.answers, self.rollouts, self.probe, self.retention = answers, rollouts, probe, retention
        self.run_path, self.directory = run_path, run_path / "train"
        self.checkpoints = self.directory / "checkpoints"
        self.batch_size, self.budget = _resolved(config.batch_size), _resolved(config.micro_tokens)
        self.total = total_steps(len(self.units), self.batch_size, float(config.epochs), config.max_steps)
        self.optimizer = optimizers.build(model, config)
        self.state = _State()
        self.fingerprint = run_fingerprint(model, train_rows, validation_rows, config, seed)
        monitor = rollouts.monitor if rollouts else TrainingMonitor(self.total)
        self.journal = Journal(self.directory, console, config, self.total, monitor)

    def run(self) -> TrainingResult:
        """Train to the end; afterwards the model has the best weights.

        Raises Interrupted, with the state saved, when `stop` returns True, and TrainError when a number is
        not finite, a file cannot be written, or the checkpoints belong to another run.
        """
        threads = torch.get_num_threads()
        try:
            self._resume()
            state = self.state
            self.model.train()
            with (
                self.journal.trackers(state.step),
                ProgressBar(self.console, self.total, state.step) as bar,
            ):
                if state.step == 0:
                    started = time.perf_counter()
                    state.first_loss, state.first_score = self._validate()
                    if self.probe:
                        self.probe.validated(time.perf_counter() - started)
                while state.step < self.total and not state.finished:
                    self._step(bar)
            if not state.finished:
                state.finished = True
                self._save()
            if state.best_step != state.step:
                path = checkpoints.checkpoint_path(self.checkpoints, state.best_step)
                self.model.load_state(dict(checkpoints.load(path).weights))
            self.model.eval()
            checkpoints.prune(self.checkpoints, {state.best_step, state.step})
        except OSError as error:
            raise TrainError(
                f"{self.directory}: a file cannot be written or read ({error}). "
                f"Once that is fixed, continue with: finetooth train {self.run_path}"
            ) from error
        finally:
            torch.set_num_threads(threads)
        if (
            state.best_loss is not None
            and state.first_loss is not None
            and not better(state.best_score, state.best_loss, state.first_score, state.first_loss)
        ):
            what = f"loss never fell below the {state.first_loss:.4f}"
            if state.best_score is not None and state.first_score is not None:
                what = f"score never rose above the {state.first_score:.3f}"
            self.journal.report(f"warning: the validation {what} before training.")
        early = state.step < self.total
        return TrainingResult(state.step, state.best_step, state.best_loss, early, state.best_score)

    def _step(self, bar: ProgressBar) -> None:  # long: one step and what is due after it, in order
        """One optimizer step, its log line, and the validation and checkpoint due after it."""
        config, state = self.config, self.state
        if self.probe:
            self.probe.before_step()
        started = self.clock()
        multiplier = learning_rate_multiplier(state.step, self.total, config.warmup, config.schedule)
        rate = float(config.learning_rate) * multiplier
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        indices = batch_indices(self.seed, state.step, len(self.units), self.batch_size)
        metrics: dict[str, Any] = {}
        if self.rollouts is not None:
            result, metrics = self.rollouts.step(state.step, indices, self._update)
        else:
            result = self._update([row for index in indices for row in self.units[index]], self.objective)
            metrics = dict(result.metrics)
            if state.step == 0 and result.grad_norm == 0:
                raise TrainError(
                    "The gradient of the first step is zero, so nothing is learned: the loss does not depend "
                    "on the trainable weights, or the model already answers these rows perfectly."
                )
        state.step += 1
        seconds = self.clock() - started
        line = {
            "step": state.step,
            "epoch": round(state.step / steps_per_epoch(len(self.units), self.batch_size), 4),
            "loss": result.loss,
            "learning_rate": rate,
            "grad_norm": result.grad_norm,
            "rows": result.rows,
            "scored_tokens": result.scored_tokens,
            "row_tokens": result.row_tokens,
            "computed_tokens": result.computed_tokens,
            "seconds": round(seconds, 4),
            **metrics,
        }
        self.journal.step(line, {} if self.rollouts else result.row_loss)
        bar.advance(result.loss, result.row_tokens / max(seconds, 1e-9))
        if self.probe:
            self.probe.after_step(result.computed_tokens, seconds)
        last, improved = state.step == self.total, False
        if self.validation_rows and (state.step % _resolved(config.validate_every) == 0 or last):
            loss, score = self._validate()
            improved = loss is not None and better(score, loss, state.best_score, state.best_loss)
            if improved:
                state.best_loss, state.best_score, state.best_step, state.stale = loss, score, state.step, 0
            else:
                state.stale += 1
            patience = config.patience
            state.finished = last or (isinstance(patience, int) and state.stale >= patience)
        stopping = self.stop() and not last
        if improved or state.finished or stopping or state.step % _resolved(config.save_every) == 0:
            self._save()
        if stopping and not state.finished:
            raise Interrupted(
                f"Stopped after step {state.step} of {self.total}; everything is saved.",
                f"finetooth train {self.run_path}",
            )

    def _update(self, rows: Sequence[Row], objective: Objective) -> StepResult:
        norm = self.config.max_grad_norm
        return train_step(self.model, objective, rows, self.optimizer, budget=self.budget, max_norm=norm)

    def _validate(self) -> tuple[float | None, float | None]:
        """Validation loss and score, logged; None without validation rows or without a score."""
        if not self.validation_rows:
            return None, None
        loss, metrics = evaluate_rows(
            self.model, self.validation_rows, budget=self.budget, objective=self.objective
        )
        answers = self.answers.evaluate() if self.answers else None
        if self.retention:
            metrics = {**metrics, "retention": self.retention()}
        self.journal.validation(self.state.step, loss, answers, metrics)
        return loss, answers.score if answers else None

    def _save(self) -> None:
        state = self.state
        if state.best_loss is None:
            state.best_step = state.step  # without validation the last weights are the best
        self.journal.write_row_losses()
        facts = {
            "epoch": state.step // steps_per_epoch(len(self.units), self.batch_size),
            "loop": asdict(state),
            "watch": self.journal.monitor.state(),
            "made_of": self.fingerprint,
        }
        tensors = optimizers.state(self.model, self.optimizer)
        saved = checkpoints.Checkpoint(state.step, self.model.named_trainable(), tensors, facts)
        checkpoints.save(self.checkpoints, saved)
        checkpoints.prune(self.checkpoints, {state.best_step})

    def _resume(self) -> None:
        """Load the newest intact checkpoint, and remove what the logs have beyond it."""
        report = self.journal.report
        found = checkpoints.latest(self.checkpoints, lambda text: report(f"warning: {text}"))
        if found is not None:
            require_same(found.state["made_of"], self.fingerprint, self.checkpoints, report)
            self.fingerprint["threads"] = found.state["made_of"]["threads"]
            self.model.load_state(dict(found.weights))
            optimizers.load_state(self.model, self.optimizer, found.optimizer)
            self.state = state = _State(**found.state["loop"])
            self.journal.monitor = type(self.journal.monitor)(**found.state["watch"])
            best = checkpoints.checkpoint_path(self.checkpoints, state.best_step)
            damage = checkpoints.integrity_error(best) if state.best_step != state.step else None
            if damage:
                report(
                    f"warning: {best}: the best weights so far are damaged ({damage}); later ones are used."
                )
                state.best_loss = state.best_score = None
                state.best_step, state.finished = state.step, False
            report(f"resuming after step {found.step} of {self.total}")
        self.journal.truncate(found.step if found else None)


def _resolved(value: object) -> int:
    """A resolved count; an `auto` that is left here is a bug, not a mistake of the user."""
    if not isinstance(value, int):
        raise TrainError(f"A setting is not resolved: found {value!r}, expected a whole number.")
    return value
