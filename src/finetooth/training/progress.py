"""The progress bar of a training: loss, tokens a second, time left."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SMOOTHING = 0.9  # of the shown loss: single steps of a small batch jump too much to be read


class Bar:
    """A context manager that shows a bar on a terminal and nothing elsewhere."""

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
        """One step is done."""
        self._loss = loss if self._loss is None else SMOOTHING * self._loss + (1 - SMOOTHING) * loss
        self._progress.update(
            self._task, advance=1, loss=f"{self._loss:.4f}", rate=f"{tokens_per_second:,.0f}"
        )

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.stop()
