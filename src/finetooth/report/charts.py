"""Small charts as inline SVG. Colours come from the page's style sheet, so they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from finetooth.evaluation.summary import points

Points = Sequence[tuple[float, float]]
Place = Callable[[Points], list[tuple[float, float]]]

WIDTH, HEIGHT = 760, 280
LEFT, RIGHT, TOP, BOTTOM = 60, 84, 14, 44
SMOOTH_SHARE = 40  # the smoothed line averages over this fraction of the steps


def score_bar(score: float, low: float, high: float, kind: str) -> Markup:
    """A score with its interval on an axis from 0 to 1. kind: the CSS class that colours it."""
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
    """The difference with its interval, on an axis around zero, in percentage points."""
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
    title = f"{points(difference)} points, 95% interval {points(low)} to {points(high)}"
    return Markup(
        f'<svg class="difference {escape(kind)}" viewBox="0 0 {width} 78" role="img" aria-label="{title}">'
        f'{"".join(ticks)}<line class="interval" x1="{x(low):.1f}" y1="{middle}" x2="{x(high):.1f}" '
        f'y2="{middle}"/><circle class="point" cx="{x(difference):.1f}" cy="{middle}" r="7"/></svg>'
    )


def smooth(loss_S: Points) -> tuple[Points, int]:
    """The running mean over the last k steps, and k: a fortieth of the steps, 1 when there are few."""
    k = max(1, len(loss_S) // SMOOTH_SHARE)
    smoothed = []
    for index, (step, _) in enumerate(loss_S):
        window = [loss for _, loss in loss_S[max(0, index - k + 1) : index + 1]]
        smoothed.append((step, sum(window) / len(window)))
    return smoothed, k


def training_curve(train_S: Points, valid_S: Points, what: str = "loss") -> Markup:
    """Training (each step and smoothed) and validation over the steps. what: both are, as the axis has it."""
    smoothed, k = smooth(train_S)
    every = [*train_S, *valid_S]
    right = max(step for step, _ in every)
    values = [loss for _, loss in every]
    highest, lowest = max([0.0, *values]), min([0.0, *values])
    step_y = _step(highest - lowest or 1.0, 5)
    top = max(step_y, math.ceil(highest / step_y) * step_y)
    bottom = math.floor(lowest / step_y) * step_y

    def place(points_S: Points) -> list[tuple[float, float]]:
        across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return [
            (LEFT + across * step / max(right, 1), TOP + down * (top - loss) / (top - bottom))
            for step, loss in points_S
        ]

    parts = _axes(place, right, bottom, top, step_y, what)
    if k > 1:
        parts.append(_line(place(train_S), "raw"))
    if smoothed:
        parts.append(_line(place(smoothed), "train"))
    if valid_S:
        parts.append(_line(place(valid_S), "valid"))
        parts += [f'<circle class="valid" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in place(valid_S)]
    parts += _names(place, smoothed, valid_S)
    return Markup(
        f'<svg class="loss" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{what.capitalize()} over the steps">'
        f"{''.join(parts)}</svg>"
    )


def _axes(place: Place, right: float, bottom: float, top: float, step_y: float, what: str) -> list[str]:
    parts = []
    for index in range(round((top - bottom) / step_y) + 1):
        value = bottom + index * step_y
        ((_, y),) = place([(0, value)])
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    step_x = max(1.0, _step(right, 6))
    for index in range(int(right / step_x) + 1):
        ((x, _),) = place([(index * step_x, 0)])
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
            f"{index * step_x:,.0f}</text>"
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">optimizer step</text>'
    )
    down = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text class="axis" x="14" y="{down}" text-anchor="middle" '
        f'transform="rotate(-90 14 {down})">{what}</text>'
    )
    return parts


def _names(place: Place, smoothed: Points, valid_S: Points) -> list[str]:
    """The lines' names at their right ends, kept apart."""
    ends = [
        (name, *place(line)[-1]) for name, line in (("training", smoothed), ("validation", valid_S)) if line
    ]
    if len(ends) == 2 and abs(ends[0][2] - ends[1][2]) < 15:
        middle, sign = (ends[0][2] + ends[1][2]) / 2, 1 if ends[0][2] > ends[1][2] else -1
        ends = [(ends[0][0], ends[0][1], middle + 8 * sign), (ends[1][0], ends[1][1], middle - 8 * sign)]
    return [
        f'<text class="name {name}" x="{WIDTH - RIGHT + 10}" y="{y + 4:.1f}">{name}</text>'
        for name, _, y in ends
    ]


def _line(points_S: Points, kind: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points_S)
    return f'<polyline class="{kind}" points="{path}"/>'


def _step(span: float, count: int) -> float:
    """A distance of 1, 2 or 5 times a power of ten that divides the span into at most `count` parts."""
    rough = max(span, 1e-9) / count
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
