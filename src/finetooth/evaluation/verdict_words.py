"""The verdict of a summary in words, with its numbers and what limits it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetooth.evaluation import form
from finetooth.evaluation.statistics import ALPHA, MIN_ROWS, minimum_detectable_effect, rescaled_mde

ASSUMED_DISCORDANCE = 0.2  # share of rows on which tuned model and prompt disagree, where nothing is known
OFTEN_TRUNCATED = 0.05  # the verdict mentions truncation from this share of answers on


def verdict_words(summary: Mapping[str, Any], withdrawn: str = "") -> str:
    """The verdict with its numbers, then what limits it: clusters and truncated answers.

    withdrawn: why `better` was withdrawn, a clause.
    """
    n, result = summary["n"], summary["comparison"]
    errors = sum(entry["errors"] for entry in summary["candidates"])
    by_name = {entry["name"]: entry for entry in summary["candidates"]}
    base, tuned = by_name[result["baseline"]], by_name[result["candidate"]]
    units = f"{result['units']} clusters" if "groups" in summary else f"{n} rows"
    other = "the best prompt" if summary["grader"] != "preference" else "the untuned model"
    both = (
        f"the tuned model scores {percent(tuned['score'])}, {other} ({result['baseline']}) "
        f"{percent(base['score'])}; {difference_words(result)}"
    )
    if errors:
        words = (
            f"Not proven: the grader failed on {errors} answers, so the scores do not cover all rows: "
            f"{failures(summary)} are left out. On the graded ones, {both}, over the {result['n']} rows that "
            "both have a score for. Fix the grader, then evaluate again."
        )
    elif result["units"] < MIN_ROWS:
        words = f"Not proven: {units} are too few to prove anything, which takes {MIN_ROWS}. Here {both}."
    elif withdrawn:
        words = f"Not proven: {withdrawn}. {both[0].upper()}{both[1:]}."
        words += f" {remaining}" if (remaining := form.remaining(result)) else ""
    elif form.by_form_alone(result):
        in_form = next(one for one in summary["comparisons"] if form.by_form_alone(one))
        words = f"Not proven: the gain is in form, not content. {form.remaining(in_form)} As written, {both}."
    elif result["verdict"] != "not proven":
        words = f"{result['verdict'].capitalize()} than {other}: {both}.{_other_prompts(summary)}"
        words += f" {remaining}" if (remaining := form.remaining(result)) else ""
    else:
        open = next(one for one in summary["comparisons"] if one["verdict"] != "better")
        words = (
            f"Not proven: {both}.{_other_prompts(summary)} With {units} the test has 80% power to detect a "
            f"true difference of {100 * open['mde']:.1f} points; a smaller one needs more {units.split()[1]}."
        )
    if "groups" in summary:
        words += (
            f" The {n} rows form {summary['groups']} clusters (rows of one group, or with identical or "
            "nearly identical prompts); each cluster counts as one observation."
        )
    truncated = [
        f"{entry['truncated']} of {entry['name']}"
        for entry in (tuned, base)
        if entry["truncated"] > OFTEN_TRUNCATED * n
    ]
    if truncated:
        words += (
            f" Of {n} answers each, {' and '.join(truncated)} were truncated and graded as they are: a "
            "larger evaluate.max_tokens may change the scores."
        )
    return words


def foresight_words(rows: int, validation: Mapping[str, Any] | None, alpha: float = ALPHA) -> str:
    """What a test of so many rows can show, and one of four times as many: said before it is opened.

    validation: the summary on validation rows, None without one. Its comparison says how often the tuned
    model and the strongest prompt disagree, and what clusters of rows are worth; without it they are taken to
    disagree on a fifth of the rows. alpha: two-sided level of the test.
    """
    if rows < MIN_ROWS:
        return f"The test has {rows} rows, too few to prove anything, which takes {MIN_ROWS}."
    result = (validation or {}).get("comparison")
    size = float(f"{4 * rows:.2g}")
    if result:
        seen, more = (
            rescaled_mde(result["mde"], result["n"], 1 - result.get("level", 0.95), n, alpha)
            for n in (rows, size)
        )
        basis = f"by the {result['n']} validation rows"
    else:
        seen, more = (minimum_detectable_effect(n, ASSUMED_DISCORDANCE, alpha) for n in (rows, size))
        basis = f"if the two disagree on {ASSUMED_DISCORDANCE:.0%} of the rows"
    return (
        f"With {rows:,} rows, the test can show a true difference of about {100 * seen:.1f} points between "
        f"the tuned model and a prompt (80% power, {basis}); {size:,.0f} rows would show {100 * more:.1f}."
    )


def _other_prompts(summary: Mapping[str, Any]) -> str:
    """What the prompts other than the strongest add to the verdict; "" where there is none."""
    first, *others = summary["comparisons"]
    verdict = summary["comparison"]["verdict"]
    count = len(others) + 1
    score = {entry["name"]: percent(entry["score"]) for entry in summary["candidates"]}
    if not others:
        return ""
    if verdict == "better":
        return f" It is better than every one of the {count} prompts."
    if verdict == "worse":
        worse = [one["baseline"] for one in others if one["verdict"] == "worse"]
        named = [first["baseline"]] * (first["verdict"] == "worse") + worse
        return f" It is proven worse than {' and '.join(named)} of the {count} prompts."
    against = [one for one in others if one["verdict"] != "better"]
    if first["verdict"] == "better":
        listed = "; ".join(
            f"{one['baseline']} ({score[one['baseline']]}): {difference_words(one)}" for one in against
        )
        return f" But better means better than every prompt, and it is not proven better than {listed}."
    if first["difference"] < 0 and first["high"] < 0:
        level = 1 - first["level"]
        return f" To be called worse than one of {count} prompts takes p < {level / count:.2g}."
    return ""


def margin_words(summary: Mapping[str, Any]) -> str:
    """Whether the tuned model is shown not to be worse by the declared margin or more, with the bounds."""
    result = summary["non_inferior"]
    low = {"prompts": min(one["low"] for one in summary["comparisons"])}
    low |= {name: summary[name]["low"] for name in result.keys() - {"margin", "prompts"}}
    names = {"prompts": "any prompt"}
    shown = " and ".join(names.get(name, name) for name in low if result[name])
    words = [f"is not inferior to {shown}"] if shown else []
    words += [
        f"is not shown to be non-inferior to {names.get(name, name)} (the lower bound is {points(bound)})"
        for name, bound in low.items()
        if not result[name]
    ]
    return f"By the declared margin of {100 * result['margin']:.3g} points it {', and '.join(words)}."


def failures(summary: Mapping[str, Any]) -> str:
    """How many of each candidate's answers the grader failed on; "" if it never did."""
    n = summary["n"]
    counts = [(entry["errors"], entry["name"]) for entry in summary["candidates"] if entry["errors"]]
    return ", ".join(f"{errors} of {n} of {name}" for errors, name in counts)


def difference_words(result: Mapping[str, Any]) -> str:
    """A comparison's difference with its confidence interval, in percentage points."""
    low, high = points(result["low"]), points(result["high"])
    level = f"{100 * result['level']:.3g}% confidence interval"
    return f"the difference is {points(result['difference'])} points, {level} {low} to {high}"


def percent(score: float) -> str:
    """0.843 as 84.3%."""
    return f"{100 * score:.1f}%"


def points(difference: float) -> str:
    """0.053 as +5.3, in percentage points, with a true minus sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")
