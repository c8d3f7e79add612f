"""The curve over the iterations of a task, as inline SVG: scores with their intervals, and lineage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from finetooth.report.charts import tick_step

HEIGHT = 240  # of the plot, in pixels
LABELS = 16  # iterations that are numbered below the plot, at most
OFFSET = 0.22  # of an iteration's width: how far right a sealed test or a random arm stands


def iterations_curve(listed: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Validation scores over the iterations that have one, with 95% intervals, linked to what they were made
    from; beside them random arms, results on the sealed test, and as a line the strongest prompt.

    listed: of runs/history.py. None where no iteration has a score.
    """
    steps = [one for one in listed if one["number"] is not None]
    place = {one["run"]: (at + 0.5) / len(steps) for at, one in enumerate(steps)}
    width = 1 / max(1, len(steps))
    shown = [one for one in listed if one["score"] is not None]
    if not shown:
        return None
    lows = [one[key]["low"] for one in shown for key in ("score", "sealed") if one[key]]
    lows += [one["verdict"]["prompt"] for one in shown if one["verdict"]]
    bottom = max(0.0, math.floor(10 * min(lows) - 0.2) / 10)
    tick = tick_step(1 - bottom, 5) if bottom < 1 else 0.1
    bottom = min(bottom, 1 - tick)

    def y(value: float) -> str:
        return f"{100 * (1 - value) / (1 - bottom):.2f}%"

    ticks = [1 - index * tick for index in range(math.floor((1 - bottom) / tick + 1e-9) + 1)]
    parts = [
        f'<line class="grid" x1="0" y1="{y(value)}" x2="100%" y2="{y(value)}"/><text class="tick" x="-8" '
        f'y="{y(value)}" dy="4" text-anchor="end">{round(100 * value)}%</text>'
        for value in ticks
    ]
    every = math.ceil(len(steps) / LABELS)
    for one in steps[::every]:
        parts.append(
            f'<text class="tick" x="{100 * place[one["run"]]:.2f}%" y="{HEIGHT + 18}" '
            f'text-anchor="middle">{one["number"]}</text>'
        )
    at = {one["run"]: place[one["run"]] for one in shown if one["run"] in place}
    for one in shown:
        if one["run"] not in place:
            at[one["run"]] = min(0.99, place.get(one["arm_of"], 0.5 * width) + OFFSET * width)
    score = {one["run"]: one["score"]["score"] for one in shown}
    for one in shown:
        if one["parent"] in score:
            parts.append(
                f'<line class="link" x1="{100 * at[one["parent"]]:.2f}%" y1="{y(score[one["parent"]])}" '
                f'x2="{100 * at[one["run"]]:.2f}%" y2="{y(score[one["run"]])}"/>'
            )
    for one in shown:
        x, arm = at[one["run"]], one["arm_of"] is not None
        if one["verdict"] and not arm:
            level, reach = y(one["verdict"]["prompt"]), 0.36 * width
            parts.append(
                f'<line class="prompt" x1="{100 * (x - reach):.2f}%" y1="{level}" '
                f'x2="{100 * (x + reach):.2f}%" y2="{level}"/>'
            )
        parts.append(_point(x, one["score"], "arm" if arm else "score", y))
        if one["sealed"] is not None:
            parts.append(_point(min(0.99, x + OFFSET * width), one["sealed"], "sealed", y))
    parts.append(f'<text class="axis" x="50%" y="{HEIGHT + 38}" text-anchor="middle">iteration</text>')
    parts.append('<text class="axis" x="-8" y="-12" text-anchor="end">score</text>')
    return Markup(
        f'<svg class="iterations" width="100%" height="{HEIGHT}" role="img" '
        f'aria-label="Scores over the iterations">{"".join(parts)}</svg>'
    )


def _point(x: float, score: Mapping[str, float], kind: str, y: Any) -> str:
    across = f"{100 * x:.2f}%"
    return (
        f'<g class="{kind}"><line class="interval" x1="{across}" y1="{y(score["low"])}" x2="{across}" '
        f'y2="{y(score["high"])}"/><circle class="point" cx="{across}" cy="{y(score["score"])}" r="5"/></g>'
    )
