"""The line of the first page on other seeds: what is claimed of the recipe, apart from the run's model."""

from __future__ import annotations

from finetooth.evaluation.recipes import MIN_SEEDS
from finetooth.evaluation.verdict_words import percent, points
from finetooth.report.evidence import Evidence, Line

CLAIMS = {"better": "better than the best prompt", "worse": "worse than a prompt"}


def seeds_line(evidence: Evidence) -> Line | None:
    """The scores of all seeds, and whether the recipe is better than the best prompt; None for one seed."""
    found = (evidence.summary or {}).get("recipe")
    if found is None:
        return None
    seeds, result = found["seeds"], found["comparison"]
    *scores, last = map(percent, found["scores"])
    words = (
        f"{len(seeds)} trainings that differ in the seed score {', '.join(scores)} and {last} on "
        f"{found['n']:,} validation rows (standard deviation {100 * found['spread']:.1f} points)"
    )
    if result is None:
        return Line("Other seeds", f"{words}.")
    if result["seeds"][1] < MIN_SEEDS:
        return Line("Other seeds", f"{words}; a verdict on the recipe takes {MIN_SEEDS} seeds.")
    words += (
        f"; with seeds as chance too, the recipe is {CLAIMS.get(result['verdict'], 'not proven better')}: "
        f"{points(result['difference'])} points to {result['baseline']} (95% CI {points(result['low'])} to "
        f"{points(result['high'])}). The verdict above is about the model of seed {seeds[0]}."
    )
    return Line("Other seeds", words, result["verdict"], result["verdict"].replace(" ", "-"))
