"""The training journal: log files under train/, console messages, progress bar and experiment trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from finetooth.config.task import TrainConfig
from finetooth.rundir import append_jsonl, read_jsonl, write_jsonl
from finetooth.training.monitor import Monitor, TrainingFinding
from finetooth.training.selection import ValidationScore
from finetooth.training.trackers import Trackers

LOGS = ("metrics.jsonl", "row_losses.jsonl", "samples.jsonl", "findings.jsonl", "rollouts.jsonl")
SMOOTHING = 0.9  # of the loss in the progress bar: single small batches are too noisy to read


class Journal:
    """Writes the logs of a run's train/ directory and reports the findings of its monitor.

    monitor: its state goes into checkpoints. total: steps of the run.
    """

    def __init__(
        self, directory: Path, console: Console, config: TrainConfig, total: int, monitor: Monitor
    ) -> None:
        self.directory, self.console, self.config, self.total = directory, console, config, total
        self.monitor = monitor
        self._row_losses: list[dict[str, Any]] = []
        self._trackers = Trackers((), directory.parent, {}, 0, self.report)

    def trackers(self, step: int) -> Trackers:
        """The configured trackers after `step` steps, to be entered as a context manager."""
        settings = self.config.model_dump(mode="json")
        self._trackers = Trackers(self.config.track, self.directory.parent, settings, step, self.report)
        return self._trackers

    def report(self, message: str) -> None:
        """Print one line; warnings are yellow."""
        style = "yellow" if message.startswith("warning") else None
        self.console.print(message, style=style, highlight=False, soft_wrap=True)

    def step(self, line: dict[str, Any], row_loss: Mapping[str, float]) -> None:
        """Log a step: its line of metrics.jsonl, and the loss of its rows by id."""
        step = line["step"]
        self._row_losses += [{"step": step, "id": id, "loss": loss} for id, loss in row_loss.items()]
        if step % self.config.log_every == 0 or step == self.total:
            self._log_metrics(line)
        self._log_findings(self.monitor.observe(line, row_loss))

    def validation(
        self, step: int, loss: float, answers: ValidationScore | None, metrics: Mapping[str, float]
    ) -> None:
        """Log a validation: loss, the model's answers, and the objective's metrics as valid_NAME."""
        line: dict[str, Any] = {"step": step, "valid_loss": loss}
        line |= {f"valid_{name}": value for name, value in metrics.items()}
        shown = f", accuracy {metrics['accuracy']:.3f}" if "accuracy" in metrics else ""
        if "retention" in metrics:
            shown += f", general ability {100 * metrics['retention']:+.1f} points"
        if answers is not None and answers.score is not None:
            line["valid_score"], shown = answers.score, f"{shown}, score {answers.score:.3f}"
            if answers.errors:
                line["valid_errors"] = answers.errors
                shown += (
                    f"; the grader failed on {answers.errors} of {answers.rows} answers, which count as 0"
                )
        self._log_metrics(line)
        self.report(f"step {step} of {self.total}: validation loss {loss:.4f}{shown}")
        samples = answers.samples if answers else ()
        append_jsonl(self.directory / "samples.jsonl", ({"step": step, **sample} for sample in samples))
        for sample in samples:
            self.report(f"  {sample['id']}: {sample['text'][:80]!r} (expected {sample['want'][:80]!r})")
        self._log_findings(self.monitor.validation(step, loss))

    def write_row_losses(self) -> None:
        """Append the row losses collected since the last call."""
        append_jsonl(self.directory / "row_losses.jsonl", self._row_losses)
        self._row_losses.clear()

    def truncate(self, step: int | None) -> None:
        """Remove from the logs everything after this step; everything if None."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in LOGS:
            path = self.directory / name
            for leftover in self.directory.glob(f".{name}.*.tmp"):
                leftover.unlink()
            if path.exists():
                kept = [line for line in read_jsonl(path) if step is not None and line["step"] <= step]
                write_jsonl(path, kept)

    def _log_metrics(self, line: dict[str, Any]) -> None:
        append_jsonl(self.directory / "metrics.jsonl", [line])
        self._trackers.log(line)

    def _log_findings(self, findings: Sequence[TrainingFinding]) -> None:
        """Record findings, and print the first of each name."""
        for finding in findings:
            append_jsonl(self.directory / "findings.jsonl", [finding.line()])
            if finding.first:
                self.report(f"warning: {finding}")


class ProgressBar:
    """A context manager that shows a progress bar (loss, tokens/s, time left) on a terminal only."""

    def __init__(self, console: Console, total: int, done: int) -> None:
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[rate]} tokens/s"),
            TimeRemainingColumn(),
        )
        off = console.quiet or not console.is_terminal
        self._progress = Progress(*columns, console=console, transient=True, disable=off)
        self._task = self._progress.add_task("training", total=total, completed=done, loss="-", rate="-")
        self._loss: float | None = None

    def advance(self, loss: float, tokens_per_second: float) -> None:
        """Count one step."""
        self._loss = loss if self._loss is None else SMOOTHING * self._loss + (1 - SMOOTHING) * loss
        rate = f"{tokens_per_second:,.0f}"
        self._progress.update(self._task, advance=1, loss=f"{self._loss:.4f}", rate=rate)

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.stop()
