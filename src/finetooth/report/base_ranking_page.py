"""models/report.html: candidates for the base model, quality against cost."""

from __future__ import annotations

import math
from typing import Any

from finetooth.config.values import format_count
from finetooth.evaluation.summary import BAG_OF_WORDS
from finetooth.report import html
from finetooth.report.base_ranking import BaseRanking
from finetooth.report.cost_chart import CostPoint, cost_chart


def render(ranking: BaseRanking) -> str:
    """The page as HTML: self-contained, without scripts, everything escaped."""
    return html.render("models.html.jinja", page_context(ranking))


def page_context(ranking: BaseRanking) -> dict[str, Any]:
    """Everything the template needs."""
    results = ranking.results
    return {
        "name": ranking.name,
        "source": ranking.source,
        "sample": ranking.sample,
        "count": format_count(sum(ranking.rows.values()), "row"),
        "headline": f"Start from {ranking.chosen}" if ranking.chosen else "No base model to start from",
        "advice": ranking.advice,
        "baseline": ranking.baseline_words,
        "grader": ranking.grader,
        "method": ranking.method,
        "rows": [
            {
                "name": one.name,
                "chosen": one.name == ranking.chosen,
                "bits": one.bits_words,
                "score": one.score_words,
                "cost": one.cost_words,
            }
            for one in results
        ],
        "charts": _charts(ranking) if results else [],
        "notes": ranking.notes[1:],
    }


def _charts(ranking: BaseRanking) -> list[tuple[str, Any]]:
    """Bits per byte, and the score, against the seconds of an answer: (caption, chart)."""
    results = ranking.results
    bits, scores = [], []
    for one in results:
        chosen, value = one.name == ranking.chosen, one.bits.value
        low, high = (one.bits.low, one.bits.high) if math.isfinite(one.bits.high) else (value, value)
        bits.append(CostPoint(one.name, one.seconds, value, max(0.0, low), high, chosen))
        if one.score["score"] is not None:
            value, low, high = (one.score[key] for key in ("score", "low", "high"))
            scores.append(CostPoint(one.name, one.seconds, value, low, high, chosen))
    words = next((entry["score"] for entry in ranking.baselines if entry["name"] == BAG_OF_WORDS), None)
    charts = [("Bits per byte of the expected answers: lower is better.", cost_chart(bits, "bits per byte"))]
    if scores:
        level = None if words is None else ("bag of words", words)
        chart = cost_chart(scores, f"zero-shot {ranking.grader}", level, "{:.0%}".format)
        charts.append(("Score of the answers when prompted, without training: higher is better.", chart))
    return charts
