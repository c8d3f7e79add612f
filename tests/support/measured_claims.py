"""What the first page claims of other seeds, weak groups, changed rows and other tasks: for report_claims.py.

Scores of seeds and of groups are computed from the records, with formulas of their own. Where rows are in
clusters or scores are no 0 and 1, the intervals are those on file. Of changed rows and other tasks the run
keeps sums and no records; differences follow from the rows that were gained and lost.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from report_facts import Facts, percent, points, wilson
from scipy import stats
from text_groups import text_groups

Claim = tuple[str, tuple[str | float, ...]]
KINDS = {
    "case": "other case",
    "punctuation": "other punctuation",
    "whitespace": "other spaces",
    "names": "other names",
    "numbers": "other numbers",
    "addition": "a further row of the same label",
}
LEAST = 20  # rows of a group, and outside of it
OWN_TAGS = ("file", "line", "sheet_row", "label", "group", "near-copies")
Groups = dict[tuple[str, str], frozenset[int]]  # (kind, words) -> places of rows


def measured_claims(facts: Facts) -> Iterator[Claim]:
    """The claims of all four, and of the sentences that stand where one was not measured."""
    yield from _seeds(facts)
    yield from _weak_groups(facts)
    yield from _changed_rows(facts)
    yield from _other_tasks(facts)
    yield "train.seeds: # shows how much", ("3",)
    yield "that takes # validation rows in a group", (str(LEAST),)


def _seeds(facts: Facts) -> Iterator[Claim]:
    found = facts.summary.get("recipe")
    if not found:
        return
    runs = sorted((facts.run / "seeds").glob("*"), key=lambda one: int(one.name))
    folders = [Facts(one, "validation") for one in (facts.run, *runs)]
    tuned = [[*one.score["tuned"].values()] for one in folders]
    means = [fmean(scores) for scores in tuned]
    first = int(facts.config["train"].get("seed") or facts.config["seed"])
    seeds = [first, *(int(one.name) for one in runs)]
    listed = f"{', '.join('#' * len(means[1:]))} and #"
    pattern = (
        rf"# trainings that differ in the seed score {listed} on # validation rows "
        r"\(standard deviation # points\)"
    )
    want = [str(len(seeds)), *map(percent, means), f"{len(tuned[0]):,}", f"{100 * stdev(means):.1f}"]
    prompts = {
        name: _against_seeds([*scores.values()], tuned)
        for name, scores in folders[0].score.items()
        if re.fullmatch(r"zero-shot|few-shot-\d+|prompt", name)
    }
    if not prompts:
        yield pattern, tuple(want)
        return
    if len(seeds) < 3:
        yield f"{pattern}; a verdict on the recipe takes # seeds", (*want, "3")
        return
    strongest = max(prompts, key=lambda name: fmean(folders[0].score[name].values()))
    difference, low, high, _ = prompts[strongest]
    if "groups" in folders[0].summary:
        low, high = found["comparison"]["low"], found["comparison"]["high"]
    verdict = "not proven better"
    if all(one[1] > 0 for one in prompts.values()):
        verdict = "better than the best prompt"
    elif any(one[2] < 0 and one[3] < 0.05 / len(prompts) for one in prompts.values()):
        verdict = "worse than a prompt"
    yield (
        rf"{pattern}; with seeds as chance too, the recipe is {verdict}: # points to {strongest} "
        r"\(# CI # to #\)\. The verdict above is about the model of seed #",
        (*want, points(difference), "95%", points(low), points(high), str(first)),
    )


def _against_seeds(prompt: Sequence[float], tuned: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Difference, interval and p: rows and seeds as crossed random effects, Satterthwaite's freedom."""
    rows = np.mean(tuned, axis=0) - np.array(prompt)
    seeds = np.array([np.mean(scores) for scores in tuned])
    of_rows, of_seeds = rows.var(ddof=1) / len(rows), seeds.var(ddof=1) / len(seeds)
    error = math.sqrt(of_rows + of_seeds)
    freedom = error**4 / (of_rows**2 / (len(rows) - 1) + of_seeds**2 / (len(seeds) - 1))
    half = stats.t.ppf(0.975, freedom) * error
    middle = float(rows.mean())
    return middle, middle - half, middle + half, float(2 * stats.t.sf(abs(middle) / error, freedom))


def _weak_groups(facts: Facts) -> Iterator[Claim]:
    """The clearest weak group by Fisher's mid-p, adjusted by Benjamini and Hochberg's procedure."""
    if not (facts.run / "evaluate/validation/records.jsonl").is_file():
        return
    valid = Facts(facts.run, "validation")
    rows = [
        row for row in facts.lines("data/validation.jsonl") if valid.score["tuned"].get(row["id"]) is not None
    ]
    error = [1 - (valid.score["tuned"][row["id"]] or 0) for row in rows]
    tested = _tested(_groups(rows), len(rows))
    if not tested:
        return
    yield "None of # groups of # validation rows or more is proven", (f"{len(tested):,}", str(LEAST))
    if "groups" in valid.summary or not set(error) <= {0, 1}:
        from finetooth.report.slices_part import run_slices

        known = run_slices(facts.run)
        weak = {one.conditions: (one.low, one.high) for one in known.found} if known else {}
    else:
        weak = {names: wilson(sum(error[at] for at in tested[names]), len(tested[names]))
                for names in _weak(tested, error)}  # fmt: skip
    for name in [*weak][:1]:
        inside = [error[at] for at in tested[name]]
        outside = [one for at, one in enumerate(error) if at not in tested[name]]
        words = re.escape(" and ".join(name))
        among = "the clearest of # weak ones" if len(weak) > 1 else "the only weak one"
        want = [percent(fmean(inside)), f"{len(inside):,}", "95%", *map(percent, weak[name])]
        want += [percent(fmean(outside)), f"{len(tested):,}", *([str(len(weak))] if len(weak) > 1 else [])]
        yield (
            rf"(?:{words}:|One has) # errors in # validation rows \(# CI # to #\), # in the others; "
            rf"of # groups tested {among}, to be",
            tuple(want),
        )


def _weak(tested: Mapping[tuple[str, ...], frozenset[int]], error: Sequence[float]) -> list[tuple[str, ...]]:
    total, wrong = len(error), round(sum(error))
    p = {}
    for names, places in tested.items():
        law, here = stats.hypergeom(total, wrong, len(places)), round(sum(error[at] for at in places))
        p[names] = law.sf(here) + law.pmf(here) / 2
    order = sorted(p, key=lambda names: p[names])
    adjusted, least = {}, 1.0
    for rank in range(len(order), 0, -1):
        least = min(least, p[order[rank - 1]] * len(order) / rank)
        adjusted[order[rank - 1]] = least
    weak = [
        names
        for names in tested
        if adjusted[names] < 0.1
        and (len(names) == 1 or p[names] < min([p[(one,)] for one in names if (one,) in p], default=1.0))
    ]
    return sorted(weak, key=lambda names: (p[names], len(names)))


def _tested(groups: Groups, total: int) -> dict[tuple[str, ...], frozenset[int]]:
    """Groups by one condition and by two of different kinds, each set of rows once."""
    pairs = [
        ((one[1], two[1]), groups[one] & groups[two])
        for one, two in combinations(groups, 2)
        if one[0] != two[0]
    ]
    tested: dict[tuple[str, ...], frozenset[int]] = {}
    for names, places in [*(((name[1],), places) for name, places in groups.items()), *pairs]:
        if LEAST <= len(places) <= total - LEAST and places not in tested.values():
            tested[names] = places
    return tested


def _groups(rows: Sequence[Mapping[str, Any]]) -> Groups:
    """Rows by length of the question, label (or length of the answer), file, every column, and the text."""
    tags = [row.get("tags", {}) for row in rows]
    asked = [[turn["content"] for turn in row["context"] if turn["role"] != "system"] for row in rows]
    found = _quarters(
        "question", [sum(len(text.split()) for text in one) for one in asked], "{} words in the question"
    )
    if any(one.get("label") for one in tags):
        found |= _values("label", [one.get("label") for one in tags], "expected {}")
    else:
        answers = [row["answers"][-1]["text"] for row in rows]
        found |= _quarters("answer", [len(text.split()) for text in answers], "{} words expected")
    found |= _values("file", [one.get("file") for one in tags], "from {}")
    for column in dict.fromkeys(name for one in tags for name in one if name not in OWN_TAGS):
        values = [one.get(column) for one in tags]
        numbers = [_number(value) for value in values]
        given = [number for number, value in zip(numbers, values, strict=True) if value not in (None, "")]
        if None not in given and len(set(given)) > 8:
            found |= _quarters(column, numbers, f"{column} {{}}")
        else:
            found |= _values(column, values, f"{column} is {{}}")
    return found | text_groups(["\n".join(one) for one in asked], LEAST)


def _number(value: Any) -> float | None:
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except ValueError:
        return None


def _values(kind: str, values: Sequence[Any], words: str) -> Groups:
    texts = ["" if value is None else " ".join(str(value).split()) for value in values]
    often = [text for text, count in Counter(texts).items() if text and count >= LEAST and len(text) <= 60]
    return {
        (kind, words.format(text)): frozenset(at for at, one in enumerate(texts) if one == text)
        for text in often
    }


def _quarters(kind: str, numbers: Sequence[float | None], words: str) -> Groups:
    known = sorted(one for one in numbers if one is not None)
    edges = sorted({known[math.ceil(len(known) * at / 4) - 1] for at in (1, 2, 3)}) if known else []
    found = {}
    for least, most in zip([-math.inf, *edges], [*edges, math.inf], strict=True):
        places = [at for at, one in enumerate(numbers) if one is not None and least < one <= most]
        if places:
            low, high = (f"{edge(numbers[at] for at in places):,.6g}" for edge in (min, max))
            found[kind, words.format(low if low == high else f"{low} to {high}")] = frozenset(places)
    return found


def _changed_rows(facts: Facts) -> Iterator[Claim]:
    found = facts.json("evaluate/robustness.json")
    parts = [one["kinds"] for one in found.get("candidates", ()) if one["name"] == "tuned"]
    kinds = {KINDS.get(one["kind"], one["kind"]): one for part in parts for one in part if one["rows"]}
    tested = {kind: one for kind, one in kinds.items() if one["units"] >= 30}
    few = len(kinds) - len(tested)
    yield "no kind of change has # rows or more", ("30",)
    yield "# more (?:has|have) fewer than # rows", (str(few), "30")
    if not tested:
        return
    binary = found["grader"] in ("label", "exact", "number")
    change = {
        kind: (one["gained"] - one["lost"]) / one["rows"] if binary else one["difference"]
        for kind, one in tested.items()
    }
    worst = min(change, key=lambda kind: change[kind])
    lost = [kind for kind, one in tested.items() if one["high"] < 0 and one["p"] < 0.05 / len(kinds)]
    want = [points(change[worst]), "95%", points(tested[worst]["low"]), points(tested[worst]["high"])]
    among = ", the worst of # kinds of change" if len(tested) > 1 else ""
    proven = f"a loss is proven with {' and '.join(lost)}" if lost else "no loss is proven"
    yield (
        rf"With {worst} the score changes by # points \(# CI # to #\){among}; {proven}",
        (*want, *([str(len(tested))] if among else [])),
    )


def _other_tasks(facts: Facts) -> Iterator[Claim]:
    found = facts.json("evaluate/general.json")
    for name in (Path(one["file"]).name for one in found.get("missing", ())):
        yield rf"The neighbouring task {re.escape(name)} was not measured", ()
    tasks = found.get("tasks")
    if not tasks:
        return

    def order(one: Mapping[str, Any]) -> tuple[int, float]:
        change, sure = one["tuned"] - one["base"], one["units"] >= 30
        kept, lost = one["low"] > -one["margin"], one["high"] < 0 and change < -one["margin"]
        return (2 if kept and sure else 0 if lost and sure else 1), change

    worst = min(tasks, key=order)
    verdict = ("forgotten", "not proven", "kept")[order(worst)[0]]
    change = [points(worst["tuned"] - worst["base"]), "95%", points(worst["low"]), points(worst["high"])]
    among, number = (
        (", the worst of # neighbouring tasks,", [str(len(tasks))]) if len(tasks) > 1 else ("", [])
    )
    yield (
        rf"{verdict}\.? On {re.escape(worst['task'])}{among} the score changed from the base model's # by "
        r"# points \(# CI # to #\); a loss of # is tolerated",
        (*number, percent(worst["base"]), *change, f"{100 * worst['margin']:g}"),
    )
