"""Plots of the data page as inline SVG; colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

WIDTH, HEIGHT = 760, 220
LEFT, RIGHT, TOP, BOTTOM = 76, 16, 12, 40  # a count of millions fits at the left
BINS = 30
BAR, NAME, COUNT = 22, 200, 90  # height of a bar with its gap; width of names and of counts


def histogram(series: Sequence[Sequence[int]], limit: int | None = None) -> Markup:
    """One or two counts of tokens in bins of the same width; the second is drawn over the first.

    limit: drawn as a line where it falls within the counts.
    """
    highest = max((value for values in series for value in values), default=1)
    width = _step(max(highest, 1), BINS)
    bins = math.floor(highest / width) + 1
    counts = [[0] * bins for _ in series]
    for own, values in zip(counts, series, strict=True):
        for value in values:
            own[math.floor(value / width)] += 1
    top = max(max(own) for own in counts) or 1
    across, down = (WIDTH - LEFT - RIGHT) / bins, HEIGHT - TOP - BOTTOM
    parts = []
    tick = _step(top, 6)
    for index in range(math.floor(top / tick) + 1):
        y = TOP + down * (1 - index * tick / top)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{index * tick:,.0f}</text>')
    for at, (kind, own) in enumerate(zip(("mark", "second"), counts, strict=False)):
        share = 1 / len(counts)
        for index, count in enumerate(own):
            tall = down * count / top
            x = LEFT + across * (index + at * share) + 0.5
            parts.append(
                f'<rect class="{kind}" x="{x:.1f}" y="{TOP + down - tall:.1f}" '
                f'width="{max(0.5, across * share - 1):.1f}" height="{tall:.1f}"/>'
            )
    every = max(1, math.ceil(bins / 8))
    for index in range(0, bins + 1, every):
        x = LEFT + across * index
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}">{index * width:,.0f}</text>')
    if limit is not None and limit <= bins * width:
        x = LEFT + across * limit / width
        parts.append(f'<line class="limit" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{TOP + down}"/>')
    parts.append(
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">tokens '
        "of a row</text>"
    )
    return _svg(parts, HEIGHT, "Rows by their length in tokens")


def bars(counts: Mapping[str, int], what: str) -> Markup:
    """A bar for each name with its count, in their order. what: the plot's description."""
    top = max(counts.values(), default=1) or 1
    parts = []
    for index, (name, count) in enumerate(counts.items()):
        y = index * BAR
        long = (WIDTH - NAME - COUNT) * count / top
        shown = name if len(name) <= 28 else name[:27] + "…"
        parts.append(
            f'<text class="name" x="{NAME - 10}" y="{y + 15}" text-anchor="end">{escape(shown)}</text>'
            f'<rect class="mark" x="{NAME}" y="{y + 4}" width="{max(long, 1):.1f}" height="{BAR - 8}"/>'
            f'<text x="{NAME + long + 8:.1f}" y="{y + 15}">{count:,}</text>'
        )
    return _svg(parts, BAR * len(counts), what)


def _svg(parts: Sequence[str], height: int, what: str) -> Markup:
    return Markup(
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(what)}">'
        f"{''.join(parts)}</svg>"
    )


def _step(span: float, count: int) -> int:
    """A whole distance of 1, 2 or 5 times a power of ten that divides the span into at most `count` parts."""
    rough = max(span, 1) / count
    power = 10 ** max(0, math.floor(math.log10(rough))) if rough >= 1 else 1
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
