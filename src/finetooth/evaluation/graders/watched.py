"""Graders that run in the worker process, because what a file says could make them run for ever."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetooth.config.evaluate_keys import GRADER_SECONDS
from finetooth.data.watched import Failed, Worker
from finetooth.errors import GradeError
from finetooth.evaluation.graders.custom import GraderStopped
from finetooth.types import Example, Score

LOAD_SECONDS = 60.0  # a grader's file may import large libraries
BATCH = 256  # answers of one message
_WORKER = Worker("finetooth.evaluation.graders.worker")


class WatchedGrader:
    """A grader that the worker runs. kind: function, regex or json; value: its name, or its options.

    name: for messages. Raises GradeError when it cannot be loaded, and GraderStopped when an answer takes
    longer than `seconds` or the grader ends its process.
    """

    def __init__(self, kind: str, value: Any, folder: Path | None, name: str, seconds: float) -> None:
        self.what = f"evaluate.grader: {name if len(name) <= 200 else name[:199] + '…'}"
        self.seconds = seconds
        self._source = kind, value, folder
        self._load()

    def _load(self) -> None:
        self._handle: int = _load(*self._source, self.what, self.seconds)["handle"]
        self._loaded_in = _WORKER.restarts

    def __call__(self, example: Example, text: str) -> Score:
        """The score of one answer."""
        return self.grade_all([(example, text)])[0]

    def grade_all(self, pairs: Sequence[tuple[Example, str]]) -> list[Score]:
        """The scores of several answers: one message to the worker, and one back for each as it is ready."""
        scores: list[Score] = []
        for start in range(0, len(pairs), BATCH):
            if _WORKER.start() != self._loaded_in:
                self._load()
            part = list(pairs[start : start + BATCH])
            try:
                for answer in _WORKER.ask_each(
                    "grade", [(self._handle, *pair) for pair in part], self.seconds
                ):
                    scores.append(Score(*answer))
            except Failed as failed:
                row = pairs[len(scores)][0].id
                raise GraderStopped(
                    f"{self.what} {failed} on row {row}. {_remedy(failed, self.seconds)}"
                ) from None
        return scores


def file_of(name: str, folder: Path | None) -> str | None:
    """The file of a custom grader, None for a module without one. GradeError when it cannot be loaded."""
    found: str | None = _load("function", name, folder, f"evaluate.grader: {name}", GRADER_SECONDS)["file"]
    return found


def _load(kind: str, value: Any, folder: Path | None, what: str, seconds: float) -> dict[str, Any]:
    limit = max(seconds, LOAD_SECONDS if kind == "function" else 0.0)
    try:
        loaded: dict[str, Any] = _WORKER.ask("load", kind, value, folder, str(Path.cwd()), seconds=limit)
    except Failed as failed:
        raise GradeError(f"{what} {failed} while it was loaded. {_remedy(failed, limit)}") from None
    if "error" in loaded:
        raise GradeError(loaded["error"])
    return loaded


def _remedy(failed: Failed, seconds: float) -> str:
    if "longer than" not in str(failed):
        return "Nothing was written as its result. Mend it, then run the same command again."
    return f"Mend it, or raise the limit: --evaluate.grader_seconds {max(60, round(seconds) * 10)}"
