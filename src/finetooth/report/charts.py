"""Charts of the report pages as inline SVG. Colours come from the page's style sheet, for light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from finetooth.evaluation.summary import points

Points = Sequence[tuple[float, float]]

WIDTH = 760  # of a whole-width chart; heights and margins are of the training curve and of the histogram
CURVE_HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 280, 60, 84, 14, 44
SMOOTH_SHARE = 40  # the smoothed line averages over this fraction of the steps
HISTOGRAM_HEIGHT, HISTOGRAM_LEFT, HISTOGRAM_RIGHT, HISTOGRAM_TOP, HISTOGRAM_BOTTOM = 220, 76, 16, 12, 40
BINS = 30
COST_HEIGHT, LINE = 260, 15  # of the chart of costs, and of the names in it
BAR, NAME, COUNT = 22, 200, 90  # height of a bar with its gap; widths of names and of counts


def score_bar(score: float, low: float, high: float, kind: str) -> Markup:
    """A score with its confidence interval on an axis from 0 to 1. kind: the CSS class that colours it."""
    ticks = "".join(
        f'<line class="grid" x1="{at}" y1="0" x2="{at}" y2="26"/>' for at in (5, 72.5, 140, 207.5, 275)
    )
    low_x, x, high_x = (5 + 270 * value for value in (low, score, high))
    return Markup(
        f'<svg class="bar {escape(kind)}" viewBox="0 0 280 26" width="280" height="26" aria-hidden="true">'
        f'{ticks}<line class="interval" x1="{low_x:.1f}" y1="13" x2="{high_x:.1f}" y2="13"/>'
        f'<circle class="point" cx="{x:.1f}" cy="13" r="4.5"/></svg>'
    )


def difference_bar(difference: float, low: float, high: float, verdict: str) -> Markup:
    """A paired difference with its confidence interval on an axis around zero, in percentage points."""
    reach = max(abs(low), abs(high), 0.01)
    step = _step(100 * reach * 2, 6)
    edge = math.ceil(100 * reach / step) * step
    width, middle = 640, 30

    def x(value: float) -> float:
        return 30 + (100 * value / edge + 1) / 2 * (width - 60)

    ticks = []
    for index in range(round(2 * edge / step) + 1):
        value = -edge + index * step
        zero = abs(value) < step / 2
        at = x(value / 100)
        label = "no difference" if zero else f"{value:+g}".replace("-", "−")
        ticks.append(
            f'<line class="{"zero" if zero else "grid"}" x1="{at:.1f}" y1="8" x2="{at:.1f}" y2="52"/>'
            f'<text class="tick" x="{at:.1f}" y="70" text-anchor="middle">{label}</text>'
        )
    kind = verdict.replace(" ", "-")
    title = f"{points(difference)} points, 95% confidence interval {points(low)} to {points(high)}"
    return Markup(
        f'<svg class="difference {escape(kind)}" viewBox="0 0 {width} 78" role="img" aria-label="{title}">'
        f'{"".join(ticks)}<line class="interval" x1="{x(low):.1f}" y1="{middle}" x2="{x(high):.1f}" '
        f'y2="{middle}"/><circle class="point" cx="{x(difference):.1f}" cy="{middle}" r="7"/></svg>'
    )


def smooth(loss_S: Points) -> tuple[Points, int]:
    """The running mean over the last k steps, and k: a fortieth of the steps, at least 1."""
    k = max(1, len(loss_S) // SMOOTH_SHARE)
    smoothed = []
    for index, (step, _) in enumerate(loss_S):
        window = [loss for _, loss in loss_S[max(0, index - k + 1) : index + 1]]
        smoothed.append((step, sum(window) / len(window)))
    return smoothed, k


def training_curve(train_S: Points, valid_S: Points, quantity: str = "loss") -> Markup:  # long: back to front
    """Training (every step, and smoothed) and validation over the optimizer steps. quantity: the y axis."""
    smoothed, k = smooth(train_S)
    both = [*train_S, *valid_S]
    last_step = max(step for step, _ in both)
    values = [value for _, value in both]
    highest, lowest = max([0.0, *values]), min([0.0, *values])
    step_y = _step(highest - lowest or 1.0, 5)
    top = max(step_y, math.ceil(highest / step_y) * step_y)
    bottom = math.floor(lowest / step_y) * step_y
    across, down = WIDTH - LEFT - RIGHT, CURVE_HEIGHT - TOP - BOTTOM

    def place(points_S: Points) -> list[tuple[float, float]]:
        return [
            (LEFT + across * step / max(last_step, 1), TOP + down * (top - value) / (top - bottom))
            for step, value in points_S
        ]

    def line(points_S: Points, kind: str) -> str:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in place(points_S))
        return f'<polyline class="{kind}" points="{path}"/>'

    parts = []
    for index in range(round((top - bottom) / step_y) + 1):
        value = bottom + index * step_y
        ((_, y),) = place([(0, value)])
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    step_x = max(1.0, _step(last_step, 6))
    for index in range(int(last_step / step_x) + 1):
        ((x, _),) = place([(index * step_x, 0)])
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{CURVE_HEIGHT - BOTTOM + 18}" text-anchor="middle">'
            f"{index * step_x:,.0f}</text>"
        )
    middle_x, middle_y = LEFT + across / 2, TOP + down / 2
    parts.append(
        f'<text class="axis" x="{middle_x}" y="{CURVE_HEIGHT - 6}" text-anchor="middle">optimizer step</text>'
        f'<text class="axis" x="14" y="{middle_y}" text-anchor="middle" '
        f'transform="rotate(-90 14 {middle_y})">{quantity}</text>'
    )
    if k > 1:
        parts.append(line(train_S, "raw"))
    if smoothed:
        parts.append(line(smoothed, "train"))
    if valid_S:
        parts.append(line(valid_S, "valid"))
        parts += [f'<circle class="valid" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in place(valid_S)]
    ends = [
        (name, place(points_S)[-1][1])
        for name, points_S in (("training", smoothed), ("validation", valid_S))
        if points_S
    ]
    if len(ends) == 2 and abs(ends[0][1] - ends[1][1]) < 15:  # keep the two names apart
        middle, sign = (ends[0][1] + ends[1][1]) / 2, 1 if ends[0][1] > ends[1][1] else -1
        ends = [(ends[0][0], middle + 8 * sign), (ends[1][0], middle - 8 * sign)]
    parts += [
        f'<text class="name {name}" x="{WIDTH - RIGHT + 10}" y="{y + 4:.1f}">{name}</text>'
        for name, y in ends
    ]
    return Markup(
        f'<svg class="loss" viewBox="0 0 {WIDTH} {CURVE_HEIGHT}" role="img" '
        f'aria-label="{quantity.capitalize()} over the steps">{"".join(parts)}</svg>'
    )


def histogram(series: Sequence[Sequence[int]], limit: int | None = None) -> Markup:
    """One or two sets of token counts in bins of equal width, side by side within a bin.

    limit: marked by a vertical line where it lies within the counts.
    """
    left, top, bottom = HISTOGRAM_LEFT, HISTOGRAM_TOP, HISTOGRAM_HEIGHT - HISTOGRAM_BOTTOM
    right = WIDTH - HISTOGRAM_RIGHT
    highest = max((value for values in series for value in values), default=1)
    width = max(1.0, _step(max(highest, 1), BINS))
    bins = math.floor(highest / width) + 1
    counts = [[0] * bins for _ in series]
    for own, values in zip(counts, series, strict=True):
        for value in values:
            own[math.floor(value / width)] += 1
    most = max(max(own) for own in counts) or 1
    across, down = (right - left) / bins, bottom - top
    parts = []
    tick = max(1.0, _step(most, 6))
    for index in range(math.floor(most / tick) + 1):
        y = top + down * (1 - index * tick / most)
        parts.append(f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{index * tick:,.0f}</text>')
    for at, (kind, own) in enumerate(zip(("mark", "second"), counts, strict=False)):
        share = 1 / len(counts)
        for index, count in enumerate(own):
            height = down * count / most
            x = left + across * (index + at * share) + 0.5
            parts.append(
                f'<rect class="{kind}" x="{x:.1f}" y="{bottom - height:.1f}" '
                f'width="{max(0.5, across * share - 1):.1f}" height="{height:.1f}"/>'
            )
    for index in range(0, bins + 1, max(1, math.ceil(bins / 8))):
        parts.append(f'<text x="{left + across * index:.1f}" y="{bottom + 18}">{index * width:,.0f}</text>')
    if limit is not None and limit <= bins * width:
        x = left + across * limit / width
        parts.append(f'<line class="limit" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>')
    parts.append(
        f'<text class="axis" x="{(left + right) / 2}" y="{HISTOGRAM_HEIGHT - 4}" text-anchor="middle">'
        "tokens per row</text>"
    )
    return _plot(parts, HISTOGRAM_HEIGHT, "Rows by their length in tokens")


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
    step = _step(max(values) - min(values) or 0.1, 5)
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


def bars(counts: Mapping[str, int], description: str) -> Markup:
    """A horizontal bar for each name with its count, in the given order."""
    most = max(counts.values(), default=1) or 1
    parts = []
    for index, (name, count) in enumerate(counts.items()):
        y = index * BAR
        width = (WIDTH - NAME - COUNT) * count / most
        parts.append(
            f'<text class="name" x="{NAME - 10}" y="{y + 15}" text-anchor="end">'
            f"{escape(_shortened(name))}</text>"
            f'<rect class="mark" x="{NAME}" y="{y + 4}" width="{max(width, 1):.1f}" height="{BAR - 8}"/>'
            f'<text x="{NAME + width + 8:.1f}" y="{y + 15}">{count:,}</text>'
        )
    return _plot(parts, BAR * len(counts), description)


def _shortened(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "…"


def _plot(parts: Sequence[str], height: int, description: str) -> Markup:
    return Markup(
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(description)}">'
        f"{''.join(parts)}</svg>"
    )


def _step(span: float, count: int) -> float:
    """A tick distance of 1, 2 or 5 times a power of ten that divides the span into at most `count` parts."""
    rough = max(span, 1e-9) / count
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
