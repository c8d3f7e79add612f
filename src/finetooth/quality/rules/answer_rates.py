"""How often each answer comes in each group of a column: the question that comes before any talk of bias."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from finetooth.quality.findings import Finding, View
from finetooth.quality.intervals import wilson
from finetooth.quality.rules.labels import train_labels
from finetooth.types import Example

MOST_GROUPS = 50
MOST_ANSWERS = 50
FEWEST = 10  # rows of a group, and of an answer, that are compared
FALSE_DISCOVERIES = 0.05
TELLING = 0.1  # points between the highest and the lowest rate that are worth a person's eye
SHOWN = 3


def answer_rates(view: View, column: str = "") -> Iterator[Finding]:
    """`answer-rates` (review where an answer's rates differ by TELLING and more, else info).

    column: of the user's data, a tag of the rows; else `rates` of view.config. For each answer a chi-square
    test of having it over the groups of FEWEST rows or more; p over all answers as of Benjamini and Hochberg
    (1995, JRSS B 57:289), at a false discovery rate of 5%. Rates have Wilson intervals.
    """
    column = column or str(getattr(view.config, "rates", None) or "")
    if not column:
        return
    counts = train_labels(view) or _few_answers(view)
    key = "group" if column == view.config.group else column  # where data.group is kept
    rows = [row for row in view.sides.get("train", ()) if _group(row, key)]
    sizes = Counter(_group(row, key) for row in rows)
    groups = sorted((name for name in sizes if sizes[name] >= FEWEST), key=lambda name: (-sizes[name], name))[
        :MOST_GROUPS
    ]
    answers = [answer for answer, rows_of in counts.most_common(MOST_ANSWERS) if rows_of >= FEWEST]
    if len(groups) < 2 or len(answers) < 2:
        return
    have = Counter((_group(row, key), row.target) for row in rows)
    p = [_p([(have[name, answer], sizes[name]) for name in groups]) for answer in answers]
    table = {answer: {name: _rate(have[name, answer], sizes[name]) for name in groups} for answer in answers}
    differ = [answer for answer, q in zip(answers, _adjusted(p), strict=True) if q <= FALSE_DISCOVERIES]
    spread = {answer: _spread(table[answer]) for answer in answers}
    differ.sort(key=lambda answer: (-spread[answer], answer))
    told = [answer for answer in differ if spread[answer] >= TELLING]
    yield Finding(
        "answer-rates",
        "review" if told else "info",
        _says(column, groups, answers, differ, table),
        fix="If the groups should be answered alike, look at how their rows were collected and labelled; "
        "data.clean: balance evens out the rows." if told else "",
        facts={
            "column": column,
            "sizes": {name: sizes[name] for name in groups},
            "rates": table,
            "p_adjusted": dict(zip(answers, _adjusted(p), strict=True)),
        },
    )  # fmt: skip


def _group(row: Example, key: str) -> str:
    return str(row.tags.get(key, "")).strip()


def _few_answers(view: View) -> Counter[str]:
    """Answers of a format of free text, where there are few."""
    counts = Counter(row.target for row in view.sides.get("train", ()))
    return counts if view.format != "text" and len(counts) <= MOST_ANSWERS else Counter()


def _rate(k: int, n: int) -> dict[str, float]:
    low, high = wilson(k, n)
    return {"rate": k / n, "low": low, "high": high, "rows": n}


def _spread(rates: dict[str, dict[str, float]]) -> float:
    values = [cell["rate"] for cell in rates.values()]
    return max(values) - min(values)


def _says(
    column: str,
    groups: Sequence[str],
    answers: Sequence[str],
    differ: Sequence[str],
    table: dict[str, dict[str, dict[str, float]]],
) -> str:
    if not differ:
        return (
            f"The {len(groups)} groups of {column!r} have the same answers about equally often: none of "
            f"{len(answers)} answers differs by more than chance explains."
        )
    parts = []
    for answer in differ[:SHOWN]:
        order = sorted(groups, key=lambda name: table[answer][name]["rate"])
        parts.append(
            f"{answer!r} is given to {_cell(order[-1], table[answer])} and {_cell(order[0], table[answer])}"
        )
    more = f"; and {len(differ) - SHOWN} more answers differ" if len(differ) > SHOWN else ""
    return (
        f"The groups of {column!r} do not get the same answers, by more than chance explains: "
        f"{'; '.join(parts)}{more}. The model will learn that difference."
    )


def _cell(name: str, rates: dict[str, dict[str, float]]) -> str:
    cell = rates[name]
    return f"{cell['rate']:.0%} of {name!r} ({cell['low']:.0%} to {cell['high']:.0%})"


def _p(cells: Sequence[tuple[int, int]]) -> float:
    """Of the hypothesis that all groups have the same rate: chi-square, or by 2,000 seeded permutations where
    fewer than 5 rows are expected in a cell."""
    import numpy as np
    from scipy import stats

    k_G, n_G = (np.array(values, dtype=np.float64) for values in zip(*cells, strict=True))
    rate = k_G.sum() / n_G.sum()
    if rate in (0, 1):
        return 1.0
    expected = np.minimum(rate, 1 - rate) * n_G

    def statistic(have: np.ndarray) -> np.ndarray:
        return np.asarray((((have - rate * n_G) ** 2) / (n_G * rate * (1 - rate))).sum(axis=-1))

    if expected.min() >= 5:
        return float(stats.chi2.sf(statistic(k_G), len(cells) - 1))
    drawn = np.random.default_rng(0).multivariate_hypergeometric(n_G.astype(int), int(k_G.sum()), size=2_000)
    return float((1 + (statistic(drawn) >= statistic(k_G) - 1e-9).sum()) / 2_001)


def _adjusted(p: Sequence[float]) -> list[float]:
    """p-values of Benjamini and Hochberg, in the order given."""
    order = sorted(range(len(p)), key=lambda at: -p[at])
    result, least = [1.0] * len(p), 1.0
    for rank, at in enumerate(order):
        least = min(least, p[at] * len(p) / (len(p) - rank))
        result[at] = least
    return result
