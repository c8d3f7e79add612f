"""How well the confidence of evaluated runs holds: calibration error before and after the temperature.

    python tools/calibration.py RUN...

Exits with 1 where the error of a run after the temperature is more than half of that before and more than 2%,
both as measured and beyond what a perfect confidence would show on as many rows.
"""

from __future__ import annotations

import sys
from pathlib import Path

from finetooth.rundir import read_json

ENOUGH, HALF = 0.02, 0.5


def _kept(after: float, before: float) -> bool:
    return after <= max(ENOUGH, HALF * before)


def main(runs: list[str]) -> int:
    """Print a line for each run; 1 where one misses the aim."""
    missed = 0
    names = (
        "run",
        "rows",
        "right",
        "temperature",
        "ECE before",
        "ECE after (95% interval)",
        "by chance",
        "Brier",
    )
    print(" | ".join(names))
    for run in runs:
        summary = read_json(Path(run) / "evaluate" / "summary.json")
        found = summary.get("calibration")
        if found is None:
            print(
                f"{run} | no calibration: its answers are no labels, or it was evaluated by an older version"
            )
            missed += 1
            continue
        before, after = found["before"], found["after"]
        raw = [after["ece"], before["ece"]]
        beyond = [max(0.0, error - found["chance"]) for error in raw]  # what a perfect confidence has not
        kept = next(
            (word for word, pair in (("met", raw), ("met beyond chance", beyond)) if _kept(*pair)), ""
        )
        missed += not kept
        score = next(one["score"] for one in summary["candidates"] if one["name"] == "tuned")
        interval = f"{after['ece_low']:.1%} to {after['ece_high']:.1%}"
        print(
            f"{Path(run).name} | {summary['n']:,} | {score:.1%} | {found['temperature']:.2f} | "
            f"{before['ece']:.1%} | {after['ece']:.1%} ({interval}) | {found['chance']:.1%} | "
            f"{before['brier']:.3f}, {after['brier']:.3f} | {kept or 'MISSED'}"
        )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
