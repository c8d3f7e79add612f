"""Charts of the report pages as inline SVG. Colours come from the page's style sheet, for light and dark.

Places are in percent of the plot, which has no size of its own: a chart fills its column on a wide screen as
on a narrow one, and its text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from markupsafe import Markup, escape

from finetooth.evaluation.verdict_words import points

Points = Sequence[tuple[float, float]]

CURVE, HISTOGRAM, SQUARE = 220, 150, 280  # heights of the plots, in pixels
SMOOTH_SHARE = 40  # the smoothed line averages over this fraction of the steps
FLATTENED = 10  # the axis is logarithmic where the highest loss is this many times the median
DECADES = 5  # of a logarithmic axis, at most
BINS = 30


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


def difference_bar(
    difference: float, low: float, high: float, verdict: str, names: tuple[str, str] = ("", "")
) -> Markup:
    """A paired difference with its confidence interval on an axis around zero, in percentage points.

    names: what is better to the left of zero, and what to the right.
    """
    reach = max(abs(low), abs(high), 0.01)
    step = tick_step(100 * reach * 2, 6)
    edge = math.ceil(100 * reach / step) * step

    def x(value: float) -> float:
        return 50 * (100 * value / edge + 1)

    ticks = []
    for index in range(round(2 * edge / step) + 1):
        value = -edge + index * step
        zero = abs(value) < step / 2
        at = x(value / 100)
        label = "0" if zero else f"{value:+g}".replace("-", "−")
        ticks.append(
            f'<line class="{"zero" if zero else "grid"}" x1="{at:.2f}%" y1="8" x2="{at:.2f}%" y2="52"/>'
            f'<text class="tick" x="{at:.2f}%" y="70" text-anchor="middle">{label}</text>'
        )
    for name, end, anchor in zip(names, ("0", "100%"), ("start", "end"), strict=True):
        if name:
            shown = f"← {name}" if anchor == "start" else f"{name} →"
            ticks.append(f'<text class="side" x="{end}" y="94" text-anchor="{anchor}">{escape(shown)}</text>')
    kind, high_svg = verdict.replace(" ", "-"), 100 if any(names) else 78
    title = f"{points(difference)} points, 95% confidence interval {points(low)} to {points(high)}"
    return Markup(
        f'<svg class="difference {escape(kind)}" width="100%" height="{high_svg}" role="img" '
        f'aria-label="{title}">{"".join(ticks)}<line class="interval" x1="{x(low):.2f}%" y1="30" '
        f'x2="{x(high):.2f}%" y2="30"/><circle class="point" cx="{x(difference):.2f}%" cy="30" r="7"/></svg>'
    )


def smooth(loss_S: Points) -> tuple[Points, int]:
    """The running mean over the last k steps, and k: a fortieth of the steps, at least 1."""
    k = max(1, len(loss_S) // SMOOTH_SHARE)
    smoothed = []
    for index, (step, _) in enumerate(loss_S):
        window = [loss for _, loss in loss_S[max(0, index - k + 1) : index + 1]]
        smoothed.append((step, sum(window) / len(window)))
    return smoothed, k


def flattened(train_S: Points, valid_S: Points) -> bool:
    """Whether on a linear axis the start would leave no height to the rest: all > 0, most far below."""
    values = [value for _, value in [*train_S, *valid_S]]
    return min(values) > 0 and max(values) >= FLATTENED * median(values)


def training_curve(
    train_S: Points, valid_S: Points, quantity: str = "loss", kept: float | None = None
) -> Markup:
    """Training (every step, and smoothed) and validation over the optimizer steps.

    quantity: the y axis; a `score` is shown in percent, and a loss whose start flattens the rest on a
    logarithmic axis. kept: the step of the weights that were kept, marked.
    """
    smoothed, k = smooth(train_S)
    last_step = max(1.0, *(step for step, _ in [*train_S, *valid_S]))
    log = quantity == "loss" and flattened(train_S, valid_S)
    ticks, height = _y_axis([value for _, value in [*train_S, *valid_S]], quantity, log)

    def line(points_S: Points, kind: str) -> str:
        path = " ".join(f"{1000 * s / last_step:.1f},{1000 - 1000 * height(v):.1f}" for s, v in points_S)
        return f'<polyline class="{kind}" points="{path}" vector-effect="non-scaling-stroke"/>'

    parts = []
    for value, label in ticks:
        y = f"{100 - 100 * height(value):.2f}%"
        parts.append(f'<line class="grid" x1="0" y1="{y}" x2="100%" y2="{y}"/>')
        parts.append(f'<text class="tick" x="-8" y="{y}" dy="4" text-anchor="end">{label}</text>')
    step_x = max(1.0, tick_step(last_step, 6))
    for index in range(int(last_step / step_x) + 1):
        parts.append(_below(100 * index * step_x / last_step, f"{index * step_x:,.0f}", CURVE))
    parts.append(f'<text class="axis" x="50%" y="{CURVE + 38}" text-anchor="middle">optimizer step</text>')
    parts.append(f'<text class="axis" x="-8" y="-12" text-anchor="end">{quantity}</text>')
    if kept is not None:
        at = 100 * kept / last_step
        side, dx = ("end", -7) if at > 50 else ("start", 7)
        parts.append(
            f'<line class="kept" x1="{at:.2f}%" y1="-4" x2="{at:.2f}%" y2="100%"/><text class="kept" '
            f'x="{at:.2f}%" dx="{dx}" y="8" text-anchor="{side}">kept: step {kept:,.0f}</text>'
        )
    lines = [line(train_S, "raw")] * (k > 1)
    lines += [line(smoothed, "train")] if smoothed else []
    lines += [line(valid_S, "valid")] if valid_S else []
    parts.append(
        '<svg width="100%" height="100%" viewBox="0 0 1000 1000" preserveAspectRatio="none">'
        f"{''.join(lines)}</svg>"
    )
    parts += [
        f'<circle class="valid" cx="{100 * step / last_step:.2f}%" '
        f'cy="{100 - 100 * height(value):.2f}%" r="3"/>'
        for step, value in valid_S
    ]
    return Markup(
        f'<svg class="curve" width="100%" height="{CURVE}" role="img" '
        f'aria-label="{quantity.capitalize()} over the steps">{"".join(parts)}</svg>'
    )


def _y_axis(
    values: Sequence[float], quantity: str, log: bool
) -> tuple[list[tuple[float, str]], Callable[[float], float]]:
    """Ticks with their labels, and the height of a value between 0, the bottom, and 1."""
    highest, lowest = max(values), min(values)
    if log:
        top, bottom = math.log10(highest), math.log10(max(lowest, highest / 10**DECADES))
        decades = range(math.floor(bottom), math.ceil(top) + 1)
        factors = (1, 2, 5) if top - bottom < 2 else (1,)
        found = [10.0**power * factor for power in decades for factor in factors]
        inside = [value for value in found if bottom <= math.log10(value) <= top]
        span = max(top - bottom, 1e-9)
        return (
            [(value, f"{value:g}") for value in inside],
            lambda value: min(1.0, max(0.0, (math.log10(max(value, 1e-300)) - bottom) / span)),
        )
    if quantity == "score":
        return [(part / 4, f"{25 * part}%") for part in range(5)], lambda value: min(1.0, max(0.0, value))
    highest, lowest = max(0.0, highest), min(0.0, lowest)
    step = tick_step(highest - lowest or 1.0, 5)
    top, bottom = max(step, math.ceil(highest / step) * step), math.floor(lowest / step) * step
    marks = [bottom + index * step for index in range(round((top - bottom) / step) + 1)]
    return [(value, f"{value:g}") for value in marks], lambda value: (value - bottom) / (top - bottom)


def histogram(counts: Sequence[int], kind: str, unit: str, limit: int | None = None) -> Markup:
    """Counts of tokens or words in bins of equal width. kind: the CSS class that colours it.

    limit: marked by a vertical line where it lies within the counts.
    """
    highest = max(counts, default=1)
    width = max(1.0, tick_step(max(highest, 1), BINS))
    bins = math.floor(highest / width) + 1
    rows_B = [0] * bins
    for value in counts:
        rows_B[math.floor(value / width)] += 1
    most = max(rows_B) or 1
    parts = []
    tick = max(1.0, tick_step(most, 4))
    for index in range(math.floor(most / tick) + 1):
        y = f"{100 - 100 * index * tick / most:.2f}%"
        parts.append(f'<line class="grid" x1="0" y1="{y}" x2="100%" y2="{y}"/>')
        parts.append(f'<text x="-8" y="{y}" dy="4" text-anchor="end">{index * tick:,.0f}</text>')
    for index, rows in enumerate(rows_B):
        height = 100 * rows / most
        parts.append(
            f'<rect class="{escape(kind)}" x="{100 * (index + 0.06) / bins:.2f}%" y="{100 - height:.2f}%" '
            f'width="{88 / bins:.2f}%" height="{height:.2f}%"/>'
        )
    for index in range(0, bins + 1, max(1, math.ceil(bins / 5))):
        parts.append(_below(100 * index / bins, f"{index * width:,.0f}", HISTOGRAM))
    if limit is not None and limit <= bins * width:
        at = f"{100 * limit / (bins * width):.2f}%"
        parts.append(f'<line class="limit" x1="{at}" y1="0" x2="{at}" y2="100%"/>')
    parts.append(
        f'<text class="axis" x="50%" y="{HISTOGRAM + 36}" text-anchor="middle">{escape(unit)}</text>'
        '<text class="axis" x="-8" y="-12" text-anchor="end">rows</text>'
    )
    return Markup(
        f'<svg class="plot" width="100%" height="{HISTOGRAM}" role="img" '
        f'aria-label="Rows by {escape(unit)}">{"".join(parts)}</svg>'
    )


def reliability(bins: Sequence[Mapping[str, float]]) -> Markup:
    """Accuracy with its interval over the mean confidence of each bin; the diagonal is perfect."""
    parts = [
        _grid([part / 4 for part in range(5)], 0.0),
        '<line class="zero" x1="0" y1="100%" x2="100%" y2="0"/>',
    ]
    for one in bins:
        x, y, low, high = (
            f"{100 * part:.2f}%"
            for part in (one["confidence"], 1 - one["accuracy"], 1 - one["low"], 1 - one["high"])
        )
        parts.append(
            f'<line class="interval" x1="{x}" y1="{low}" x2="{x}" y2="{high}"/>'
            f'<circle class="point" cx="{x}" cy="{y}" r="4.5"/>'
        )
    return _square("reliability", "confidence", "".join(parts))


def coverage_curve(points_S: Points, chosen: float | None) -> Markup:
    """Accuracy over the share of rows that are answered alone. chosen: the share that is, marked."""
    bottom = min(0.8, math.floor(min(accuracy for _, accuracy in points_S) * 10) / 10)
    step = tick_step(1 - bottom, 5)
    ticks = [1 - index * step for index in range(math.floor((1 - bottom) / step + 1e-9) + 1)]
    path = " ".join(f"{1000 * x:.1f},{1000 * (1 - y) / (1 - bottom):.1f}" for x, y in points_S)
    parts = [
        _grid(ticks, bottom),
        '<svg width="100%" height="100%" viewBox="0 0 1000 1000" preserveAspectRatio="none">'
        f'<polyline class="train" points="{path}" vector-effect="non-scaling-stroke"/></svg>',
    ]
    if chosen is not None:
        side, dx = ("end", -7) if chosen > 0.5 else ("start", 7)
        at = f"{100 * chosen:.2f}%"
        parts.append(
            f'<line class="kept" x1="{at}" y1="-4" x2="{at}" y2="100%"/><text class="kept" x="{at}" '
            f'dx="{dx}" y="{SQUARE - 10}" text-anchor="{side}">alone: {100 * chosen:.0f}%</text>'
        )
    return _square("curve coverage", "answered alone", "".join(parts))


def _grid(ticks: Sequence[float], bottom: float) -> str:
    """Horizontal lines at these accuracies, and the shares below the plot."""
    parts = []
    for value in ticks:
        y = f"{100 * (1 - value) / (1 - bottom):.2f}%"
        parts.append(
            f'<line class="grid" x1="0" y1="{y}" x2="100%" y2="{y}"/>'
            f'<text class="tick" x="-8" y="{y}" dy="4" text-anchor="end">{round(100 * value)}%</text>'
        )
    parts += [_below(25 * part, f"{25 * part}%", SQUARE) for part in range(5)]
    return "".join(parts)


def _square(kind: str, below: str, content: str) -> Markup:
    return Markup(
        f'<svg class="{kind}" width="100%" height="{SQUARE}" role="img" '
        f'aria-label="Right answers by {below}">{content}'
        f'<text class="axis" x="50%" y="{SQUARE + 38}" text-anchor="middle">{below}</text>'
        '<text class="axis" x="-8" y="-12" text-anchor="end">right</text></svg>'
    )


def _below(at: float, label: str, height: int) -> str:
    return f'<text class="tick" x="{at:.2f}%" y="{height + 18}" text-anchor="middle">{label}</text>'


def tick_step(span: float, count: int) -> float:
    """A tick distance of 1, 2 or 5 times a power of ten that divides the span into at most `count` parts."""
    rough = max(span, 1e-9) / count
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
