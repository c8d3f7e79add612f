"""A prompt in a search, and its graded answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from finetooth.evaluation.prompting.spec import PromptSpec


@dataclass(frozen=True, slots=True)
class Trial:
    """A prompt in the search. calibration: of label scores: none, contextual or batch."""

    spec: PromptSpec
    calibration: str = "none"

    @property
    def title(self) -> str:
        """The prompt in a few words, for tables."""
        return f"{self.spec.title}{f', {self.calibration} calibration' * (self.calibration != 'none')}"


@dataclass(frozen=True, slots=True)
class RowResult:
    """One graded answer. likelihood: probability of the right label among the labels; 0 without labels."""

    score: float
    likelihood: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The answers of one trial to the first selection rows; confirmed: to the confirmation rows."""

    trial: Trial
    selected: Sequence[RowResult]
    confirmed: Sequence[RowResult] = field(default=())

    @property
    def score(self) -> float:
        """The mean score over all rows that were answered."""
        return fmean(row.score for row in (*self.selected, *self.confirmed))

    @property
    def prompt_tokens(self) -> float:
        """Mean length of the prompt."""
        return fmean(row.prompt_tokens for row in self.selected)

    @property
    def completion_tokens(self) -> float:
        """Mean length of the answer."""
        return fmean(row.completion_tokens for row in self.selected)

    @property
    def rank(self) -> tuple[float, float, float]:
        """Sorts the better first: by score, then by the right labels' probability, then the cheaper."""
        likelihood = fmean(row.likelihood for row in self.selected)
        return -self.score, -likelihood, self.prompt_tokens

    @property
    def final_rank(self) -> tuple[float, float]:
        """Sorts the better first; of equal scores the cheaper."""
        return -self.score, self.prompt_tokens
