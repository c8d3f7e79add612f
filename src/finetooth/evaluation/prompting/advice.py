"""Prompting or fine-tuning: the recommendation in words, and what an answer costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from finetooth.evaluation.statistics import ALPHA, mean_interval
from finetooth.evaluation.summary import TUNED, best_prompting
from finetooth.evaluation.verdict_words import percent, points

MARGIN = 0.02  # a gain that is proven smaller than this is not worth a training
SOLVED = 0.9  # a prompt whose interval lies above this solves the task
PASSES = 3  # a training step computes a token forwards and backwards, about three forward passes

Outcome = Literal["prompting is enough", "fine-tune", "not proven"]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do, and why in one or two sentences. break_even: answers, None for never or not known."""

    outcome: Outcome
    words: str
    break_even: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def recommend(summary: Mapping[str, Any], training_tokens: float | None = None) -> Recommendation:
    """Whether prompting is enough, from the summary of an evaluation with a comparison (summary.json).

    fine-tune: the tuned model is proven better than the best prompt. prompting is enough: it is worse, or not
    proven better where its gain is proven smaller than MARGIN, or the best prompt is proven above SOLVED.
    Otherwise: not proven. training_tokens: computed in training, for the break-even.
    """
    result = summary.get("comparison")
    name = best_prompting(summary)
    if result is None or name is None:
        return Recommendation("not proven", "The tuned model and a prompt were not compared.")
    by_name = {entry["name"]: entry for entry in summary["candidates"]}
    prompt, tuned = by_name[result["baseline"]], by_name.get(result["candidate"], by_name[TUNED])
    both = (
        f"the best prompt ({prompt['name']}) scores {percent(prompt['score'])}, the tuned model "
        f"{percent(tuned['score'])} ({points(result['low'])} to {points(result['high'])} points, 95% "
        "confidence interval)"
    )
    if result["verdict"] == "better":
        answers, words = _cost(prompt, tuned, training_tokens)
        return Recommendation("fine-tune", f"Fine-tune: {both}. {words}", answers)
    if result["verdict"] == "worse":
        return Recommendation("prompting is enough", f"Prompting is enough, and better: {both}.")
    if result["high"] <= MARGIN:
        why = f"fine-tuning gains at most {points(result['high'])} points"
        return Recommendation("prompting is enough", f"Prompting is enough: {why}; {both}.")
    if prompt["low"] is not None and prompt["low"] >= SOLVED:
        return Recommendation("prompting is enough", f"Prompting is enough: it solves the task; {both}.")
    return Recommendation(
        "not proven",
        f"Not proven: {both}. More rows to evaluate would tell; until then the prompt is the cheaper start.",
    )


def before_training(
    scores: Sequence[float], finalists: int, clusters: Sequence[str] | None = None
) -> Recommendation:
    """The same before anything is trained, from the best prompt's scores on the confirmation rows.

    finalists: prompts that answered these rows, of which they helped to choose the best. So the interval is
    at a level at which those of all finalists hold together (Bonferroni). clusters: of the rows.
    """
    score, n = sum(scores) / len(scores), len(scores)
    low, high = mean_interval(scores, 1 - ALPHA / finalists, clusters)
    found = f"the best of {finalists} finalists scores {percent(score)} on {n} confirmation rows"
    interval = f"{percent(low)} to {percent(high)} at a confidence of 95% for all finalists together"
    if low >= SOLVED:
        return Recommendation("prompting is enough", f"Prompting is enough: {found} ({interval}).")
    if high < SOLVED:
        left = f"fine-tuning has up to {100 * (1 - score):.0f} points to gain"
        return Recommendation("fine-tune", f"Try fine-tuning: {found} ({interval}); {left}.")
    return Recommendation("not proven", f"Not proven: {found} ({interval}). More validation rows would tell.")


def _cost(
    prompt: Mapping[str, Any], tuned: Mapping[str, Any], training_tokens: float | None
) -> tuple[int | None, str]:
    """The break-even, and the tokens of an answer in words."""
    prompted, own = (entry["prompt_tokens"] + entry["completion_tokens"] for entry in (prompt, tuned))
    words = f"An answer takes {own:,.0f} tokens; the prompt's takes {prompted:,.0f}."
    if training_tokens is None:
        return None, words
    answers = break_even(training_tokens, prompted, own)
    if answers is None:
        return None, f"{words} Training is not paid back in tokens, since answers are no shorter."
    return answers, f"{words} What training computed is saved after {answers:,} answers."


def money(prompt_tokens: float, completion_tokens: float, price_in: float, price_out: float) -> float:
    """The price of one answer. price_in, price_out: of a million tokens."""
    return (prompt_tokens * price_in + completion_tokens * price_out) / 1e6


def break_even(training_tokens: float, prompt_tokens: float, tuned_tokens: float) -> int | None:
    """After how many answers the tokens that fine-tuning saves are those that training computed.

    training_tokens: computed in training, each as PASSES tokens of an answer. prompt_tokens, tuned_tokens: of
    one answer of each arm, prompt and completion. None: never, since the tuned model's answers take as many.
    """
    saved = prompt_tokens - tuned_tokens
    return math.ceil(PASSES * training_tokens / saved) if saved > 0 else None
