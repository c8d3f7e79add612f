"""What an evaluation says: the numbers of summary.json and the verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from finetooth.errors import GradeError
from finetooth.evaluation.candidates import Prediction
from finetooth.evaluation.preference import BY_LENGTH
from finetooth.evaluation.statistics import MIN_ROWS, compare, mean_interval
from finetooth.types import Score

TUNED = "tuned"
START = "start"  # what training went on from, where that is another run's model
BAG_OF_WORDS = "bag-of-words"
# Candidates without a language model that a tuned one should beat, in words.
SIMPLE_BASELINES = {
    BAG_OF_WORDS: "a bag of words with logistic regression",
    BY_LENGTH: "the length of answers alone",
}
CORPUS_METRICS = {
    "bleu": "BLEU",
    "chrf": "chrF",
    "perplexity": "Perplexity",
}  # of all rows together, by grader
OFTEN_CUT = 0.05  # from this share of cut-off answers on, the words under the verdict say so


@dataclass(frozen=True, slots=True)
class Grades:
    """What one grader says of one candidate: a score a row, and what the field reports of all together.

    corpus: {value, signature} (BLEU and chrF from 0 to 100, perplexity), None where that is the mean.
    """

    score_R: Sequence[Score]
    corpus: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class CandidateResult:
    """One candidate's answers, in the examples' order, and its marks by the first and by further graders."""

    name: str
    predictions: Sequence[Prediction]
    grades: Grades
    other_grades: Mapping[str, Grades] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def is_prompting(name: str) -> bool:
    """Whether a candidate is the base model under a prompt."""
    return name in ("zero-shot", "prompt") or name.startswith("few-shot-")


def best_prompting(summary: Mapping[str, Any]) -> str | None:
    """The prompting candidate with the highest score in a summary, the first of equals; None without one."""
    prompting = [entry for entry in summary["candidates"] if is_prompting(entry["name"])]
    return max(prompting, key=lambda entry: entry["score"])["name"] if prompting else None


def summarise(
    graded: Sequence[CandidateResult],
    grader: str,
    split: str,
    baseline_name: str | None = None,
    look: int | None = None,
    groups: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The summary of the contract, with `words`: the verdict as a person would say it.

    groups: of each row, where rows share one: they then count together in every interval and test.
    """
    names = [entry.name for entry in graded]
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
    if look is not None:
        summary["look"] = look
    by_name = {entry.name: entry for entry in graded}
    baseline = baseline_name or best_prompting(summary)
    if baseline_name is not None and baseline_name not in by_name:
        raise GradeError(f"The baseline {baseline_name!r} was not evaluated; there are {', '.join(names)}.")
    if baseline is None or TUNED not in by_name:
        return {**summary, "comparison": None, "words": _words_alone(summary)}
    errors = sum(entry["errors"] for entry in summary["candidates"])
    summary["comparison"] = _comparison(by_name[baseline], by_name[TUNED], errors, groups)
    words = _words(summary, errors)
    if START in by_name:
        summary[START] = _comparison(by_name[START], by_name[TUNED], errors, groups)
        words += _since(summary[START], by_name[START])
    hints = (_cheaper(by_name[name], by_name[TUNED], groups) for name in SIMPLE_BASELINES if name in by_name)
    words = " ".join(filter(None, [words, *hints]))
    return {**summary, "words": words}


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
        entry["also"] = {name: _mean(marks, groups) for name, marks in candidate.other_grades.items()}
    return entry


def _mean(marks: Grades, groups: Sequence[str] | None) -> dict[str, Any]:
    """Mean over the rows that could be graded; a crash of the grader is counted beside it."""
    graded = [row for row, score in enumerate(marks.score_R) if score.value is not None]
    values = [marks.score_R[row].value or 0.0 for row in graded]
    found: dict[str, Any] = {"score": None, "low": None, "high": None}
    if values:
        low, high = mean_interval(values, clusters=_at(groups, graded))
        found = {"score": fmean(values), "low": low, "high": high}
    found["errors"] = len(marks.score_R) - len(values)
    return found if marks.corpus is None else {**found, "corpus": dict(marks.corpus)}


def _at(groups: Sequence[str] | None, rows: Sequence[int]) -> list[str] | None:
    return None if groups is None else [groups[row] for row in rows]


def _paired(baseline: Grades, candidate: Grades, groups: Sequence[str] | None) -> dict[str, Any] | None:
    """The comparison over the rows on which both have a score; None without one."""
    pairs = list(zip(baseline.score_R, candidate.score_R, strict=True))
    both = [row for row, (base, other) in enumerate(pairs) if None not in (base.value, other.value)]
    if not both:
        return None
    base_R = [pairs[row][0].value or 0.0 for row in both]
    other_R = [pairs[row][1].value or 0.0 for row in both]
    return asdict(compare(base_R, other_R, _at(groups, both)))


def _comparison(
    baseline: CandidateResult, candidate: CandidateResult, errors: int, groups: Sequence[str] | None
) -> dict[str, Any]:
    """The first grader's comparison, which alone has a verdict; `also` holds the others' differences."""
    result = _paired(baseline.grades, candidate.grades, groups)
    if result is None:
        raise GradeError(f"No row has a score of both {baseline.name} and {candidate.name}.")
    if errors:
        result["verdict"] = "not proven"
    found = {"baseline": baseline.name, "candidate": candidate.name, **result}
    also = {}
    for name in candidate.other_grades:
        if name in baseline.other_grades and (
            other := _paired(baseline.other_grades[name], candidate.other_grades[name], groups)
        ):
            also[name] = {key: other[key] for key in ("difference", "low", "high", "p")}
    return {**found, "also": also} if also else found


def _words(summary: Mapping[str, Any], errors: int) -> str:
    result = summary["comparison"]
    entry = {entry["name"]: entry for entry in summary["candidates"]}
    base, tuned = entry[result["baseline"]], entry[result["candidate"]]
    counted = f"{result['units']} groups" if "groups" in summary else f"{summary['n']} rows"
    other = "the best prompt" if summary["grader"] != "preference" else "the untuned model"
    both = (
        f"the tuned model scores {percent(tuned['score'])}, {other} ({result['baseline']}) "
        f"{percent(base['score'])}; the difference is {points(result['difference'])} points, "
        f"95% interval {points(result['low'])} to {points(result['high'])}"
    )
    if errors:
        words = (
            f"Not proven: the grader failed on {errors} answers, so the scores do not cover all rows. "
            f"On those that it graded, {both}. Mend the grader, then evaluate again."
        )
    elif result["verdict"] == "better":
        words = f"Better than {other}: {both}."
    elif result["verdict"] == "worse":
        words = f"Worse than {other}: {both}."
    elif result["units"] < MIN_ROWS:
        words = f"Not proven: {counted} are too few for a verdict, which takes {MIN_ROWS}. Here {both}."
    else:
        words = (
            f"Not proven: {both}. With {counted} this test finds a true gain of {100 * result['mde']:.1f} "
            "points four times in five; a smaller gain needs more of them."
        )
    return words + _cautions(summary, base, tuned)


def _since(result: Mapping[str, Any], start: CandidateResult) -> str:
    """What this run has added to the one that it went on from."""
    verdict = {"better": "It is better", "worse": "It is worse"}.get(
        result["verdict"], "It is not proven better"
    )
    return (
        f" {verdict} than the run that it went on from ({START}), which scores "
        f"{percent(_mean(start.grades, None)['score'])}: the difference is {points(result['difference'])} "
        f"points, 95% interval {points(result['low'])} to {points(result['high'])}."
    )


def _cautions(summary: Mapping[str, Any], base: Mapping[str, Any], tuned: Mapping[str, Any]) -> str:
    """What to bear in mind beside the verdict: groups, answers that were cut off, repeated looks."""
    n, words = summary["n"], ""
    if "groups" in summary:
        words += f" The {n} rows are in {summary['groups']} groups; rows of one group count together."
        words += " Rows that ask the same are a group."
    cut = [f"{entry['truncated']} of {entry['name']}" for entry in (tuned, base)
           if entry["truncated"] > OFTEN_CUT * n]  # fmt: skip
    if cut:
        words += (
            f" Of {n} answers each, {' and '.join(cut)} were cut off and graded as they stand: a larger "
            "evaluate.max_tokens may change this."
        )
    look = summary.get("look") or 1
    if look > 1:
        words += f" This was look {look} at the sealed test: every further look weakens what it proves."
    return words


def _cheaper(cheap: CandidateResult, tuned: CandidateResult, groups: Sequence[str] | None) -> str:
    """What to say when a candidate without a language model does as well; nothing when it does not."""
    result = _paired(cheap.grades, tuned.grades, groups)
    if result is None or result["verdict"] == "better":
        return ""
    mean, what = percent(_mean(cheap.grades, None)["score"]), SIMPLE_BASELINES[cheap.name]
    if result["verdict"] == "worse":
        return f"{what[0].upper()}{what[1:]} is better still ({mean}), and far cheaper."
    return f"The tuned model is not proven better than {what} ({mean}), which is far cheaper."


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
