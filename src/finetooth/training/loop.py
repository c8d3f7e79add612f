"""Training from the first step, or from the newest whole checkpoint, to the best weights.

Everything that decides a number is an argument, a pure function of (seed, step), or in the checkpoint: so a
run that was killed and continued ends with the weights of one that was not. Training draws nothing from a
random generator, so there is none to save.
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
from finetooth.training.journal import Journal
from finetooth.training.monitor import TrainingMonitor
from finetooth.training.objectives import Objective, supervised
from finetooth.training.order import batch, group_by_unit, steps_per_epoch, total_steps
from finetooth.training.progress import Bar
from finetooth.training.provenance import require_same, run_fingerprint
from finetooth.training.rl.rollout import RolloutTrainer
from finetooth.training.schedule import learning_rate_multiplier
from finetooth.training.selection import AnswerValidator, better
from finetooth.training.step import StepResult, evaluate_rows, train_step
from finetooth.training.verification import require_nonzero_gradient
from finetooth.tree import Row


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """steps: optimizer steps taken in all. best_step, best_loss, best_score: of the weights that are kept.

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
    """What the loop remembers between steps; saved with every checkpoint."""

    step: int = 0
    best_loss: float | None = None
    best_score: float | None = None
    best_step: int = 0
    stale: int = 0  # validations since the best one
    first_loss: float | None = None  # before the first step; not a candidate for the best weights
    first_score: float | None = None
    finished: bool = False


class Trainer:
    """One training. Construct it, then call `run`."""

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
    ) -> None:
        """config: without any auto. stop: asked after every step. console: of the progress bar, on stderr.

        answers: what the model is asked at each validation; None: nothing. Rows of one unit come in one step,
        where they count as one row. rollouts: where a step learns from rewards; train_rows are then the
        questions of the rollouts.
        """
        if not train_rows:
            raise TrainError("There are no training rows.")
        self.model, self.units, self.validation_rows = model, group_by_unit(train_rows), validation_rows
        self.objective = objective
        self.config, self.seed, self.console, self.stop, self.clock = config, seed, console, stop, clock
        self.answers, self.rollouts = answers, rollouts
        self.run_path, self.directory = run_path, run_path / "train"
        self.batch_size, self.budget = _number(config.batch_size), _number(config.micro_tokens)
        self.total = total_steps(len(self.units), self.batch_size, float(config.epochs), config.max_steps)
        self.optimizer = optimizers.build(model, config)
        self.state = _State()
        self.run_fingerprint = run_fingerprint(model, train_rows, validation_rows, config, seed)
        watch = rollouts.watch if rollouts else TrainingMonitor(self.total)
        self.journal = Journal(self.directory, console, config, self.total, watch)

    def run(self) -> TrainingResult:
        """Train to the end; the model then has the best weights.

        Raises Interrupted, with the state saved, when `stop` says so, and TrainError when a number is not
        finite, a file cannot be written, or the checkpoints belong to another run.
        """
        threads = torch.get_num_threads()
        try:
            self._resume()
            return self._run()
        except OSError as error:
            raise TrainError(
                f"{self.directory}: a file cannot be written or read ({error}). "
                f"When that is put right, continue with: finetooth train {self.run_path}"
            ) from error
        finally:
            torch.set_num_threads(threads)

    def _run(self) -> TrainingResult:
        state = self.state
        self.model.train()
        with self.journal.trackers(state.step), Bar(self.console, self.total, state.step) as bar:
            if state.step == 0:
                state.first_loss, state.first_score = self._look()
            while state.step < self.total and not state.finished:
                self._step(bar)
        if not state.finished:
            state.finished = True
            self._save()
        if state.best_step != state.step:
            self.model.load_state(dict(self._load(state.best_step).weights))
        self.model.eval()
        checkpoints.prune(self._checkpoints, {state.best_step, state.step})
        self._warn_of_harm()
        early = state.step < self.total
        return TrainingResult(state.step, state.best_step, state.best_loss, early, state.best_score)

    def _step(self, bar: Bar) -> None:
        """One optimizer step and what is due after it."""
        config, state = self.config, self.state
        started = self.clock()
        rate = float(config.learning_rate) * learning_rate_multiplier(
            state.step, self.total, config.warmup, config.schedule
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        indices = batch(self.seed, state.step, len(self.units), self.batch_size)
        more: dict[str, Any] = {}
        if self.rollouts is not None:
            result, more = self.rollouts.step(state.step, indices, self._update)
        else:
            result = self._update([row for index in indices for row in self.units[index]], self.objective)
            more = dict(result.metrics)
        if state.step == 0 and self.rollouts is None:
            require_nonzero_gradient(result)
        state.step += 1
        seconds = self.clock() - started
        self._log(result, rate, seconds, more)
        bar.advance(result.loss, result.row_tokens / max(seconds, 1e-9))
        last = state.step == self.total
        improved = False
        if self.validation_rows and (state.step % _number(config.validate_every) == 0 or last):
            improved = self._validate()
            patience = config.patience
            state.finished = last or (isinstance(patience, int) and state.stale >= patience)
        stopping = self.stop() and not last
        if improved or state.finished or stopping or state.step % _number(config.save_every) == 0:
            self._save()
        if stopping and not state.finished:
            raise Interrupted(
                f"Stopped after step {state.step} of {self.total}; everything is saved.",
                f"finetooth train {self.run_path}",
            )

    def _update(self, rows: Sequence[Row], objective: Objective) -> StepResult:
        norm = self.config.max_grad_norm
        return train_step(self.model, objective, rows, self.optimizer, budget=self.budget, max_norm=norm)

    def _log(self, result: StepResult, rate: float, seconds: float, more: dict[str, Any]) -> None:
        step = self.state.step
        epoch = step / steps_per_epoch(len(self.units), self.batch_size)
        line = {
            "step": step,
            "epoch": round(epoch, 4),
            "loss": result.loss,
            "learning_rate": rate,
            "grad_norm": result.grad_norm,
            "rows": result.rows,
            "scored_tokens": result.scored_tokens,
            "row_tokens": result.row_tokens,
            "computed_tokens": result.computed_tokens,
            "seconds": round(seconds, 4),
            **more,
        }
        self.journal.step(line, {} if self.rollouts else result.row_loss)

    def _look(self) -> tuple[float | None, float | None]:
        """Validation loss and score, logged and shown; each None where there is none."""
        if not self.validation_rows:
            return None, None
        loss, metrics = evaluate_rows(
            self.model, self.validation_rows, budget=self.budget, objective=self.objective
        )
        look = self.answers.evaluate() if self.answers else None
        self.journal.validation(self.state.step, loss, look, metrics)
        return loss, look.score if look else None

    def _validate(self) -> bool:
        """Take a look; whether the weights are the best so far."""
        state = self.state
        loss, score = self._look()
        if loss is None:
            return False
        if better(score, loss, state.best_score, state.best_loss):
            state.best_loss, state.best_score, state.best_step, state.stale = loss, score, state.step, 0
            return True
        state.stale += 1
        return False

    def _warn_of_harm(self) -> None:
        """Say so when no validation was better than the one before the first step."""
        state = self.state
        if state.best_loss is None or state.first_loss is None:
            return
        if not better(state.best_score, state.best_loss, state.first_score, state.first_loss):
            what = f"loss never fell below the {state.first_loss:.4f}"
            if state.best_score is not None and state.first_score is not None:
                what = f"score never rose above the {state.first_score:.3f}"
            self.journal.say(f"warning: the validation {what} before training.")

    # Checkpoints -------------------------------------------------------------------------------------------

    @property
    def _checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    def _save(self) -> None:
        state = self.state
        if state.best_loss is None:
            state.best_step = state.step  # without validation the last weights are the best
        self.journal.write_rows()
        epoch = state.step // steps_per_epoch(len(self.units), self.batch_size)
        facts = {
            "epoch": epoch,
            "loop": asdict(state),
            "watch": self.journal.watch.state(),
            "run_fingerprint": self.run_fingerprint,
        }
        tensors = optimizers.state(self.model, self.optimizer)
        checkpoints.save(
            self._checkpoints, checkpoints.Checkpoint(state.step, self.model.state(), tensors, facts)
        )
        checkpoints.prune(self._checkpoints, {state.best_step})

    def _load(self, step: int) -> checkpoints.Checkpoint:
        return checkpoints.load(checkpoints.checkpoint_path(self._checkpoints, step))

    def _resume(self) -> None:
        """Take up the newest whole checkpoint, and cut from the logs what it does not know of."""
        found = checkpoints.latest(self._checkpoints, lambda text: self.journal.say(f"warning: {text}"))
        if found is not None:
            require_same(
                found.state["run_fingerprint"], self.run_fingerprint, self._checkpoints, self.journal.say
            )
            self.run_fingerprint["threads"] = found.state["run_fingerprint"]["threads"]
            self.model.load_state(dict(found.weights))
            optimizers.load_state(self.model, self.optimizer, found.optimizer)
            self.state = _State(**found.state["loop"])
            self.journal.watch = type(self.journal.watch)(**found.state["watch"])
            self._require_best()
            self.journal.say(f"resuming after step {found.step} of {self.total}")
        self.journal.cut(found.step if found else None)

    def _require_best(self) -> None:
        """Where the best checkpoint is damaged, the best of what follows counts, and the log says so."""
        state = self.state
        path = checkpoints.checkpoint_path(self._checkpoints, state.best_step)
        found = checkpoints.integrity_error(path) if state.best_step != state.step else None
        if found:
            damage = f"the best weights so far are damaged ({found}); later ones are used."
            self.journal.say(f"warning: {path}: {damage}")
            state.best_loss = state.best_score = None
            state.best_step, state.finished = state.step, False


def _number(value: object) -> int:
    """A resolved count; an `auto` that was not resolved is a mistake in the program, not of the user."""
    if not isinstance(value, int):
        raise TrainError(f"A setting is not resolved: found {value!r}, expected a whole number.")
    return value
