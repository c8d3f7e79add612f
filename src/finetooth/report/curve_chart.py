"""The chart of a learning curve: the score against the number of training rows. Places are in percent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from finetooth.report.charts import tick_step

HEIGHT = 300  # of the plot, in pixels
MARGIN = 0.05  # on both sides, as a share of the width


def curve_chart(trainings: Sequence[Mapping[str, Any]], forecast: Mapping[str, Any]) -> Markup:
    """Every training as a point, the fitted curve with its interval, and the forecast with its own.

    The axis of rows is logarithmic. trainings: with `size` and `score`. forecast: `Forecast.to_json()`.
    """
    band, target = forecast["band"], forecast["target"]
    points = [(one["size"], one["score"]) for one in trainings if one["score"] is not None]
    first, last = math.log(band[0]["size"]), math.log(band[-1]["size"])
    values = [score for _, score in points] + [forecast["low"], forecast["high"]]
    values += [one[edge] for one in band for edge in ("low", "high")]
    step = tick_step(max(max(values) - min(values), 0.02), 6)
    bottom, top = math.floor(min(values) / step) * step, math.ceil(max(values) / step) * step

    def x(size: float) -> float:
        share = (math.log(size) - first) / (last - first) if last > first else 0.5
        return 100 * (MARGIN + (1 - 2 * MARGIN) * share)

    def y(value: float) -> float:
        return float(100 * (top - value) / (top - bottom))

    parts = []
    for index in range(round((top - bottom) / step) + 1):
        value = bottom + index * step
        at = f"{y(value):.2f}%"
        parts.append(f'<line class="grid" x1="0" y1="{at}" x2="100%" y2="{at}"/>')
        parts.append(f'<text class="tick" x="-8" y="{at}" dy="4" text-anchor="end">{100 * value:g}%</text>')
    for size in sorted({size for size, _ in points} | {target}):
        parts.append(
            f'<text class="tick" x="{x(size):.2f}%" y="{HEIGHT + 18}" text-anchor="middle">{size:,}</text>'
        )
    parts.append(f'<text class="axis" x="50%" y="{HEIGHT + 38}" text-anchor="middle">training rows</text>')
    parts.append('<text class="axis" x="-8" y="-12" text-anchor="end">score</text>')
    parts.append(_lines(band, forecast["size"], x, y))
    parts += [
        f'<circle class="seed" cx="{x(size):.2f}%" cy="{y(score):.2f}%" r="4"/>' for size, score in points
    ]
    at = f"{x(target):.2f}%"
    parts.append(
        f'<line class="interval" x1="{at}" y1="{y(forecast["low"]):.2f}%" x2="{at}" '
        f'y2="{y(forecast["high"]):.2f}%"/><circle class="forecast" cx="{at}" '
        f'cy="{y(forecast["score"]):.2f}%" r="6"/>'
    )
    label = f"Score against training rows, with a forecast for {target:,}"
    return Markup(
        f'<svg class="learning" width="100%" height="{HEIGHT}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _lines(band: Sequence[Mapping[str, Any]], size: int, x: Any, y: Any) -> str:
    """The interval as an area, the curve up to what was measured, and dashed beyond."""

    def path(entries: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{10 * x(at):.1f},{10 * y(value):.1f}" for at, value in entries)

    upper = [(one["size"], one["high"]) for one in band]
    lower = [(one["size"], one["low"]) for one in reversed(band)]
    middle = [(one["size"], one["score"]) for one in band]
    known = [entry for entry in middle if entry[0] <= size]
    beyond = [known[-1], *[entry for entry in middle if entry[0] > size]]
    return (
        '<svg width="100%" height="100%" viewBox="0 0 1000 1000" preserveAspectRatio="none">'
        f'<polygon class="band" points="{path([*upper, *lower])}"/>'
        f'<polyline class="fit" points="{path(known)}" vector-effect="non-scaling-stroke"/>'
        f'<polyline class="fit beyond" points="{path(beyond)}" vector-effect="non-scaling-stroke"/></svg>'
    )
