"""A bounded search for the best prompt: successive halving on some rows, confirmation on others.

All prompts of the pool answer a few rows; the better half answers twice as many, until a few have answered
all selection rows. The best of them is tried in other layouts, and in the best layout with other instructions
and without the list of labels. An optimiser, where there is one, then improves the best prompt's instruction
on the selection rows, with half of the budget. The finalists and zero-shot answer the confirmation rows,
whose answers decided nothing before; their questions serve batch calibration, which reads no answer.

What is chosen by few rows is chosen by their noise, so the search chooses little (docs/log.md has the
measurements behind each): label scores are calibrated in one way for all prompts, by all of their answers;
a small budget asks fewer prompts before it asks fewer rows; and the pool begins with what is good most often.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetooth.errors import ConfigError
from finetooth.evaluation.prompting.layouts import LAYOUTS, TURNS
from finetooth.evaluation.prompting.optimizer import Bench, BudgetSpent, Optimizer
from finetooth.evaluation.prompting.spec import PromptSpec
from finetooth.evaluation.prompting.trials import RowResult, Trial, TrialResult

FINALISTS = 3
FEWEST = 8  # selection rows
FEWEST_PROMPTS = 12  # before there are fewer selection rows
FEWEST_QUESTIONS = 4  # that batch calibration is fitted on
FIRST = 6  # the first rung has a sixth of the selection rows
NONE, BATCH, CONTEXTUAL = "none", "batch", "contextual"  # calibrations of label scores


# score(trial, rows, fitted_on): the answers to rows; batch calibration reads the questions of `fitted_on`.
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
    layouts: the score of the pool's best prompt in each layout, over the selection rows. optimized: the
    optimiser's answers and finished instructions; None without one.
    """

    plan: Plan
    results: Sequence[TrialResult]
    finalists: Sequence[TrialResult]
    winner: TrialResult
    confirmed: bool
    layouts: dict[str, float]
    optimized: tuple[int, int] | None = None


def pool(labels: bool) -> list[PromptSpec]:
    """The prompts of the ladder's first rung, the most useful first; the last are left out of small budgets.

    Zero-shot, and {1, 2, 4, 8, 16} demonstrations: nearest by BM25 and by the model's vectors, random, and
    with labels also balanced over them; of many demonstrations, three draws.
    """
    ways = ("balanced", "random") if labels else ("random",)

    def drawn(draw: int, *counts: int) -> list[PromptSpec]:
        return [PromptSpec(shots=n, demonstrations=how, draw=draw) for n in counts for how in ways]

    def nearest(*counts: int) -> list[PromptSpec]:
        return [PromptSpec(shots=n, demonstrations=how) for n in counts for how in ("bm25", "vectors")]

    first = [PromptSpec(), *drawn(1, 8), *nearest(4), *drawn(1, 4, 16), *nearest(2)]
    return [*first, *drawn(2, 8, 4, 16), *drawn(1, 2, 1), *drawn(3, 8, 4, 16), *nearest(8, 1)]


def make_plan(
    prompts: int, variants: int, select: int, confirm: int, budget: int, optimized: bool = False
) -> Plan:
    """The plan with the most rows that stays within the budget, and of these the one with the most prompts.

    Fewer than FEWEST_PROMPTS only where that is still too much with FEWEST rows. optimized: half of the
    budget is an optimiser's. Raises ConfigError for a budget that is too small for two prompts.
    """
    shares = 1 + optimized
    fewest_rows, fewest_prompts = min(FEWEST, max(select, 1)), min(FEWEST_PROMPTS, prompts)
    most_rows = max(1, min(select, budget))
    sizes = (
        (count, rows)
        for rows in range(most_rows, fewest_rows - 1, -1)
        for count in range(prompts, fewest_prompts - 1, -1)
    )
    for count, rows in chain(sizes, ((count, fewest_rows) for count in range(fewest_prompts - 1, 1, -1))):
        plan = Plan(_rungs(count, rows), variants, rows, min(confirm, rows))
        if plan.cost <= budget // shares:
            return plan
    raise ConfigError(
        f"--budget {budget}: too few answers to compare prompts; at least {shares * plan.cost} are needed "
        f"with {variants} other layouts and instructions{' and an optimiser' * optimized}."
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
    optimizer: Optimizer | None = None,
    instruction: str = "",
) -> SearchResult:
    """Search for the best prompt with at most `budget` answers.

    specs: the pool, zero-shot first. layouts, instructions: tried on the best of them, one after the other.
    calibrations: of label scores, one of them for all prompts, found by their answers; ("none",) without
    labels, else the list of labels is left out, too. select, confirm: indices of rows. optimizer: gets half
    of the budget. instruction: the task's, of prompts without one of their own. Raises ConfigError for a
    budget that is too small.
    """
    others = [name for name in layouts if name != TURNS.name]
    changes: list[dict[str, Any]] = [{"instruction": text} for text in instructions]
    changes += [{"labels": False}] if len(calibrations) > 1 else []
    sizes = len(specs), len(others) + len(changes), len(select), len(confirm)
    plan = make_plan(*sizes, budget, optimizer is not None)
    select, confirm = select[: plan.select], confirm[: plan.confirm]

    def asked(trial: Trial, rows: Sequence[int]) -> TrialResult:
        return TrialResult(trial, score(trial, rows, rows))

    ended, fallen, calibration = _halve(specs, calibrations, asked, select, plan)

    def best(spec: PromptSpec, rows: Sequence[int]) -> TrialResult:
        return asked(Trial(spec, calibration), rows)

    top = ended[0].trial.spec
    in_layout = {name: best(replace(top, layout=name), select) for name in others}
    laid = min((ended[0], *in_layout.values()), key=lambda one: one.rank).trial.spec
    changed = [best(replace(laid, **change), select) for change in changes]
    zero_shot = Trial(specs[0])
    ended = sorted([*ended, *in_layout.values(), *changed], key=lambda one: one.rank)
    optimized = None
    if optimizer is not None:
        optimized, proposed = _optimize(optimizer, ended, instruction, best, select, budget // 2)
        ended = sorted([*ended, *proposed[:1]], key=lambda one: one.rank)
        fallen = [*proposed[1:], *fallen]
    final = [*ended[:FINALISTS]]
    if zero_shot not in [one.trial for one in final]:
        final.append(TrialResult(zero_shot, score(zero_shot, select, select)))
    both = [*select, *confirm]
    confirmed_by = [score(one.trial, confirm, both) for one in final]
    final = [
        replace(one, selected=score(one.trial, select, both), confirmed=confirmed)
        for one, confirmed in zip(final, confirmed_by, strict=True)
    ]
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
        optimized,
    )


def _halve(
    specs: Sequence[PromptSpec],
    calibrations: Sequence[str],
    asked: Callable[[Trial, Sequence[int]], TrialResult],
    select: Sequence[int],
    plan: Plan,
) -> tuple[list[TrialResult], list[TrialResult], str]:
    """Those that answered all selection rows, and those that fell, the best first; and the calibration."""
    alive, fallen = [*specs[: plan.rungs[0][0]]], list[TrialResult]()
    for (_, rows), (keep, _) in zip(plan.rungs, [*plan.rungs[1:], plan.rungs[-1]], strict=True):
        all_rows = rows == len(select)
        results = {
            one: [asked(Trial(spec, one), select[:rows]) for spec in alive]
            for one in calibrations
            if _can_calibrate(one, rows, all_rows)
        }
        calibration = better_calibration(results)
        ranked = sorted(results[calibration], key=lambda one: one.rank)
        alive = [one.trial.spec for one in ranked[:keep]]
        fallen = [*ranked[keep:], *fallen]
    return ranked[:keep], fallen, calibration


def _can_calibrate(name: str, questions: int, all_rows: bool) -> bool:
    """Contextual calibration takes answers of its own; offsets of very few questions are noise."""
    return {BATCH: questions >= FEWEST_QUESTIONS, CONTEXTUAL: all_rows}.get(name, True)


def better_calibration(results: Mapping[str, Sequence[TrialResult]]) -> str:
    """The calibration of all prompts, by the answers of all of them to the same rows under each.

    Batch calibration, where label scores can be calibrated, unless the prompts are together right more often
    under another one, by more than a standard error over the rows. Chosen for each prompt, by the few rows
    that it has answered, it would be noise.
    """
    usual = BATCH if BATCH in results else NONE
    right_R = _right_by_row(results[usual])
    gains = {}
    for name in (one for one in results if one != usual):
        gain_R = _right_by_row(results[name]) - right_R
        gains[name] = gain_R.mean() - (gain_R.std(ddof=1) / len(gain_R) ** 0.5 if len(gain_R) > 1 else 1.0)
    best = max(gains, key=lambda name: gains[name], default=usual)
    return best if gains.get(best, 0.0) > 0 else usual


def _right_by_row(results: Sequence[TrialResult]) -> NDArray[np.float64]:
    """The mean score of all prompts on each row: [R]."""
    score_PR = np.array([[row.score for row in one.selected] for one in results])
    return np.asarray(score_PR.mean(axis=0))


def _optimize(
    optimizer: Optimizer,
    ended: Sequence[TrialResult],
    instruction: str,
    best: Callable[[PromptSpec, Sequence[int]], TrialResult],
    select: Sequence[int],
    budget: int,
) -> tuple[tuple[int, int], list[TrialResult]]:
    """The optimiser's answers and finished instructions, and the prompts with these, the best first.

    ended: the search so far, the best first, which it begins with.
    """
    parent, known = ended[0].trial.spec, {one.trial for one in ended}
    start = instruction if parent.instruction is None else parent.instruction

    def spec(text: str) -> PromptSpec:
        return parent if text == start else replace(parent, instruction=text)

    bench = Bench(start, select, budget, lambda text, rows: best(spec(text), rows).selected)
    with suppress(BudgetSpent):
        optimizer(bench)
    found = [best(spec(text), select) for text in bench.finished]
    proposed = sorted((one for one in found if one.trial not in known), key=lambda one: one.rank)
    return (bench.asked, len(bench.finished)), proposed


def _mean(results: Sequence[RowResult]) -> float:
    return fmean(row.score for row in results) if results else 0.0
