"""The summary of an evaluation: the numbers of summary.json, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from finetooth.errors import GradeError
from finetooth.evaluation import form
from finetooth.evaluation.candidates import Prediction
from finetooth.evaluation.preference import BY_LENGTH
from finetooth.evaluation.prompts import ZERO_SHOT
from finetooth.evaluation.statistics import ALPHA, MIN_ROWS, compare, mean_interval, verdict_over_prompts
from finetooth.evaluation.verdict_words import (
    difference_words,
    failures,
    margin_words,
    percent,
    verdict_words,
)
from finetooth.types import Score

TUNED = "tuned"
TUNED_PROMPT = "tuned+prompt"  # the tuned model under the prompt of evaluate.prompt
FREE = "tuned-free"  # the tuned model without the label set that it was measured under as TUNED
START = "start"  # the model that training continued from, where that is another run's
MAJORITY = "majority"
BAG_OF_WORDS = "bag-of-words"
BAG_FILE = "evaluate/bag-of-words.npz"  # of a run: the bag of words as it was measured
# Baselines without a language model that a tuned model should beat, in words.
SIMPLE_BASELINES = {
    BAG_OF_WORDS: "a bag of words with logistic regression",
    BY_LENGTH: "the length of answers alone",
}
EXPLAINED = {
    MAJORITY: "best single label: always the same answer",
    BAG_OF_WORDS: "word counts + logistic regression, no language model",
    BY_LENGTH: "always the answer of the likelier length",
    ZERO_SHOT: "prompt without examples",
    "prompt": "the best prompt found by search",
    START: "the model that training continued from",
    TUNED: "the model that this run trained",
    TUNED_PROMPT: "the tuned model under the best prompt",
    f"{TUNED}-free": "the same model, answering without the list of labels",
}
CORPUS_METRICS = {"bleu": "BLEU", "chrf": "chrF", "perplexity": "perplexity"}  # by grader


@dataclass(frozen=True, slots=True)
class Grades:
    """One grader's result for one candidate: a score per row, and the corpus score.

    corpus: {value, signature} (BLEU and chrF from 0 to 100, perplexity), None where the mean is reported.
    """

    score_R: Sequence[Score]
    corpus: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class CandidateResult:
    """One candidate's predictions, in the examples' order, and its grades by all graders.

    lenient: the primary grader's scores when form is forgiven; None for answers without one, as labels.
    """

    name: str
    predictions: Sequence[Prediction]
    grades: Grades
    other_grades: Mapping[str, Grades] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lenient: Sequence[Score] | None = None


def explained(name: str, grader: str = "") -> str:
    """What a candidate is, in half a line; "" for an unknown one."""
    if name == ZERO_SHOT and grader == "preference":
        return "the untuned model: the answer that it finds likelier"
    shots = name.removeprefix("few-shot-")
    if shots != name:
        return f"prompt with {shots} solved examples"
    return EXPLAINED.get(name, "")


def is_prompting(name: str) -> bool:
    """Whether a candidate is the base model under a prompt."""
    return name in (ZERO_SHOT, "prompt") or name.startswith("few-shot-")


def best_prompting(summary: Mapping[str, Any]) -> str | None:
    """The prompting candidate with the highest score in a summary (the first of equals), None without one.

    An answer on which the grader failed counts as not right: none is best by the few that were graded.
    """
    prompting = [entry for entry in summary["candidates"] if is_prompting(entry["name"])]
    return max(prompting, key=lambda entry: _proven(entry, summary["n"]))["name"] if prompting else None


def _proven(entry: Mapping[str, Any], n: int) -> float:
    """The score of a candidate over all n rows, where an answer on which the grader failed counts as 0."""
    return float((entry["score"] or 0.0) * (n - entry.get("errors", 0)) / n)


def summarise(  # long: the summary is built in the order of its keys
    graded: Sequence[CandidateResult],
    grader: str,
    split: str,
    groups: Sequence[str] | None = None,
    alpha: float = ALPHA,
    margin: float | None = None,
) -> dict[str, Any]:
    """The summary of the contract, and the verdict in words under `words`.

    `comparisons` holds the tuned model's comparison with every prompting candidate, `comparison` that with
    the strongest on these rows and the verdict over all of them (`statistics.verdict_over_prompts`). groups:
    the cluster of each row, where rows share one; every interval and test then treats a cluster as one unit.
    alpha: two-sided level of the comparisons. margin: adds `non_inferior`. Raises GradeError for candidates
    of one name, and where no row has a score of both candidates of a comparison.
    """
    names = [result.name for result in graded]
    if len(set(names)) < len(names) or not names:
        raise GradeError(f"Candidates need different names, found {names}.")
    summary: dict[str, Any] = {
        "n": len(graded[0].predictions),
        "grader": grader,
        "split": split,
        "candidates": [_entry(candidate, groups) for candidate in graded],
    }
    if groups is not None:
        summary["groups"] = len(set(groups))
    by_name = {result.name: result for result in graded}
    baseline = best_prompting(summary)
    if baseline is None or TUNED not in by_name:
        best = max(summary["candidates"], key=lambda entry: _proven(entry, summary["n"]))
        failed = failures(summary)
        no_verdict = (
            "No verdict: it needs the tuned model and a prompting baseline. Of the candidates evaluated, "
            f"{best['name']} scores highest, {percent(best['score'])} (95% confidence interval "
            f"{percent(best['low'])} to {percent(best['high'])})."
            + (f" The grader failed on some answers, which are left out: {failed}." if failed else "")
        )
        return {**summary, "comparison": None, "words": no_verdict}
    errors = sum(entry["errors"] for entry in summary["candidates"])
    tuned = by_name[TUNED]
    prompting = [result for result in graded if is_prompting(result.name)]
    prompting.sort(key=lambda result: result.name != baseline)
    summary |= _against_prompts(prompting, tuned, errors, groups, alpha)
    if START in by_name:
        summary[START] = _comparison(by_name[START], tuned, errors, groups, alpha)
    if margin is not None:
        against = {
            "prompts": summary["comparisons"],
            **({START: [summary[START]]} if START in summary else {}),
        }
        shown = {name: not errors and non_inferior(ones, margin) for name, ones in against.items()}
        summary["non_inferior"] = {"margin": margin, **shown}
    for name in (one for one in SIMPLE_BASELINES if one in by_name):
        if (paired := _paired(by_name[name].grades, tuned.grades, groups, alpha)) is not None:
            summary.setdefault("simple_baselines", {})[name] = paired  # tuned minus baseline
    return {**summary, "words": result_words(summary)}


def result_words(summary: Mapping[str, Any], withdrawn: str = "") -> str:
    """The verdict in words, and what belongs to it: a run that is continued, the margin, simple baselines.

    withdrawn: why `better` was withdrawn, a clause.
    """
    score = {entry["name"]: percent(entry["score"] or 0.0) for entry in summary["candidates"]}
    words = [verdict_words(summary, withdrawn)]
    if START in summary:
        verdict = summary[START]["verdict"]
        verdict = "not proven better" if verdict == "not proven" else verdict
        words.append(
            f"It is {verdict} than the run that it continues from ({START}), which scores {score[START]}: "
            f"{difference_words(summary[START])}."
        )
    if "non_inferior" in summary:
        words.append(margin_words(summary))
    for name, paired in summary.get("simple_baselines", {}).items():
        baseline = SIMPLE_BASELINES[name]
        if paired["verdict"] == "worse":
            upper = baseline[0].upper() + baseline[1:]
            words.append(f"{upper} scores higher still ({score[name]}) and is far cheaper.")
        elif paired["verdict"] == "not proven":
            words.append(
                f"The tuned model is not proven better than {baseline} ({score[name]}), which is far cheaper."
            )
    return " ".join(words)


def non_inferior(comparisons: Sequence[Mapping[str, Any]], margin: float) -> bool:
    """Whether a candidate is shown to be less than the margin worse than each of these baselines.

    The lower bound of every difference is above -margin: one test at half the level for each, and all of them
    have to be passed (intersection-union). "Not proven worse" alone would only show that the test is small.
    """
    return all(one["units"] >= MIN_ROWS and one["low"] > -margin for one in comparisons)


def _entry(candidate: CandidateResult, groups: Sequence[str] | None) -> dict[str, Any]:
    entry = {
        "name": candidate.name,
        **_mean(candidate.grades, groups),
        "prompt_tokens": fmean(answer.prompt_tokens for answer in candidate.predictions),
        "completion_tokens": fmean(answer.completion_tokens for answer in candidate.predictions),
        "truncated": sum(answer.stop == "length" for answer in candidate.predictions),
        "notes": candidate.notes,
    }
    if candidate.other_grades:
        entry["also"] = {name: _mean(grades, groups) for name, grades in candidate.other_grades.items()}
    if candidate.lenient is not None:
        entry["lenient"] = _mean(Grades(candidate.lenient), groups)
    return entry


def _mean(grades: Grades, groups: Sequence[str] | None) -> dict[str, Any]:
    """The mean over the rows that could be graded; grader errors are counted beside it."""
    graded = [row for row, score in enumerate(grades.score_R) if score.value is not None]
    values = [grades.score_R[row].value or 0.0 for row in graded]
    result: dict[str, Any] = {"score": None, "low": None, "high": None}
    if values:
        low, high = mean_interval(values, clusters=groups and [groups[row] for row in graded])
        result = {"score": fmean(values), "low": low, "high": high}
    result["errors"] = len(grades.score_R) - len(values)
    return result if grades.corpus is None else {**result, "corpus": dict(grades.corpus)}


def _paired(
    baseline: Grades, candidate: Grades, groups: Sequence[str] | None, alpha: float
) -> dict[str, Any] | None:
    """The comparison over the rows on which both have a score; None where there is no such row."""
    pairs = list(zip(baseline.score_R, candidate.score_R, strict=True))
    both = [row for row, (base, other) in enumerate(pairs) if None not in (base.value, other.value)]
    if not both:
        return None
    base_R = [pairs[row][0].value or 0.0 for row in both]
    other_R = [pairs[row][1].value or 0.0 for row in both]
    return asdict(compare(base_R, other_R, groups and [groups[row] for row in both], alpha))


def _against_prompts(
    prompting: Sequence[CandidateResult],
    tuned: CandidateResult,
    errors: int,
    groups: Sequence[str] | None,
    alpha: float,
) -> dict[str, Any]:
    """`comparison` with the first of the prompts, the strongest on these rows, and `comparisons` with all.

    The verdict is over all prompts (`statistics.verdict_over_prompts`).
    """
    shared = [
        one for one in prompting if one is prompting[0] or _paired(one.grades, tuned.grades, None, alpha)
    ]
    comparisons = [_comparison(prompt, tuned, errors, groups, alpha) for prompt in shared]
    strict = [(one.get("strict_verdict", one["verdict"]), one["p"]) for one in comparisons]
    verdict, counted = verdict_over_prompts([(one["verdict"], one["p"]) for one in comparisons], alpha)
    for one, each in zip(comparisons, counted, strict=True):
        one["verdict"] = each
    overall = {**comparisons[0], "verdict": verdict}
    if any("strict_verdict" in one for one in comparisons):  # of answers as they are; see form.settle
        overall["strict_verdict"] = verdict_over_prompts(strict, alpha)[0]
    return {"comparison": overall, "comparisons": comparisons}


def _comparison(
    baseline: CandidateResult,
    candidate: CandidateResult,
    errors: int,
    groups: Sequence[str] | None,
    alpha: float,
) -> dict[str, Any]:
    """The primary grader's comparison, which alone has a verdict; `also` holds the others' differences."""
    result = _paired(baseline.grades, candidate.grades, groups, alpha)
    if result is None:
        raise GradeError(f"No row has a score of both {baseline.name} and {candidate.name}.")
    if errors:
        result["verdict"] = "not proven"
    if baseline.lenient or candidate.lenient:
        first, second = (Grades(one.lenient or one.grades.score_R) for one in (baseline, candidate))
        result = form.settle(result, _paired(first, second, groups, alpha))
    comparison = {"baseline": baseline.name, "candidate": candidate.name, **result}
    also = {}
    for name in candidate.other_grades:
        if name in baseline.other_grades and (
            other := _paired(baseline.other_grades[name], candidate.other_grades[name], groups, alpha)
        ):
            also[name] = {key: other[key] for key in ("difference", "low", "high", "p")}
    return {**comparison, "also": also} if also else comparison
