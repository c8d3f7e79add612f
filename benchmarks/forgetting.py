"""Is forgetting caught, and a healthy run not? And does interpolation mend it? Several seeds of each.

    python benchmarks/forgetting.py --model DIR --out runs/forgetting

DIR: a real base model, as SmolLM2-135M-Instruct. Each seed draws --rows rows of support triage (shipped with
finetooth) and trains twice on them for the same number of steps: LoRA with automatic settings (healthy), and
every weight at --times the automatic rate of full fine-tuning (planted). Both are measured on the panel of
evaluation/retention.py and score their validation rows. A run that has forgotten is then mended by
`finetooth evaluate RUN --interpolate auto`, and measured again. Runs that are finished are taken as they are,
so a call that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from finetooth.evaluation.retention import FILE, FORGOTTEN, KEPT
from finetooth.evaluation.summary import TUNED
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl
from finetooth.training.defaults import LORA_OVER_FULL

HEALTHY, PLANTED, MENDED = "healthy", "planted", "mended"
ROWS = resources.files("finetooth").joinpath("examples", "support-triage", "train.jsonl")


def arguments() -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True, help="directory or name of the base model")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5], help="default %(default)s")
    parser.add_argument("--rows", type=int, default=200, help="a fifth is for validation; %(default)s")
    parser.add_argument("--steps", type=int, default=16, help="optimizer steps, default %(default)s")
    parser.add_argument("--times", type=float, default=10, help="the planted rate, default %(default)s")
    parser.add_argument("--arms", nargs="+", default=[HEALTHY, PLANTED, MENDED], help="default %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs/forgetting"), help="for runs and results")
    return parser.parse_args()


def finetooth(*words: object) -> None:
    """Run a command line, whose looks are not recorded among the user's."""
    surroundings = os.environ | {"FINETOOTH_STATE": ""}
    command = [sys.executable, "-m", "finetooth", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=surroundings)


def trained(given: argparse.Namespace, seed: int, arm: str) -> Path:
    """The evaluated run of a seed: without a sealed test, on a fixed sample of rows."""
    folder = given.out / f"seed-{seed}"
    run = folder / arm
    if not (run / "evaluate" / "summary.json").exists():
        rows = list(read_jsonl(Path(str(ROWS))))
        folder.mkdir(parents=True, exist_ok=True)
        write_jsonl(folder / "rows.jsonl", random.Random(seed).sample(rows, given.rows))
        train = {"max_steps": given.steps, "validate_every": given.steps, "preflight": "off"}
        if arm == PLANTED:  # full fine-tuning takes LORA_OVER_FULL times less than LoRA
            rate = settings(trained(given, seed, HEALTHY))["learning_rate"] / LORA_OVER_FULL * given.times
            train |= {"adapter": "none", "learning_rate": rate}
        task = {
            "name": arm,
            "model": given.model,
            "instruction": "Name what the customer wants.",
            "data": {"train": "rows.jsonl", "format": "labels", "test": 0, "validation": 0.2},
            "train": train,
            "evaluate": {"shots": []},
            "seed": seed,
        }
        (folder / f"{arm}.yaml").write_text(json.dumps(task, indent=1), encoding="utf-8")
        finetooth("run", folder / f"{arm}.yaml", "--out", run)
        shutil.rmtree(run / "train" / "checkpoints")  # gigabytes, of every weight
    return run


def mended(given: argparse.Namespace, seed: int) -> Path:
    """The run of a seed that was planted, interpolated with its base."""
    run = given.out / f"seed-{seed}" / MENDED
    if not (run / "evaluate" / "summary.json").exists():
        finetooth("evaluate", trained(given, seed, PLANTED), "--interpolate", "auto", "--out", run)
    return run


def settings(run: Path) -> dict[str, Any]:
    """The train section of a run, without `auto`."""
    return dict(yaml.safe_load((run / "config.yaml").read_text("utf-8"))["train"])


def measured(run: Path, seed: int, arm: str) -> dict[str, Any]:
    """A row of the table: the verdict, and what it rests on in points."""
    found, summary = read_json(run / FILE), read_json(run / "evaluate" / "summary.json")
    bits = found["bits_per_byte"]
    return {
        "seed": seed,
        "arm": arm,
        "verdict": found["verdict"],
        **{key: round(100 * found[key], 1) for key in ("difference", "low", "high")},
        "prose": round(100 * (bits["tuned"] / bits["base"] - 1)),
        "task": next(round(100 * one["score"], 1) for one in summary["candidates"] if one["name"] == TUNED),
        "share": settings(run).get("interpolate", 1.0),
    }


def main() -> None:
    """Print and keep a row for each run, then how often each verdict was given."""
    given, rows = arguments(), []
    for seed in given.seeds:
        for arm in given.arms:
            run = mended(given, seed) if arm == MENDED else trained(given, seed, arm)
            rows.append(measured(run, seed, arm))
            print(json.dumps(rows[-1]), flush=True)
    write_json(given.out / "result.json", rows)
    for arm in given.arms:
        counts = Counter(row["verdict"] for row in rows if row["arm"] == arm)
        caught, kept = counts[FORGOTTEN], counts[KEPT]
        print(f"{arm}: {caught} of {counts.total()} forgotten, {kept} kept, the others not proven")


if __name__ == "__main__":
    main()
