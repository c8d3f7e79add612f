"""The part of a page that says the verdict: headline, badges, words, and the chart of the difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetooth.evaluation import form
from finetooth.evaluation.graders import PREFERENCE, without_options
from finetooth.evaluation.preference import BY_LENGTH
from finetooth.evaluation.proof import shown_look
from finetooth.evaluation.summary import BAG_OF_WORDS
from finetooth.report.charts import difference_bar

HEADLINES = {
    "better": "Better than",
    "worse": "Worse than",
    "not proven": "Not proven better than",
}
SIMPLE_NAMES = {BAG_OF_WORDS: "word counts", BY_LENGTH: "answer lengths"}
RIGHT_OR_WRONG = ("label", "exact", "number")  # graders that score 1 or 0, so that a score is a rate of rows


def simple_badges(summary: Mapping[str, Any]) -> list[str]:
    """What a baseline without a language model is to the tuned model, where that does not beat it."""
    found = []
    for name, paired in (summary.get("simple_baselines") or {}).items():
        shown = SIMPLE_NAMES[name]
        if paired["verdict"] == "worse":
            found.append(f"{shown} do better")
        elif paired["verdict"] != "better":
            found.append(f"not proven better than {shown}")
    return found


def rows_in_words(split: str) -> str:
    """The rows of an evaluation; a split that is no side of the run is the name of a file of new rows."""
    return {"test": "the sealed test", "validation": "the validation rows"}.get(split, f"the rows of {split}")


def verdict(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict for the head of a page: headline, badges, words, and the chart of the difference."""
    result = summary.get("comparison")
    where = rows_in_words(summary["split"])
    where += f" ({shown})" if (shown := shown_look(summary)) else ""
    claim = summary.get("words", "").removesuffix(summary.get("recipe", {}).get("words", "")).strip()
    words = claim.partition(": ")[2]  # the headline has what stands before the colon
    words = words[:1].upper() + words[1:]
    if not result:
        return {
            "kind": "none",
            "headline": "No verdict",
            "where": where,
            "words": words,
            "plainly": "",
            "badges": [],
        }
    badges = simple_badges(summary) + ["gain in form alone"] * form.by_form_alone(result)
    but = ", but " if result["verdict"] == "better" else "; "
    base = "best prompt" if summary["grader"] != PREFERENCE else "untuned model"
    return {
        **result,
        "kind": result["verdict"].replace(" ", "-"),
        "headline": f"{HEADLINES[result['verdict']]} the {base}" + "".join(but + badge for badge in badges),
        "badges": badges,
        "where": where,
        "n": summary["n"],
        "groups": summary.get("groups"),
        "words": words,
        "plainly": in_plain_words(summary, result),
        "again": summary.get("asked_again"),
        "chart": difference_bar(
            result["difference"],
            result["low"],
            result["high"],
            result["verdict"],
            (f"{base} better", "tuned model better"),
        ),
    }


def in_plain_words(summary: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """The scores as numbers of rows, for graders that call a row right or wrong; else ""."""
    by_name = {entry["name"]: entry for entry in summary["candidates"]}
    base, tuned = by_name[result["baseline"]], by_name[result["candidate"]]
    if without_options(summary["grader"]) not in RIGHT_OR_WRONG or None in (base["score"], tuned["score"]):
        return ""
    low, high = (round(100 * tuned[key]) for key in ("low", "high"))
    return (
        f"Of 100 rows like these, the tuned model answers about {100 * tuned['score']:.0f} correctly (95% "
        f"confidence: {low} to {high}), the best prompt about {100 * base['score']:.0f}."
    )
