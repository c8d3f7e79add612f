"""The line of the first page on other seeds: what is claimed of the recipe, apart from the run's model."""

from __future__ import annotations

from finetooth.evaluation.recipes import MIN_SEEDS, recipe_claim
from finetooth.report.evidence import Evidence, Line


def seeds_line(evidence: Evidence) -> Line | None:
    """The scores of all seeds, and whether the recipe is better than the best prompt; None for one seed."""
    found = (evidence.summary or {}).get("recipe")
    if found is None:
        return None
    claim, result = recipe_claim(found["seeds"], found), found["comparison"]
    if result is None or result["seeds"][1] < MIN_SEEDS:
        return Line("Other seeds", claim)
    words = f"{claim} The verdict above is about the model of seed {found['seeds'][0]} alone."
    return Line("Other seeds", words, result["verdict"], result["verdict"].replace(" ", "-"))
