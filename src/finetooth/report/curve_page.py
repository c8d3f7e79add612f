"""curve.html: the score against the number of training rows, what more would bring, and where."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from finetooth.analysis import learning_curve
from finetooth.analysis.learning_curve import signed
from finetooth.config.values import format_count
from finetooth.evaluation.verdict_words import percent
from finetooth.report import html
from finetooth.report.answers import clip
from finetooth.report.curve_chart import curve_chart

MOST_GAINS = 10  # labels that are listed


def render(curve: Mapping[str, Any]) -> str:
    """The page as HTML: self-contained, without scripts, everything escaped. curve: of curve.json."""
    return html.render("curve.html.jinja", page_context(curve))


def page_context(curve: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the template needs."""
    forecast = curve["forecast"]
    verdict = learning_curve.verdict(forecast)
    kinds = {
        learning_curve.HELPS: "better",
        learning_curve.ON_AVERAGE: "better",
        learning_curve.NO_HELP: "none",
    }
    proven = kinds.get(verdict, "not-proven")
    return {
        "name": curve["name"],
        "model": curve["model"],
        "headline": headline(forecast),
        "proven": proven,
        "badge": verdict,
        "kicker": f"{format_count(curve['graded'], 'validation row')}, "
        f"{format_count(len(curve['trainings']), 'training')}",
        "forecast": forecast,
        "gain": signed(forecast["gain"]),
        "gain_range": f"{signed(forecast['gain_low'])} to {signed(forecast['gain_high'])}",
        "mean_range": f"{signed(forecast['mean_low'])} to {signed(forecast['mean_high'])}",
        "chart": curve_chart(curve["trainings"], forecast),
        "sizes": _sizes(curve),
        "group": curve["group"],
        "gain_words": curve["gain_words"],
        "gains": [
            {
                "group": clip(one["group"]),
                "rows": f"{one['rows']:,.0f}",
                "validation": f"{one['validation']:,}",
                "error": percent(one["error"]),
                "gain": signed(one["gain"]),
                "range": f"{signed(one['low'])} to {signed(one['high'])}",
                "stands_out": one["stands_out"],
            }
            for one in curve["gains"][:MOST_GAINS]
        ],
        "more_gains": max(0, len(curve["gains"]) - MOST_GAINS),
    }


def headline(forecast: Mapping[str, Any]) -> str:
    """The result in a few words."""
    return {
        learning_curve.HELPS: f"Twice the rows would bring about {signed(forecast['gain'])} points",
        learning_curve.ON_AVERAGE: f"Twice the rows bring about {signed(forecast['gain'])} points on average",
        learning_curve.NO_HELP: "More rows of this kind would not help",
    }.get(learning_curve.verdict(forecast), "It is not proven that twice the rows would help")


def _sizes(curve: Mapping[str, Any]) -> list[dict[str, str]]:
    """A line for each size: the scores of its trainings, and their steps, both in the order of the seeds."""
    found = []
    for size in sorted({one["size"] for one in curve["trainings"]}):
        of = sorted((one for one in curve["trainings"] if one["size"] == size), key=itemgetter("seed"))
        scores = [one["score"] for one in of if one["score"] is not None]
        found.append(
            {
                "size": f"{size:,}",
                "score": percent(sum(scores) / len(scores)) if scores else "–",
                "each": ", ".join("–" if one["score"] is None else percent(one["score"]) for one in of),
                "steps": ", ".join(f"{one['steps']:,}" for one in of),
                "minutes": f"{sum(sum(one['seconds'].values()) for one in of) / 60:.1f}",
            }
        )
    return found


def terminal_tables(curve: Mapping[str, Any]) -> Group:
    """The sizes, the forecast in words, and the labels that more rows would help most, for rich."""
    page, forecast = page_context(curve), curve["forecast"]
    sizes = Table(title=page["kicker"], title_justify="left", title_style="dim", box=None, pad_edge=False)
    sizes.add_column("training rows", justify="right")
    sizes.add_column("score", justify="right")
    sizes.add_column("of each training")
    for line in page["sizes"]:
        sizes.add_row(line["size"], line["score"], line["each"])
    band = f"{percent(forecast['low'])} to {percent(forecast['high'])} (forecast)"
    sizes.add_row(f"{forecast['target']:,}", percent(forecast["score"]), band, style="dim")
    parts: list[Any] = [sizes, Text(f"\n{forecast['words']}", "bold" if page["proven"] == "better" else "")]
    parts += [Text(f"warning: {one}", "yellow") for one in forecast["warnings"]]
    if page["gains"]:
        gains = Table(box=None, pad_edge=False)
        for name in (
            f"\n{curve['group']}",
            "\nits rows",
            "\nwrong",
            "\ndoubling them brings",
            "\n90% interval",
        ):
            gains.add_column(name, justify="left" if name == f"\n{curve['group']}" else "right")
        for line in page["gains"][:5]:
            style = "bold" if line["stands_out"] else ""
            gains.add_row(
                Text(line["group"]), line["rows"], line["error"], line["gain"], line["range"], style=style
            )
        parts += [gains, Text(f"\n{curve['gain_words']}")]
    return Group(*parts)
