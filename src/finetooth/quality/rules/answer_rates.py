"""Answer rates by group: whether the groups defined by a column have the same answers equally often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from finetooth.quality.findings import Finding, View
from finetooth.quality.intervals import wilson
from finetooth.quality.rules.labels import train_labels
from finetooth.types import Example

MOST_GROUPS = 50
MOST_ANSWERS = 50
FEWEST = 10  # rows that a group or an answer needs to be compared
FALSE_DISCOVERIES = 0.05
NOTABLE = 0.1  # difference between the highest and the lowest rate from which a person should look
SHOWN = 3


def answer_rates(view: View, column: str = "") -> Iterator[Finding]:
    """`answer-rates` (review if an answer's rates differ by NOTABLE or more, else info).

    column: the column (a tag of the rows) to group by; defaults to data.rates. For each answer, a chi-square
    test compares its rate across the groups with at least FEWEST rows. p-values are adjusted over all answers
    (Benjamini and Hochberg 1995, JRSS B 57:289; false discovery rate 5%). Rates have Wilson intervals.
    """
    column = column or str(getattr(view.config, "rates", None) or "")
    if not column:
        return
    counts = train_labels(view) or _few_answers(view)
    key = "group" if column == view.config.group else column  # data.group is stored under this name
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
    notable = [answer for answer in differ if spread[answer] >= NOTABLE]
    yield Finding(
        "answer-rates",
        "review" if notable else "info",
        _summary(column, groups, answers, differ, table),
        fix="If the groups should get the same answers, check how their rows were collected and labelled; "
        "data.clean: balance evens out the number of rows." if notable else "",
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
    """Answers in a free-text format, if there are only a few different ones."""
    counts = Counter(row.target for row in view.sides.get("train", ()))
    return counts if view.format != "text" and len(counts) <= MOST_ANSWERS else Counter()


def _rate(k: int, n: int) -> dict[str, float]:
    low, high = wilson(k, n)
    return {"rate": k / n, "low": low, "high": high, "rows": n}


def _spread(rates: dict[str, dict[str, float]]) -> float:
    values = [cell["rate"] for cell in rates.values()]
    return max(values) - min(values)


def _summary(
    column: str,
    groups: Sequence[str],
    answers: Sequence[str],
    differ: Sequence[str],
    table: dict[str, dict[str, dict[str, float]]],
) -> str:
    if not differ:
        return (
            f"The {len(groups)} groups of {column!r} have the same answers about equally often: for none "
            f"of the {len(answers)} answers is the difference statistically significant."
        )
    parts = []
    for answer in differ[:SHOWN]:
        order = sorted(groups, key=lambda name: table[answer][name]["rate"])
        parts.append(
            f"{answer!r} is given to {_cell(order[-1], table[answer])} and {_cell(order[0], table[answer])}"
        )
    more = f"; {len(differ) - SHOWN} more answers differ" if len(differ) > SHOWN else ""
    return (
        f"The groups of {column!r} get different answers, and the difference is statistically significant: "
        f"{'; '.join(parts)}{more}. The model will learn this difference."
    )


def _cell(name: str, rates: dict[str, dict[str, float]]) -> str:
    cell = rates[name]
    return f"{cell['rate']:.0%} of {name!r} ({cell['low']:.0%} to {cell['high']:.0%})"


def _p(cells: Sequence[tuple[int, int]]) -> float:
    """p-value for equal rates in all groups, by a chi-square test; by 2,000 seeded permutations if any
    expected cell count is below 5."""
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
    """Benjamini-Hochberg adjusted p-values, in the order given."""
    order = sorted(range(len(p)), key=lambda at: -p[at])
    result, least = [1.0] * len(p), 1.0
    for rank, at in enumerate(order):
        least = min(least, p[at] * len(p) / (len(p) - rank))
        result[at] = least
    return result
