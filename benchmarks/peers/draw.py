"""The picture of docs/benchmarks.md: cost against sharing and rows, and every system beside finetooth."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

OURS, OTHER, FLOOR, INK = "#0b7285", "#e8590c", "#868e96", "#343a40"
COLOURS = {"trl": "#c92a2a", "trainer": "#e8590c", "litgpt": "#5f3dc4", "torchtune": "#1864ab"}
CASES = {
    "a-lora": "instruction rows\nLoRA",
    "a-full": "instruction rows\nevery weight",
    "b-lora": "400-token prompt\nLoRA",
    "c": "greedy answers",
    "d": "best of 150 labels",
}


def main() -> None:
    """Draw the results of a folder into a file."""
    results, picture = Path(sys.argv[1]), Path(sys.argv[2])
    found = {path.stem: json.loads(path.read_text()) for path in results.glob("*.json")}
    plt.rcParams.update(
        {
            "font.size": 9,
            "font.family": "DejaVu Sans",
            "text.color": INK,
            "axes.edgecolor": "#adb5bd",
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titleweight": "bold",
            "axes.titlesize": 10,
            "axes.titlelocation": "left",
        }
    )
    figure, axes = plt.subplots(1, 3, figsize=(12.5, 4.2), width_ratios=[1.0, 1.0, 1.25])
    scaling = found["scaling"]
    rate = statistics.median(scaling["rates"])
    sweep(axes[0], scaling, "share", rate)
    sweep(axes[1], scaling, "rows", rate)
    ratios(axes[2], found)
    figure.tight_layout(w_pad=2.5)
    figure.savefig(picture, dpi=110)


def sweep(axis: Any, scaling: dict[str, Any], name: str, rate: float) -> None:
    """Seconds a step over one sweep: medians with the middle half of the rounds, and the floor."""
    points = [point for point in scaling["points"] if point["sweep"] == name]
    across = [point["value"] * (100 if name == "share" else 1) for point in points]
    looks = {"finetooth": (OURS, "finetooth", "o"), "litgpt-1": (OTHER, "LitGPT, row by row", "s")}
    top = 0.0
    for system, (colour, title, marker) in looks.items():
        taken = [point["seconds"][system] for point in points]
        middle = [statistics.median(values) for values in taken]
        axis.plot(across, middle, color=colour, marker=marker, markersize=4.5, label=title, zorder=3)
        quarters = [statistics.quantiles(values, n=4, method="inclusive") for values in taken]
        low, high = [part[0] for part in quarters], [part[2] for part in quarters]
        axis.fill_between(across, low, high, color=colour, alpha=0.18, linewidth=0)
        top = max(top, 1.12 * max(middle))
    floor = [point["gflop"] / rate for point in points]
    axis.plot(across, floor, color=FLOOR, linestyle="--", linewidth=1.2, label="fewest operations")
    first = points[0]["work"]
    if name == "share":
        axis.set_title(f"16 rows of {first['row_tokens'] // 16} tokens")
        axis.set_xlabel("tokens that all rows share, %")
    else:
        axis.set_title("rows that share half of their tokens")
        axis.set_xlabel("rows in a step")
        axis.set_xticks(across)
    axis.set_ylabel("seconds a step")
    axis.set_ylim(0, top)
    axis.grid(axis="y", color="#e9ecef")
    if name == "rows":
        axis.legend(frameon=False, loc="upper left")


def ratios(axis: Any, found: dict[str, Any]) -> None:
    """How many times as long every other system took, on a logarithmic axis, case by case."""
    names = [name for name in CASES if name in found]
    families: set[str] = set()
    for at, name in enumerate(reversed(names)):
        systems = {key: value for key, value in found[name]["systems"].items() if value["seconds"]}
        ours = systems.pop("finetooth")["seconds"]
        for place, (system, values) in enumerate(sorted(systems.items())):
            high = at + 0.32 - 0.64 * (place + 0.5) / len(systems)  # none hides another
            each = [
                other / own for other, own in zip(values["seconds"], values.get("ours", ours), strict=True)
            ]
            family = system.split("-")[0] if system.split("-")[0] in COLOURS else ""
            families.add(family)
            colour = COLOURS.get(family, INK)
            middle = statistics.median(each)
            axis.plot([min(each), max(each)], [high, high], color=colour, linewidth=3, alpha=0.3, zorder=2)
            axis.plot(middle, high, "o", color=colour, markersize=4, zorder=3)
    axis.axvline(1, color=OURS, linewidth=1.5)
    axis.set_xscale("log")
    axis.set_yticks(range(len(names)), [CASES[name] for name in reversed(names)])
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.grid(axis="x", color="#e9ecef")
    shown = [x for x in (1, 2, 5, 10, 30, 100, 300, 1000) if x <= axis.get_xlim()[1]]
    axis.set_xticks(shown, [f"{x}x" for x in shown])
    axis.minorticks_off()
    axis.set_title("time of the others, finetooth = 1")
    titles = {"trl": "TRL", "trainer": "Trainer", "litgpt": "LitGPT", "torchtune": "torchtune"}
    handles = [
        plt.Line2D([], [], color=COLOURS.get(key, INK), marker="o", linestyle="", label=title)
        for key, title in {**titles, "": "stock transformers"}.items()
        if key in families
    ]
    below = {"loc": "upper center", "bbox_to_anchor": (0.45, -0.09), "ncols": len(handles)}
    axis.legend(handles=handles, frameon=False, fontsize=8, columnspacing=1.0, handletextpad=0.2, **below)


if __name__ == "__main__":
    main()
