"""The chart of a ranking of models: quality against the cost of an answer. Everything is a small SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from finetooth.report.charts import tick_step

WIDTH, COST_HEIGHT, LEFT, TOP, BOTTOM = 760, 260, 60, 14, 44
LINE, NAME = 15, 200  # height and width of the names in it


class CostPoint(NamedTuple):
    """What a candidate costs, above 0, and what it is worth, with its interval. chosen: stands out."""

    name: str
    cost: float
    value: float
    low: float
    high: float
    chosen: bool


def cost_chart(  # long: back to front
    points_C: Sequence[CostPoint],
    quantity: str,
    level: tuple[str, float] | None = None,
    show: Callable[[float], str] = "{:g}".format,
) -> Markup:
    """Quality (linear) against seconds per answer (logarithmic). quantity: the y axis; show: its numbers.

    level: a name and a value, drawn as a line.
    """
    values = [value for point in points_C for value in (point.low, point.high)] + (
        [level[1]] if level else []
    )
    step = tick_step(max(values) - min(values) or 0.1, 5)
    bottom, top = math.floor(min(values) / step) * step, math.ceil(max(values) / step) * step
    top = top if top > bottom else bottom + step
    first, last = (math.log10(edge(point.cost for point in points_C)) for edge in (min, max))
    margin = max(0.15, (last - first) / 8)
    left, right = first - margin, last + margin
    across, down = WIDTH - LEFT - 24, COST_HEIGHT - TOP - BOTTOM

    def place(cost: float, value: float) -> tuple[float, float]:
        x = LEFT + across * (math.log10(cost) - left) / (right - left)
        return x, TOP + down * (top - value) / (top - bottom)

    parts = []
    for index in range(round((top - bottom) / step) + 1):
        value = bottom + index * step
        y = place(10**first, value)[1]
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - 24}" y2="{y:.1f}"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(show(round(value, 9)))}</text>'
        )
    for power in range(math.floor(left), math.ceil(right) + 1):
        for cost in (10.0**power, 2 * 10.0**power, 5 * 10.0**power):
            if left <= math.log10(cost) <= right:
                x = place(cost, top)[0]
                parts.append(
                    f'<text x="{x:.1f}" y="{COST_HEIGHT - BOTTOM + 18}" text-anchor="middle">{cost:g}</text>'
                )
    middle = TOP + down / 2
    parts.append(
        f'<text class="axis" x="{LEFT + across / 2}" y="{COST_HEIGHT - 6}" text-anchor="middle">'
        f'seconds per answer</text><text class="axis" x="14" y="{middle}" text-anchor="middle" '
        f'transform="rotate(-90 14 {middle})">{escape(quantity)}</text>'
    )
    if level:
        y = place(10**first, level[1])[1]
        parts.append(f'<line class="level" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - 24}" y2="{y:.1f}"/>')
        parts.append(f'<text class="level-name" x="{LEFT + 4}" y="{y - 5:.1f}">{escape(level[0])}</text>')
    names: list[tuple[float, float]] = []  # where names stand already
    for point in sorted(points_C, key=lambda one: place(one.cost, one.value)[1]):
        (x, y), low, high = (
            place(point.cost, point.value),
            place(point.cost, point.low)[1],
            place(point.cost, point.high)[1],
        )
        at = y + 4
        while any(abs(at - other) < LINE and abs(x - beside) < NAME for beside, other in names):
            at += 1
        names.append((x, at))
        side, anchor = (12, "start") if x < WIDTH * 0.7 else (-12, "end")
        parts.append(
            f'<g class="{"chosen" if point.chosen else "other"}">'
            f'<line class="interval" x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}"/>'
            f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
            f'<text class="name" x="{x + side:.1f}" y="{at:.1f}" text-anchor="{anchor}">'
            f"{escape(_shortened(point.name))}</text></g>"
        )
    return Markup(
        f'<svg class="cost" viewBox="0 0 {WIDTH} {COST_HEIGHT}" role="img" '
        f'aria-label="{escape(quantity)} against seconds per answer">{"".join(parts)}</svg>'
    )


def _shortened(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "…"
