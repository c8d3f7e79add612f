"""Interpolation of a finished run's model with its base, so that general ability is kept: which share of the
change that training made to the weights, and what it does to retention and to the task's score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from finetooth.evaluation.retention import KEPT, PanelScores, retention, score_panel
from finetooth.model.api import Model
from finetooth.model.interpolation import Interpolation
from finetooth.runs.context import RunContext
from finetooth.runs.retention import rows_of_panel

SHARES = tuple(tenth / 10 for tenth in range(1, 10))


@dataclass(frozen=True, slots=True)
class Trial:
    """One share of the change. retention: of the model with it. score: of the task, None if not measured."""

    share: float
    retention: dict[str, Any]
    score: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The trial as plain JSON values."""
        return asdict(self)


class Interpolated:
    """The tuned model of a run on the line to its base's weights, and what its base knows of the panel."""

    def __init__(self, context: RunContext) -> None:
        self.margin = context.task.evaluate.retention_margin
        self._rows = rows_of_panel(context)
        with context.base() as base:
            self._before: PanelScores = score_panel(base, self._rows)
        self._line = line_of(context)

    def retention(self, share: float) -> dict[str, Any]:
        """What the model keeps of the base's general ability with this share; it then has these weights."""
        return retention(self._before, score_panel(self._line.move(share), self._rows), self.margin)


def line_of(context: RunContext) -> Interpolation:
    """The line between the weights of a run's base and of its tuned model, which `move` changes in memory."""
    if context.shares_base:
        return Interpolation(context.tuned())
    with context.base() as base:
        weights = base_weights(base)
    return Interpolation(context.tuned(), weights)


def base_weights(base: Model) -> dict[str, Tensor]:
    """The weights of a base by name, which stay in memory when the model is released."""
    return {name: weight.detach() for name, weight in base.hf.named_parameters()}


def kept_shares(of: Callable[[float], dict[str, Any]]) -> Iterator[Trial]:
    """Trials of SHARES from the smallest on, up to and including the first that is not proven to be kept.

    Every test has the full level although there are many: at a fixed order, and with the first failure as
    the end, a share whose loss exceeds the margin is called kept only if the test of the first such share
    errs (fixed-sequence procedure, Maurer, Hothorn and Lehmacher 1995).
    """
    for share in SHARES:
        trial = Trial(share, of(share))
        yield trial
        if trial.retention["verdict"] != KEPT:
            return


def chosen(trials: list[Trial]) -> Trial | None:
    """Of the trials that keep general ability the one with the best score; None where none keeps it.

    Of equal scores the smallest share, which forgets least; without scores the largest, which learned most.
    """
    kept = [trial for trial in trials if trial.retention["verdict"] == KEPT]
    if not kept:
        return None
    if any(trial.score is None for trial in kept):
        return kept[-1]
    return max(kept, key=lambda trial: (trial.score or 0.0, -trial.share))
