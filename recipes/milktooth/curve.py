"""Draw how transfer grows with the tokens that milktooth has read (needs matplotlib):

    python recipes/milktooth/curve.py transfer.json 2=at-2m.json 23=transfer.json --out PICTURE.png

transfer.json is what transfer.py wrote for the shipped weights and from scratch; the others, by millions of
tokens, are its results for earlier checkpoints. Each data set and number of rows is a panel; bars are the
standard errors over the seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

INK, OURS, OTHER = "#343a40", "#0b7285", "#e8590c"


def accuracies(done: dict[str, Any], name: str, rows: str, start: str) -> list[float]:
    """The accuracy of every seed."""
    found = (done[key]["scores"] for key in sorted(done) if key.startswith(f"{name} {rows} {start} "))
    return [100 * sum(scores) / len(scores) for scores in found]


def told(values: list[float]) -> tuple[float, float]:
    """Mean and its standard error, 0 for one value."""
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values)) if values[1:] else 0.0


def draw(scratch: dict[str, Any], points: dict[float, dict[str, Any]], out: Path) -> None:
    """One panel for each data set and number of rows that every point has."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    cells = [tuple(key.split()[:2]) for key in next(iter(points.values())) if " full " in key]
    panels = [cell for cell in dict.fromkeys(cells) if accuracies(scratch, *cell, "scratch")]
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, len(panels), figsize=(3.4 * len(panels), 3.2), squeeze=False)
    for axis, (name, rows) in zip(axes[0], panels, strict=True):
        level, error = told(accuracies(scratch, name, rows, "scratch"))
        axis.axhspan(level - error, level + error, color=OTHER, alpha=0.15, lw=0)
        axis.axhline(level, color=OTHER, lw=1.2, ls="--", label="same architecture from scratch")
        ys = [told(accuracies(points[tokens], name, rows, "full")) for tokens in sorted(points)]
        means, errors = zip(*ys, strict=True)
        axis.errorbar(sorted(points), means, errors, color=OURS, marker="o", ms=4, lw=1.6, label="milktooth")
        axis.set_xscale("log")
        axis.set_xticks(sorted(points), [f"{tokens:g}" for tokens in sorted(points)])
        axis.minorticks_off()
        axis.set_title(f"{name}, {rows} rows", loc="left", weight="bold", color=INK)
        axis.set_xlabel("million tokens read")
    axes[0][0].set_ylabel("test accuracy, %")
    axes[0][0].legend(frameon=False, loc="lower right")
    figure.tight_layout()
    figure.savefig(out, dpi=110)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("scratch", type=Path, help="transfer.py's results with the start scratch")
    parser.add_argument(
        "points", nargs="+", help="MILLIONS=FILE: results of the weights after so many tokens"
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    pairs = (point.split("=", 1) for point in options.points)
    points = {float(tokens): json.loads(Path(path).read_text(encoding="utf-8")) for tokens, path in pairs}
    draw(json.loads(options.scratch.read_text(encoding="utf-8")), points, options.out)


if __name__ == "__main__":
    main()
