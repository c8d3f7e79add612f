"""Training from the first step, or from the newest whole checkpoint, to the best weights.

Everything that decides a number is an argument, a pure function of (seed, epoch, step), or in the
checkpoint: so a run that was killed and continued ends with the weights of one that was not.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from finetooth.config import TrainConfig
from finetooth.errors import Interrupted, TrainError
from finetooth.model.api import Model
from finetooth.rundir import append_jsonl, read_jsonl, write_jsonl
from finetooth.training import checkpoint as checkpoints
from finetooth.training import optimizer as optimizers
from finetooth.training.objectives import supervised
from finetooth.training.order import batch, steps_per_epoch, total_steps
from finetooth.training.progress import Bar
from finetooth.training.schedule import multiplier
from finetooth.training.step import StepResult, evaluate_loss, train_step
from finetooth.tree import Row


@dataclass(frozen=True, slots=True)
class FitResult:
    """steps: optimizer steps taken in all. best_step, best_loss: of the weights that the model now has.

    best_loss is None without validation rows. stopped_early: patience ran out before the last step.
    """

    steps: int
    best_step: int
    best_loss: float | None
    stopped_early: bool


@dataclass(slots=True)
class _State:
    """What the loop remembers between steps; saved with every checkpoint."""

    step: int = 0
    best_loss: float | None = None
    best_step: int = 0
    stale: int = 0  # validations since the best one
    finished: bool = False


class Fit:
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
    ) -> None:
        """config: without any auto. stop: asked after every step. console: of the progress bar, on stderr."""
        if not train_rows:
            raise TrainError("There are no training rows.")
        self.model, self.rows, self.validation_rows = model, train_rows, validation_rows
        self.config, self.seed, self.console, self.stop, self.clock = config, seed, console, stop, clock
        self.run_path, self.directory = run_path, run_path / "train"
        self.batch_size, self.budget = _number(config.batch_size), _number(config.micro_tokens)
        self.total = total_steps(len(train_rows), self.batch_size, float(config.epochs), config.max_steps)
        self.optimizer = optimizers.build(model, config)
        self.state = _State()
        self._row_losses: list[dict[str, Any]] = []

    def run(self) -> FitResult:
        """Train to the end, or to a stop: the model then has the best weights. Raises Interrupted when
        stopped.
        """
        self._resume()
        self.model.train()
        with Bar(self.console, self.total, self.state.step) as bar:
            if self.state.step == 0 and not self.state.finished:
                self._validate()
            while self.state.step < self.total and not self.state.finished:
                self._step(bar)
        if not self.state.finished:
            self.state.finished = True
            self._save()
        if self.state.best_step != self.state.step:
            self.model.load_state(dict(self._load(self.state.best_step).weights))
        self.model.eval()
        checkpoints.prune(self._checkpoints, {self.state.best_step, self.state.step})
        early = self.state.step < self.total
        return FitResult(self.state.step, self.state.best_step, self.state.best_loss, early)

    def _step(self, bar: Bar) -> None:
        """One optimizer step and what is due after it."""
        config, state = self.config, self.state
        started = self.clock()
        rate = float(config.learning_rate) * multiplier(
            state.step, self.total, config.warmup, config.schedule
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        indices = batch(self.seed, state.step, len(self.rows), self.batch_size)
        result = train_step(
            self.model,
            supervised,
            [self.rows[index] for index in indices],
            self.optimizer,
            budget=self.budget,
            max_norm=config.max_grad_norm,
        )
        state.step += 1
        seconds = self.clock() - started
        self._log(result, rate, seconds)
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
                f"Stopped after step {state.step} of {self.total}; everything is saved. "
                f"Continue with: finetooth train {self.run_path}"
            )

    def _log(self, result: StepResult, rate: float, seconds: float) -> None:
        step = self.state.step
        epoch = step / steps_per_epoch(len(self.rows), self.batch_size)
        self._row_losses += [{"step": step, "id": id, "loss": loss} for id, loss in result.row_loss.items()]
        if step % self.config.log_every == 0 or step == self.total:
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
            }
            append_jsonl(self.directory / "metrics.jsonl", line)

    def _validate(self) -> bool:
        """Take the validation loss; whether it is the best so far."""
        if not self.validation_rows:
            return False
        loss = evaluate_loss(self.model, self.validation_rows, budget=self.budget)
        append_jsonl(self.directory / "metrics.jsonl", {"step": self.state.step, "valid_loss": loss})
        self.console.print(
            f"step {self.state.step} of {self.total}: validation loss {loss:.4f}", highlight=False
        )
        if self.state.best_loss is None or loss < self.state.best_loss:
            self.state.best_loss, self.state.best_step, self.state.stale = loss, self.state.step, 0
            return True
        self.state.stale += 1
        return False

    # Checkpoints -------------------------------------------------------------------------------------------

    @property
    def _checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    def _save(self) -> None:
        state = self.state
        if state.best_loss is None:
            state.best_step = state.step  # without validation the last weights are the best
        with (self.directory / "row_losses.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in self._row_losses)
        self._row_losses.clear()
        facts = {
            "loop": asdict(state),
            "made_of": self._made_of(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
        tensors = optimizers.state(self.model, self.optimizer)
        checkpoints.save(
            self._checkpoints, checkpoints.Checkpoint(state.step, self.model.state(), tensors, facts)
        )
        checkpoints.prune(self._checkpoints, {state.best_step})

    def _load(self, step: int) -> checkpoints.Checkpoint:
        return checkpoints.load(checkpoints.place(self._checkpoints, step))

    def _resume(self) -> None:
        """Take up the newest whole checkpoint, and cut from the logs what it does not know of."""
        self.directory.mkdir(parents=True, exist_ok=True)
        found = checkpoints.latest(self._checkpoints, lambda text: self.console.print(text, style="yellow"))
        step = 0
        if found is not None:
            step = found.step
            if found.state["made_of"] != self._made_of():
                raise TrainError(
                    f"{self.directory}: the checkpoint was made with other rows or settings. "
                    "Start a new --out."
                )
            self.model.load_state(dict(found.weights))
            optimizers.load_state(self.model, self.optimizer, found.optimizer)
            self.state = _State(**found.state["loop"])
            self._same_machine(found.state)
            self.console.print(f"resuming after step {step} of {self.total}", highlight=False)
        for name in ("metrics.jsonl", "row_losses.jsonl"):
            path = self.directory / name
            if path.exists():
                write_jsonl(path, [line for line in read_jsonl(path) if found and line["step"] <= step])

    def _same_machine(self, facts: Any) -> None:
        """Results repeat bit for bit only with the same threads and torch: set the one, report the other."""
        if facts["threads"] != torch.get_num_threads():
            torch.set_num_threads(facts["threads"])
        if facts["torch"] != torch.__version__:
            self.console.print(
                f"warning: the checkpoint was made with torch {facts['torch']}, this is {torch.__version__}: "
                "the result will not repeat bit for bit.",
                style="yellow",
            )

    def _made_of(self) -> str:
        """A digest of everything that decides the numbers, so that a checkpoint never continues another
        run.
        """
        config = self.config.model_dump(exclude={"save_every", "log_every"})
        digest = hashlib.sha256(json.dumps([config, self.seed], sort_keys=True).encode())
        for row in (*self.rows, *self.validation_rows):
            digest.update(row.id.encode() + row.tokens.tobytes() + row.weight.tobytes())
        return digest.hexdigest()


def _number(value: Any) -> int:
    """A resolved count; an `auto` that was not resolved is a mistake in the program, not of the user."""
    if not isinstance(value, int) or not math.isfinite(value):
        raise TrainError(f"A setting is not resolved: found {value!r}, expected a number.")
    return value
