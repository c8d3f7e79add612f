"""A bounded search for the best prompt: successive halving on some rows, confirmation on others.

All prompts of the pool answer a few rows; the better half answers twice as many, until a few have answered
all selection rows. The best of them is tried in other layouts, and in the best layout with other instructions
and without the list of labels. The finalists and zero-shot then answer the confirmation rows, which decided
nothing before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from finetooth.errors import ConfigError
from finetooth.evaluation.prompting.layouts import LAYOUTS, TURNS
from finetooth.evaluation.prompting.spec import PromptSpec

FINALISTS = 3
FEWEST = 8  # selection rows
FIRST = 6  # the first rung has a sixth of the selection rows
COUNTS = (4, 2, 8, 1)  # demonstrations, the most useful number first


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


# score(trial, rows, fitted_on): the answers to these rows; batch calibration is fitted on the other rows.
Score = Callable[[Trial, Sequence[int], Sequence[int]], list[RowResult]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many rows which prompts answer. rungs: (prompts, selection rows answered in all by each)."""

    rungs: tuple[tuple[int, int], ...]
    variants: int
    select: int
    confirm: int

    @property
    def cost(self) -> int:
        """Rows that are answered, at most."""
        before, total = 0, 0
        for prompts, rows in self.rungs:
            total += prompts * (rows - before)
            before = rows
        zero_shot = self.select - self.rungs[0][1]
        return total + zero_shot + self.variants * self.select + (FINALISTS + 1) * self.confirm


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What the search found.

    results: of each trial that was kept to the end or fell in a rung, the best first. winner: the best
    finalist by all rows, or zero-shot where the confirmation rows did not bear it out (confirmed: false).
    layouts: the score of the winning demonstrations in each layout, over the selection rows.
    """

    plan: Plan
    results: Sequence[TrialResult]
    finalists: Sequence[TrialResult]
    winner: TrialResult
    confirmed: bool
    layouts: dict[str, float]


def pool(draws: int = 2) -> list[PromptSpec]:
    """The prompts of the ladder's first rung, the most useful first; the last are left out of small budgets.

    Zero-shot, then {4, 2, 8, 1} demonstrations: nearest by BM25 and by the model's vectors, balanced and
    random, the drawn ones in several draws.
    """
    specs = [PromptSpec()]
    for count in COUNTS:
        specs += [PromptSpec(shots=count, demonstrations=how) for how in ("bm25", "vectors")]
        specs += [PromptSpec(shots=count, demonstrations=how, draw=1) for how in ("balanced", "random")]
    for draw in range(2, draws + 1):
        specs += [
            PromptSpec(shots=count, demonstrations=how, draw=draw)
            for count in COUNTS
            for how in ("balanced", "random")
        ]
    return specs


def make_plan(prompts: int, variants: int, select: int, confirm: int, budget: int) -> Plan:
    """The plan with the most rows that stays within the budget; of small budgets with fewer prompts.

    Raises ConfigError for a budget that is too small for two prompts.
    """
    while prompts > 1:
        for rows in range(max(select, 1), min(FEWEST, select) - 1, -1):
            plan = Plan(_rungs(prompts, rows), variants, rows, min(confirm, rows))
            if plan.cost <= budget:
                return plan
        prompts -= 1
    raise ConfigError(
        f"--budget {budget}: too few answers to compare prompts; at least {plan.cost} are needed with "
        f"{variants} other layouts and instructions."
    )


def _rungs(prompts: int, rows: int) -> tuple[tuple[int, int], ...]:
    rungs = [(prompts, max(min(4, rows), -(-rows // FIRST)))]
    while rungs[-1][0] > FINALISTS:
        prompts, answered = rungs[-1]
        rungs.append((max(FINALISTS, -(-prompts // 2)), min(rows, 2 * answered)))
    return (*rungs, (rungs[-1][0], rows))


def search(
    specs: Sequence[PromptSpec],
    layouts: Sequence[str],
    instructions: Sequence[str],
    score: Score,
    calibrations: Sequence[str],
    select: Sequence[int],
    confirm: Sequence[int],
    budget: int,
) -> SearchResult:
    """Search for the best prompt with at most `budget` answers.

    specs: the pool, zero-shot first. layouts, instructions: tried on the best of them, one after the other.
    calibrations: tried on every prompt for nothing, since they need no further answers; ("none",) without
    labels, else the list of labels is left out, too. select, confirm: indices of rows. Raises ConfigError for
    a budget that is too small.
    """
    others = [name for name in layouts if name != TURNS.name]
    changes: list[dict[str, Any]] = [{"instruction": text} for text in instructions]
    changes += [{"labels": False}] if len(calibrations) > 1 else []
    plan = make_plan(len(specs), len(others) + len(changes), len(select), len(confirm), budget)
    select, confirm = select[: plan.select], confirm[: plan.confirm]

    def best(spec: PromptSpec, rows: Sequence[int]) -> TrialResult:
        every = len(rows) == len(select)  # contextual calibration takes answers of its own
        found = [Trial(spec, one) for one in calibrations if every or one != "contextual"]
        return min((TrialResult(one, score(one, rows, rows)) for one in found), key=lambda one: one.rank)

    alive = [*specs[: plan.rungs[0][0]]]
    fallen: list[TrialResult] = []
    for (_, rows), (keep, _) in zip(plan.rungs, [*plan.rungs[1:], plan.rungs[-1]], strict=True):
        ranked = sorted((best(spec, select[:rows]) for spec in alive), key=lambda one: one.rank)
        alive = [one.trial.spec for one in ranked[:keep]]
        fallen = [*ranked[keep:], *fallen]
    ended = ranked[:keep]
    top = ended[0].trial.spec
    in_layout = {name: best(replace(top, layout=name), select) for name in others}
    laid = min((ended[0], *in_layout.values()), key=lambda one: one.rank).trial.spec
    changed = [best(replace(laid, **change), select) for change in changes]
    zero_shot = Trial(specs[0])
    ended = sorted([*ended, *in_layout.values(), *changed], key=lambda one: one.rank)
    final = [*ended[:FINALISTS]]
    if zero_shot not in [one.trial for one in final]:
        final.append(TrialResult(zero_shot, score(zero_shot, select, select)))
    final = [replace(one, confirmed=score(one.trial, confirm, select)) for one in final]
    final.sort(key=lambda one: one.final_rank)
    plain = next(one for one in final if one.trial == zero_shot)
    winner = final[0]
    confirmed = _mean(winner.confirmed) >= _mean(plain.confirmed)
    known = {one.trial for one in final}
    spread = {TURNS.name: best(top, select), **in_layout}
    return SearchResult(
        plan,
        [*final, *(one for one in (*ended, *fallen) if one.trial not in known)],
        final,
        winner if confirmed else plain,
        confirmed,
        {name: one.score for name, one in spread.items() if name in LAYOUTS},
    )


def _mean(results: Sequence[RowResult]) -> float:
    return fmean(row.score for row in results) if results else 0.0
