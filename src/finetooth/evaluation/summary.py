"""What an evaluation says: the numbers of summary.json and the verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from finetooth.errors import GradeError
from finetooth.evaluation.candidates import Answered
from finetooth.evaluation.statistics import FEWEST_ROWS, compare, mean_interval
from finetooth.types import Score

TUNED = "tuned"
BAG_OF_WORDS = "bag-of-words"


@dataclass(frozen=True, slots=True)
class Graded:
    """One candidate's answers and scores, in the examples' order. other_R: scores of further graders."""

    name: str
    answered: Sequence[Answered]
    score_R: Sequence[Score]
    other_R: Mapping[str, Sequence[Score]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def is_prompting(name: str) -> bool:
    """Whether a candidate is the base model under a prompt."""
    return name in ("zero-shot", "prompt") or name.startswith("few-shot-")


def best_prompting(summary: Mapping[str, Any]) -> str | None:
    """The prompting candidate with the highest score in a summary, the first of equals; None without one."""
    prompting = [entry for entry in summary["candidates"] if is_prompting(entry["name"])]
    return max(prompting, key=lambda entry: entry["score"])["name"] if prompting else None


def summarise(
    graded: Sequence[Graded],
    grader: str,
    split: str,
    baseline_name: str | None = None,
    look: int | None = None,
) -> dict[str, Any]:
    """The summary of the contract, with `words`: the verdict as a person would say it."""
    names = [entry.name for entry in graded]
    if len(set(names)) < len(names) or not names:
        raise GradeError(f"Candidates need different names, found {names}.")
    summary: dict[str, Any] = {
        "n": len(graded[0].answered),
        "grader": grader,
        "split": split,
        "candidates": [_entry(candidate) for candidate in graded],
    }
    if look is not None:
        summary["look"] = look
    by_name = {entry.name: entry for entry in graded}
    baseline = baseline_name or best_prompting(summary)
    if baseline_name is not None and baseline_name not in by_name:
        raise GradeError(f"The baseline {baseline_name!r} was not evaluated; there are {', '.join(names)}.")
    if baseline is None or TUNED not in by_name:
        return {**summary, "comparison": None, "words": _words_alone(summary)}
    errors = sum(entry["errors"] for entry in summary["candidates"])
    summary["comparison"] = _comparison(by_name[baseline], by_name[TUNED], errors)
    words = _words(summary, errors)
    if BAG_OF_WORDS in by_name and (hint := _bag_of_words(by_name[BAG_OF_WORDS], by_name[TUNED])):
        words += f" {hint}"
    return {**summary, "words": words}


def _entry(candidate: Graded) -> dict[str, Any]:
    entry = {
        "name": candidate.name,
        **_mean(candidate.score_R),
        "prompt_tokens": fmean(answer.prompt_tokens for answer in candidate.answered),
        "completion_tokens": fmean(answer.completion_tokens for answer in candidate.answered),
        "truncated": sum(answer.stop == "length" for answer in candidate.answered),
        "notes": candidate.notes,
    }
    if candidate.other_R:
        entry["also"] = {name: _mean(score_R) for name, score_R in candidate.other_R.items()}
    return entry


def _mean(score_R: Sequence[Score]) -> dict[str, Any]:
    """Mean over the rows that could be graded; a crash of the grader is counted beside it."""
    values = [score.value for score in score_R if score.value is not None]
    errors = len(score_R) - len(values)
    if not values:
        return {"score": None, "low": None, "high": None, "errors": errors}
    low, high = mean_interval(values)
    return {"score": fmean(values), "low": low, "high": high, "errors": errors}


def _pairs(baseline: Graded, candidate: Graded) -> tuple[list[float], list[float]]:
    pairs = [
        (base.value, other.value)
        for base, other in zip(baseline.score_R, candidate.score_R, strict=True)
        if base.value is not None and other.value is not None
    ]
    return [base for base, _ in pairs], [other for _, other in pairs]


def _comparison(baseline: Graded, candidate: Graded, errors: int) -> dict[str, Any]:
    result = asdict(compare(*_pairs(baseline, candidate)))
    if errors:
        result["verdict"] = "not proven"
    return {"baseline": baseline.name, "candidate": candidate.name, **result}


def _words(summary: Mapping[str, Any], errors: int) -> str:
    result = summary["comparison"]
    score = {entry["name"]: entry["score"] for entry in summary["candidates"]}
    base, tuned, n = score[result["baseline"]], score[result["candidate"]], summary["n"]
    both = (
        f"the tuned model scores {percent(tuned)}, the best prompt ({result['baseline']}) {percent(base)}; "
        f"the difference is {points(result['difference'])} points, "
        f"95% interval {points(result['low'])} to {points(result['high'])}"
    )
    if errors:
        words = (
            f"Not proven: the grader failed on {errors} answers, so the scores do not cover all rows. "
            f"On those that it graded, {both}. Mend the grader, then evaluate again."
        )
    elif result["verdict"] == "better":
        words = f"Better than the best prompt: {both}."
    elif result["verdict"] == "worse":
        words = f"Worse than the best prompt: {both}."
    elif n < FEWEST_ROWS:
        words = f"Not proven: {n} rows are too few for a verdict, which takes {FEWEST_ROWS}. Here {both}."
    else:
        words = (
            f"Not proven: {both}. With {n} rows this test finds a true gain of {100 * result['mde']:.1f} "
            "points four times in five; a smaller gain needs more rows."
        )
    look = summary.get("look") or 1
    if look > 1:
        words += f" This was look {look} at the sealed test: every further look weakens what it proves."
    return words


def _bag_of_words(bag: Graded, tuned: Graded) -> str:
    """What to say when a classifier without a language model does as well; nothing when it does not."""
    bag_R, tuned_R = _pairs(bag, tuned)
    if not bag_R:
        return ""
    result = compare(bag_R, tuned_R)
    if result.verdict == "better":
        return ""
    mean = percent(fmean(bag_R))
    if result.verdict == "worse":
        return f"A bag of words with logistic regression is better still ({mean}), and far cheaper."
    return (
        f"The tuned model is not proven better than a bag of words with logistic regression ({mean}), "
        "which is far cheaper."
    )


def _words_alone(summary: Mapping[str, Any]) -> str:
    best = max(summary["candidates"], key=lambda entry: entry["score"])
    interval = f"{percent(best['low'])} to {percent(best['high'])}"
    return (
        f"No verdict: that takes the tuned model and a prompting candidate. The best of those evaluated, "
        f"{best['name']}, scores {percent(best['score'])} (95% interval {interval})."
    )


def percent(score: float) -> str:
    """0.843 as 84.3%."""
    return f"{100 * score:.1f}%"


def points(difference: float) -> str:
    """0.053 as +5.3, in percentage points, with a true minus sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")
