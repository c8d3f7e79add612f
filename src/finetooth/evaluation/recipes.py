"""The claim about a recipe (data and settings) beside that about one checkpoint that it gave.

A paired test on rows says whether these weights are better than others. Another seed of the same recipe gives
other weights, so two trainings of one recipe are "different" far too often (docs/log.md). A claim about the
recipe takes the seeds as a sample too: the error of a difference has a part from the rows and one from each
recipe's seeds.

Axes: S seeds, R rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from finetooth.errors import GradeError
from finetooth.evaluation import resampling
from finetooth.evaluation.statistics import ALPHA, MIN_ROWS, Verdict, verdict_over_prompts
from finetooth.evaluation.summary import TUNED
from finetooth.evaluation.verdict_words import percent, points

MODELS_ONLY = (
    "These are claims about models, not about the recipes (data and settings) that gave them: another seed "
    "of one recipe gives another score. With train.seeds: 3 in every run the recipes are compared too, on "
    "the validation rows."
)
MIN_SEEDS = 3  # with two the seeds' variance has one degree of freedom, and nearly nothing can be shown


@dataclass(frozen=True, slots=True)
class RecipeComparison:
    """Candidate minus baseline, over all seeds of both and n rows in `units` independent observations.

    seeds: of baseline and candidate; 1 for what has none, as a prompt. scores: their means. spread: standard
    deviation of the score between seeds, each; None for one seed. p: two-sided.
    """

    n: int
    units: int
    seeds: tuple[int, int]
    scores: tuple[float, float]
    spread: tuple[float | None, float | None]
    difference: float
    low: float
    high: float
    p: float
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """The comparison as it is read back from JSON."""
        return {key: list(of) if isinstance(of, tuple) else of for key, of in asdict(self).items()}


def compare_recipes(
    baseline: Sequence[Sequence[float]],
    candidate: Sequence[Sequence[float]],
    clusters: Sequence[str] | None = None,
    alpha: float = ALPHA,
    fixed: bool = False,
) -> RecipeComparison:
    """The comparison of two recipes by their scores, a list of rows for each seed, in one order of rows.

    Seeds and rows are crossed random effects: the variance of the difference is that of the rows (of their
    means over seeds, by cluster) plus that of each recipe's seeds, with Satterthwaite's degrees of freedom
    (1946, Biometrics Bull. 2:110). fixed: the baseline has no seeds, as a prompt. A verdict needs MIN_SEEDS
    of each recipe, and MIN_ROWS rows or clusters. GradeError for no rows or rows that do not match.
    """
    base_SR, other_SR = (np.asarray(scores, dtype=np.float64) for scores in (baseline, candidate))
    if base_SR.ndim != 2 or other_SR.ndim != 2 or base_SR.shape[1:] != other_SR.shape[1:] or not base_SR.size:
        raise GradeError("Recipes are compared by the scores of the same rows for each seed.")
    arms = (base_SR, other_SR)
    sum_U, size_U = resampling.cluster_totals(other_SR.mean(0) - base_SR.mean(0), clusters)
    difference = float(sum_U.sum() / size_U.sum())
    parts = [(resampling.standard_error(sum_U, size_U) ** 2, resampling.degrees_of_freedom(size_U))]
    spread = []
    for arm_SR in arms:
        seeds = len(arm_SR)
        spread.append(float(arm_SR.mean(1).std(ddof=1)) if seeds > 1 else None)
        if seeds > 1:
            parts.append(((spread[-1] or 0.0) ** 2 / seeds, seeds - 1))
    variance = sum(part for part, _ in parts)
    if variance < 1e-24:  # every row has one and the same difference, in every seed
        low, high = resampling.student(sum_U, size_U, 1 - alpha)
        p = resampling.sign_flip(sum_U)
    else:
        freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
        error = math.sqrt(variance)
        half = float(stats.t.ppf(1 - alpha / 2, freedom)) * error
        low, high = difference - half, difference + half
        p = float(2 * stats.t.sf(abs(difference) / error, freedom))
    counts = len(base_SR), len(other_SR)
    enough = counts[1] >= MIN_SEEDS and (fixed or counts[0] >= MIN_SEEDS) and sum_U.size >= MIN_ROWS
    verdict: Verdict = "not proven"
    if enough and p < alpha:
        verdict = "better" if difference > 0 else "worse"
    means = float(base_SR.mean()), float(other_SR.mean())
    bounds = max(-1.0, low), min(1.0, high)
    return RecipeComparison(
        base_SR.shape[1],
        sum_U.size,
        counts,
        means,
        (spread[0], spread[1]),
        difference,
        *bounds,
        p,
        verdict,
    )


def over_prompts(
    prompts: Mapping[str, Sequence[float]],
    tuned: Sequence[Sequence[float]],
    clusters: Sequence[str] | None = None,
    alpha: float = ALPHA,
) -> dict[str, Any]:
    """The scores of a recipe's seeds, and the recipe against every prompt, on the same rows.

    prompts: scores by name. `comparison` is that with the strongest prompt, None without prompts; its verdict
    is over all of them (`statistics.verdict_over_prompts`).
    """
    scores = [float(np.mean(of)) for of in tuned]
    found: dict[str, Any] = {
        "n": len(tuned[0]),
        "scores": scores,
        "mean": float(np.mean(scores)),
        "spread": float(np.std(scores, ddof=1)),
        "comparison": None,
    }
    if not prompts:
        return found
    compared = {
        name: compare_recipes([of], tuned, clusters, alpha, fixed=True) for name, of in prompts.items()
    }
    verdict, _ = verdict_over_prompts([(one.verdict, one.p) for one in compared.values()], alpha)
    strongest = max(compared, key=lambda name: compared[name].scores[0])
    about = {"baseline": strongest, "candidate": TUNED}
    return {**found, "comparison": {**about, **compared[strongest].to_json(), "verdict": verdict}}


def recipe_words(seeds: Sequence[int], found: Mapping[str, Any]) -> str:
    """What is claimed of the recipe, in sentences, apart from the claim about the run's model."""
    each = ", ".join(
        f"seed {seed} {percent(score)}" for seed, score in zip(seeds, found["scores"], strict=True)
    )
    words = (
        f"Of the recipe: {len(seeds)} trainings that differ in the seed score {percent(found['mean'])} on "
        f"average on {found['n']:,} validation rows ({each}; standard deviation {100 * found['spread']:.1f} "
        "points)"
    )
    if (result := found["comparison"]) is None:
        return f"{words}."
    if result["seeds"][1] < MIN_SEEDS:
        return f"{words}; a verdict on it needs {MIN_SEEDS} seeds."
    known = {"better": "better than the best prompt", "worse": "worse than a prompt"}
    verdict = known.get(result["verdict"], "not proven better")
    return (
        f"{words}. With seeds and rows as chance it is {verdict}: "
        f"{points(result['difference'])} points to {result['baseline']}, 95% confidence interval "
        f"{points(result['low'])} to {points(result['high'])}. What stands before is about the model of seed "
        f"{seeds[0]} alone."
    )


def compared_words(found: Mapping[str, Any], adjusted: bool) -> str:
    """What `compare` claims of two recipes, apart from their models. adjusted: p, for several comparisons."""
    p = "p < 0.001" if found["p_adjusted"] < 0.001 else f"p = {found['p_adjusted']:.3f}"
    one, two = map(percent, found["scores"])
    words = (
        f"That is about these two models. The recipes, over {found['seeds'][1]} and {found['seeds'][0]} "
        f"seeds, score {two} and {one} on average, a difference of {points(found['difference'])} points, 95% "
        f"confidence interval {points(found['low'])} to {points(found['high'])} "
        f"({'adjusted ' if adjusted else ''}{p}): {found['verdict']}."
    )
    few = min(found["seeds"]) < MIN_SEEDS
    return f"{words} A verdict on recipes needs {MIN_SEEDS} seeds of each." if few else words
