"""What a summary may claim: the level of a look at the sealed test, and results that prove nothing.

Each of the declared looks is tested at ALPHA / looks (Bonferroni), so that all of them together give a false
`better` no more often than one look at ALPHA. Holm's procedure would need all p values at once, and a
look is taken because of what the last one showed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetooth.config.values import format_count
from finetooth.evaluation.looks import Look
from finetooth.evaluation.statistics import ALPHA
from finetooth.evaluation.summary import START, result_words


def level(look: Look | None) -> float:
    """The two-sided level of a look's comparisons; ALPHA for rows that are not sealed."""
    return ALPHA if look is None else ALPHA / look.declared


def level_of(declared: int) -> str:
    """The level of each of the declared looks: .05 or .0167."""
    return f"{ALPHA / declared:.3g}".removeprefix("0")


def record_look(summary: dict[str, Any], look: Look) -> None:
    """Add look, looks and alpha to the summary of a look. One beyond the declared ones cannot be `better`."""
    summary |= {"look": look.number, "looks": look.declared, "alpha": level(look)}
    if look.is_beyond:
        declared = f"{format_count(look.declared, 'look')} {'was' if look.declared == 1 else 'were'} declared"
        reason = f"this is look {look.number} at the sealed test and {declared} (evaluate.looks)"
        withdraw_better(summary, f"{reason}, so these rows can prove no further improvement")
    elif look.declared > 1:
        summary["words"] += (
            f" This was look {look.number} at the sealed test, of {look.declared} declared; each is tested "
            f"at the level {level_of(look.declared)}."
        )


def withdraw_better(summary: dict[str, Any], reason: str) -> None:
    """Make `better` in a summary `not proven`, which `withdrawn` then says, and non-inferiority not shown.

    reason: a clause in words.
    """
    comparison = summary.get("comparison")
    if comparison is None:
        return
    if START in summary:
        _withdraw(summary[START])
    if margin := summary.get("non_inferior"):
        summary["non_inferior"] = {**dict.fromkeys(margin, False), "margin": margin["margin"]}
    proven, words = comparison["verdict"] == "better", result_words(summary)
    for one in (comparison, *summary["comparisons"]):
        _withdraw(one)
    if proven:
        comparison["withdrawn"] = True
        summary["words"] = result_words(summary, reason)
    else:
        summary["words"] = f"{words} {reason[:1].upper()}{reason[1:]}."


def _withdraw(comparison: dict[str, Any]) -> None:
    if comparison["verdict"] == "better":
        comparison["verdict"] = "not proven"


def looks_words(summary: Mapping[str, Any], looks: int) -> str:
    """What repeated looks at the sealed test mean for its result, a sentence; "" for a first look.

    looks: what the run's own ledger counts, for summaries of an older version.
    """
    if "alpha" in summary:
        if summary["look"] < 2:
            return ""
        return (
            f"The sealed test was opened {summary['look']} times, by all runs together, of which "
            f"{summary['looks']} can prove something."
        )
    if looks < 2:
        return ""
    return f"The sealed test was opened {looks} times; each further look weakens its evidence."


def shown_look(summary: Mapping[str, Any]) -> str:
    """`look 2 of 3, alpha .0167`; "" for a single one, for other rows and for an older version."""
    if "alpha" not in summary or summary["look"] == summary["looks"] == 1:
        return ""
    return f"look {summary['look']} of {summary['looks']}, alpha {level_of(summary['looks'])}"
