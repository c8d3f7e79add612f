"""The line of the first page that answers: is fine-tuning needed, and what does an answer cost?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetooth.evaluation.graders import PERPLEXITY, PREFERENCE, without_options
from finetooth.evaluation.prompting.advice import MARGIN, money, recommend
from finetooth.evaluation.verdict_words import percent, points
from finetooth.report.evidence import Evidence, Line
from finetooth.report.prompting_part import efforts
from finetooth.report.verdict_part import SIMPLE_NAMES

BADGES = {"fine-tune": ("yes", "better"), "prompting is enough": ("no", "worse")}


def price_of(evidence: Evidence, entry: Mapping[str, Any]) -> float | None:
    """What a thousand answers of a candidate cost; None without a price or a language model."""
    given = evidence.config.get("evaluate") or {}
    prices = given.get("price_in"), given.get("price_out")
    if prices == (None, None) or not entry["prompt_tokens"]:
        return None
    each = money(entry["prompt_tokens"], entry["completion_tokens"], prices[0] or 0.0, prices[1] or 0.0)
    return 1000 * each


def need_line(evidence: Evidence) -> Line | None:
    """Yes, no or not proven; then the tokens of an answer, its price, and when training is paid back."""
    summary = evidence.summary
    if summary is None or not (result := summary.get("comparison")):
        return None
    if without_options(summary["grader"]) in (PERPLEXITY, PREFERENCE):
        return None
    advice = recommend(summary, efforts(evidence.path, {})["training"]["computed_tokens"] or None)
    badge, kind = BADGES.get(advice.outcome, ("not proven", "not-proven"))
    instead = _simpler(summary)
    if instead and instead[0] == "worse":
        badge, kind = "no", "worse"
    elif instead and badge == "yes":
        badge, kind = "not proven", "not-proven"
    by_name = {entry["name"]: entry for entry in summary["candidates"]}
    prompt, tuned = by_name[result["baseline"]], by_name[result["candidate"]]
    own, prompted = (one["prompt_tokens"] + one["completion_tokens"] for one in (tuned, prompt))
    words = [instead[1]] if instead else []
    words += [_reason(advice.outcome, result, prompt)] if advice.outcome != "fine-tune" else []
    words.append(f"An answer takes {own:,.0f} tokens, with the best prompt {prompted:,.0f}.")
    costs = [price_of(evidence, one) for one in (tuned, prompt)]
    if costs[0] is not None and costs[1] is not None:
        words.append(f"A thousand answers cost {costs[0]:.3g} instead of {costs[1]:.3g}.")
    if advice.break_even is not None:
        words.append(f"What training computed is saved after {advice.break_even:,} answers.")
    return Line("Is fine-tuning needed?", " ".join(words), badge, kind)


def _simpler(summary: Mapping[str, Any]) -> tuple[str, str] | None:
    """A baseline without a language model that the tuned model does not beat: its verdict, and a sentence."""
    for name, paired in (summary.get("simple_baselines") or {}).items():
        score = next(one["score"] for one in summary["candidates"] if one["name"] == name)
        if paired["verdict"] == "worse":
            return "worse", f"{SIMPLE_NAMES[name].capitalize()} score higher, {percent(score)}."
        if paired["verdict"] != "better":
            return "not proven", f"It is not proven better than {SIMPLE_NAMES[name]}, {percent(score)}."
    return None


def _reason(outcome: str, result: Mapping[str, Any], prompt: Mapping[str, Any]) -> str:
    """Why a prompt may do."""
    if outcome == "not proven":
        return "More rows to evaluate would tell; until then the prompt is the cheaper start."
    if result["verdict"] == "worse":
        return "The best prompt is better."
    if result["high"] <= MARGIN:
        return f"It gains at most {points(result['high'])} points over the best prompt."
    return f"The best prompt solves the task: it scores {percent(prompt['score'])}."
