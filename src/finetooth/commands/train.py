"""`finetooth train TASK|RUN`: fine-tune, from the start or from where it stopped, and keep the best
weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.commands import workspace
from finetooth.commands.evaluate import trained_path
from finetooth.commands.setup import set_up
from finetooth.config import Task
from finetooth.errors import Interrupted
from finetooth.rundir import read_json, write_json
from finetooth.training.loop import Fit
from finetooth.training.sentinel import save_model, verify_saved
from finetooth.training.signals import stop_on_signals

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
        early = " (stopped early)" if self.result["stopped_early"] else ""
        console.print(
            f"Trained {self.result['steps']} steps{early}{shown}: {self.result['model']}",
            markup=False,
            soft_wrap=True,
        )
        console.print(f"Next: finetooth evaluate {self.path}", markup=False, soft_wrap=True)


def run(source: Task | Path, out: Path | None, console: Console, graded: bool = False) -> TrainReport:
    """Train a task, or continue a run directory. A run that is already trained is left as it is.

    graded: stop before training when the task's grader cannot be used. Raises Interrupted, with how to go on,
    after Ctrl-C or SIGTERM; the state is saved by then.
    """
    path = source if isinstance(source, Path) else workspace.run_path(source, out)
    task = workspace.load_config(path) if isinstance(source, Path) else source
    done = path / "train" / "result.json"
    if done.is_file() and trained_path(path) is not None and workspace.open_run(task, path) is not None:
        console.print(f"{path} is trained already.", highlight=False)
        return TrainReport(path, read_json(done))
    setup = set_up(task, path, console, graded)
    task = setup.task
    with stop_on_signals() as stop:
        result = Fit(  # not kept: the optimizer's state is as large as two models
            setup.model, setup.train_rows, setup.validation_rows, task.train, path, task.seed, console, stop
        ).run()
        saved = save_model(setup.model, path, setup.renderer.chat_template)
        rows = setup.train_rows[:CHECKED_ROWS]
        verify_saved(setup.model, saved, task.model, rows, task.seed, release=True)
        facts = {
            "steps": result.steps,
            "best_step": result.best_step,
            "best_loss": result.best_loss,
            "stopped_early": result.stopped_early,
            "rows": len(setup.train_rows),
            "model": str(saved),
        }
        write_json(done, facts)
        if stop():
            raise Interrupted(
                f"Stopped; the training has ended and is saved. Next: finetooth evaluate {path}"
            )
    return TrainReport(path, facts)
