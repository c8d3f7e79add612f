"""Measure what a training step costs against the share of tokens that rows have in common, and against rows.

python benchmarks/scaling.py --help. Like speed.py, it measures this checkout with the interpreter it runs in.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

from sidebyside import environments, machine, report  # noqa: E402
from sidebyside.children import Quiet  # noqa: E402
from sidebyside.floor import Work, step_gflop  # noqa: E402
from sidebyside.models import make_model  # noqa: E402
from sidebyside.rows import Tokens, rows_with_share  # noqa: E402
from sidebyside.training import ALPHA, RANK, RATE, Setting, System  # noqa: E402

LENGTH, SCORED, ROWS = 160, 16, 16
SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95)
COUNTS = (4, 8, 16, 32)
SYSTEMS = (
    System("finetooth", "run_finetooth.py", ""),
    System("litgpt-1", "run_litgpt.py", "litgpt", {"micro": 1}),
)


def points(vocabulary: int) -> list[tuple[str, float, list[Tokens]]]:
    """What is measured: (sweep, its value, rows). Each row ends in 16 scored tokens of its own."""
    shares = [("share", s, rows_with_share(ROWS, LENGTH, s, SCORED, vocabulary)) for s in SHARES]
    counts = [("rows", n, rows_with_share(n, LENGTH, 0.5, SCORED, vocabulary)) for n in COUNTS]
    return [*shares, *counts]


def measure(setting: Setting) -> dict[str, Any]:
    """Every point in every round, for finetooth and for the fastest padded-free peer."""
    found = points(setting.shape["vocab_size"])
    path = setting.room / "rows.json"
    every = [row for _, _, rows in found for row in rows]
    path.write_text(json.dumps([row.as_json() for row in every]), encoding="utf-8")
    spec = {"task": "train", "rows": str(path), "adapter": "lora", "rank": RANK, "alpha": ALPHA, "rate": RATE}
    children = [setting.child(system, spec) for system in SYSTEMS]
    probe = setting.probe()
    for child in [*children, probe]:
        child.ready()
    seconds: dict[str, list[list[float]]] = {child.name: [[] for _ in found] for child in children}
    rates: list[float] = []
    for at in range(setting.warmup + setting.steps):
        start = 0
        for point, (_, _, rows) in enumerate(found):
            with setting.quiet:
                rates += probe.turn()["rates"]
                for child in children:
                    done = child.turn(range=[start, start + len(rows)])
                    if at >= setting.warmup:
                        seconds[child.name][point].append(done["seconds"])
            start += len(rows)
        print(f"  round {at + 1} of {setting.warmup + setting.steps}", file=sys.stderr, flush=True)
    setting.quiet.release()
    peaks = {child.name: child.stop() for child in children}
    probe.stop()
    return {
        "rates": rates,
        "peaks": peaks,
        "points": [describe(setting, *point, at, seconds) for at, point in enumerate(found)],
    }


def describe(
    setting: Setting, sweep: str, value: float, rows: list[Tokens], at: int, seconds: dict[str, Any]
) -> dict[str, Any]:
    """One point as it is written down."""
    work = Work.of(rows)
    return {
        "sweep": sweep,
        "value": value,
        "work": asdict(work),
        "gflop": step_gflop(work, setting.shape, "lora", RANK),
        "seconds": {name: found[at] for name, found in seconds.items()},
    }


def main() -> None:
    """Measure, write runs/speed/scaling.json and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=5, help="timed rounds, default %(default)s")
    parser.add_argument("--warmup", type=int, default=1, help="rounds before them, default %(default)s")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every system")
    parser.add_argument("--out", type=Path, default=Path("runs/speed"), help="for the results")
    parser.add_argument("--envs", type=Path, default=environments.DEFAULT, help="for the peers' environments")
    parser.add_argument("--lock", type=Path, help="a file to hold an exclusive lock on while measuring")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(given.envs / "model")
        common = (given.threads, given.steps, given.warmup, Quiet(given.lock))
        result = measure(Setting(model, Path(folder), given.envs, *common))
    result["date"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    result["machine"] = machine.describe(given.threads)
    (given.out / "scaling.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(report.scaling_table(result))


if __name__ == "__main__":
    main()
