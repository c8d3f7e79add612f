"""What a training tells: lines in train/*.jsonl, words on the console, numbers for trackers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.config.task import TrainConfig
from finetooth.rundir import append_jsonl, read_jsonl, write_jsonl
from finetooth.training.monitor import TrainingFinding, TrainingMonitor
from finetooth.training.rl.monitor import RewardMonitor
from finetooth.training.selection import ValidationScore
from finetooth.training.trackers import Trackers

LOGS = ("metrics.jsonl", "row_losses.jsonl", "samples.jsonl", "findings.jsonl", "rollouts.jsonl")


class Journal:
    """Keeps the logs of a run's train/ directory, and names the trouble that they show.

    watch: what it remembers of the curves; its state goes into checkpoints. total: steps of the run.
    """

    def __init__(
        self,
        directory: Path,
        console: Console,
        config: TrainConfig,
        total: int,
        watch: TrainingMonitor | RewardMonitor,
    ) -> None:
        self.directory, self.console, self.config, self.total = directory, console, config, total
        self.watch = watch
        self._row_losses: list[dict[str, Any]] = []
        self._trackers = Trackers((), directory.parent, {}, 0, self.say)

    def trackers(self, step: int) -> Trackers:
        """The trackers that were asked for, after `step` steps, to be entered."""
        settings = self.config.model_dump(mode="json")
        self._trackers = Trackers(self.config.track, self.directory.parent, settings, step, self.say)
        return self._trackers

    def say(self, text: str) -> None:
        """One line for a person; a warning is yellow."""
        style = "yellow" if text.startswith("warning") else None
        self.console.print(text, style=style, highlight=False, soft_wrap=True)

    def step(self, line: dict[str, Any], row_loss: Mapping[str, float]) -> None:
        """A step's line of metrics.jsonl, and the loss of its rows by id."""
        step = line["step"]
        self._row_losses += [{"step": step, "id": id, "loss": loss} for id, loss in row_loss.items()]
        if step % self.config.log_every == 0 or step == self.total:
            self._metrics(line)
        self._name(self.watch.line(line, row_loss))

    def validation(
        self, step: int, loss: float, look: ValidationScore | None, metrics: Mapping[str, float] | None = None
    ) -> None:
        """A validation's loss, what the model answered, and the objective's metrics, as valid_NAME."""
        metrics = metrics or {}
        line: dict[str, Any] = {"step": step, "valid_loss": loss}
        line |= {f"valid_{name}": value for name, value in metrics.items()}
        shown = f", accuracy {metrics['accuracy']:.3f}" if "accuracy" in metrics else ""
        if look is not None and look.score is not None:
            line["valid_score"], shown = look.score, f"{shown}, score {look.score:.3f}"
        self._metrics(line)
        self.say(f"step {step} of {self.total}: validation loss {loss:.4f}{shown}")
        for sample in look.samples if look else ():
            append_jsonl(self.directory / "samples.jsonl", {"step": step, **sample})
            self.say(f"  {sample['id']}: {sample['text'][:80]!r} (wanted {sample['want'][:80]!r})")
        self._name(self.watch.validation(step, loss))

    def write_rows(self) -> None:
        """Append the losses of rows since the last time."""
        with (self.directory / "row_losses.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in self._row_losses)
        self._row_losses.clear()

    def cut(self, step: int | None) -> None:
        """Take out of the logs what is beyond this step, everything for None."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in LOGS:
            path = self.directory / name
            for leftover in self.directory.glob(f".{name}.*.tmp"):
                leftover.unlink()
            if path.exists():
                kept = [line for line in read_jsonl(path) if step is not None and line["step"] <= step]
                write_jsonl(path, kept)

    def _metrics(self, line: dict[str, Any]) -> None:
        append_jsonl(self.directory / "metrics.jsonl", line)
        self._trackers.log(line)

    def _name(self, findings: Sequence[TrainingFinding]) -> None:
        """Write findings down; say the first of each name."""
        for finding in findings:
            append_jsonl(self.directory / "findings.jsonl", finding.line())
            if finding.first:
                self.say(f"warning: {finding.name} at step {finding.step}: {finding.text}.")
