"""Time of a training step on a quiet machine and beside two other trainings.

    python benchmarks/shared_machine.py --out shared_machine.json

Before: libgomp waits as it does by itself (GOMP_SPINCOUNT=300000, which turns finetooth's monitor off).
After: as finetooth makes it wait (src/finetooth/machine.py), with finetooth and with torch imported first.
Each variant is a process of its own that loads the model and then takes its turns, so that interference
affects all variants alike; a round goes through them forwards, the next one backwards. A ratio is the median
over rounds of after / before.

The other trainings are processes that train a small network in plain torch with two threads each, which
wait as torch waits by default. They are started after the quiet rounds and ended after the busy ones.
Children exit when their standard input closes, so none outlives this process by more than its turn.

The script does not make the machine idle: it stores the load average and warns above 0.5.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent.parent / "src"
MILKTOOTH = SOURCE / "finetooth" / "embedded" / "milktooth"
BEFORE = "before"
# name -> the import order, and what the user is taken to have set
VARIANTS = {
    BEFORE: ("finetooth", {"GOMP_SPINCOUNT": "300000"}),
    "after": ("finetooth", {}),
    "after, torch imported first": ("torch", {}),
}
OTHERS = 2  # other trainings


def serve(spec: dict[str, Any]) -> None:
    """A child: load the model; for every line {"steps": n, "seconds": s} train at most that much."""
    import importlib

    for name in ("torch", "finetooth") if spec["first"] == "torch" else ("finetooth", "torch"):
        importlib.import_module(name)
    import numpy as np
    import torch

    import finetooth as ft
    from finetooth.config.task import TrainConfig
    from finetooth.training import optimizer
    from finetooth.training.objectives import supervised
    from finetooth.training.step import train_step

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # loading is not measured, and with spinning threads it may take minutes
    model = ft.Model.load(spec["model"])
    if spec["adapter"] == "lora":
        model.add_lora(16, seed=0)
    torch.set_num_threads(threads)
    draw, length = np.random.default_rng(0), spec["length"]
    weight = [0.0] * (length - 5) + [1.0] * 5
    rows = [ft.Row(draw.integers(10, 4000, length).tolist(), weight, id=str(n)) for n in range(spec["rows"])]
    config = TrainConfig(adapter=spec["adapter"], rank=16, learning_rate=1e-4)
    update = optimizer.build(model, config)
    for group in update.param_groups:
        group["lr"] = 1e-4
    model.train()
    print(json.dumps({"threads": threads}), flush=True)
    for line in sys.stdin:
        turn, walls, used = json.loads(line), [], time.process_time()
        while not walls or (len(walls) < turn["steps"] and sum(walls) < turn["seconds"]):
            begun = time.perf_counter()
            train_step(model, supervised, rows, update, budget=4096, max_norm=1.0)
            walls.append(time.perf_counter() - begun)
        print(json.dumps({"wall": walls, "cpu": (time.process_time() - used) / len(walls)}), flush=True)


def train_something_else() -> None:
    """Another training, without finetooth: plain torch, two threads, until its input ends."""
    import torch

    def end_with_parent() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(2)
    net = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.GELU(), torch.nn.Linear(512, 256))
    update, inputs = torch.optim.AdamW(net.parameters()), torch.randn(512, 256)
    while True:
        (net(inputs) - inputs).square().mean().backward()
        update.step()
        update.zero_grad()


def start(arguments: list[str], settings: dict[str, str]) -> subprocess.Popen[str]:
    """This script as a child, with no other variable of OpenMP than these."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OMP_", "GOMP_", "KMP_", "MKL_"))
    }
    return subprocess.Popen(
        [sys.executable, __file__, *arguments],
        env=kept | settings | {"PYTHONPATH": str(SOURCE), "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def answer_of(child: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line that a child writes."""
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise SystemExit(f"a child ended with exit code {child.wait()}")
    answer: dict[str, Any] = json.loads(line)
    return answer


def measure(
    children: dict[str, subprocess.Popen[str]], rounds: int, turn: dict[str, float]
) -> dict[str, Any]:
    """name -> seconds of its steps, CPU seconds a step, and its median over that of `before`."""
    walls: dict[str, list[list[float]]] = {name: [] for name in children}
    cpu: dict[str, list[float]] = {name: [] for name in children}
    for number in range(-1, rounds):  # the first warms up
        for name in children if number % 2 else reversed(children):
            child = children[name]
            assert child.stdin is not None
            child.stdin.write(json.dumps(turn) + "\n")
            child.stdin.flush()
            answer = answer_of(child)
            if number >= 0:
                walls[name].append(answer["wall"])
                cpu[name].append(answer["cpu"])
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    base = [statistics.median(steps) for steps in walls[BEFORE]]
    return {
        name: {
            "median_s": statistics.median([*itertools.chain(*walls[name])]),
            "fastest_s": min([*itertools.chain(*walls[name])]),
            "cpu_s": statistics.median(cpu[name]),
            "ratio": statistics.median(
                statistics.median(steps) / before for steps, before in zip(walls[name], base, strict=True)
            ),
            "rounds_s": walls[name],
        }
        for name in children
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown: milliseconds a step and ratios to `before`, quiet and busy."""
    lines = [
        "| | machine | ms a step, median | fastest | CPU ms a step | time / before |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {machine} | {1e3 * its['median_s']:.1f} | {1e3 * its['fastest_s']:.1f} "
        f"| {1e3 * its['cpu_s']:.0f} | {its['ratio']:.3f} |"
        for machine, variants in found.items()
        for name, its in variants.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", default=str(MILKTOOTH), help="directory of a local model (default: milktooth)"
    )
    parser.add_argument("--adapter", choices=("lora", "full"), default="lora")
    parser.add_argument("--rows", type=int, default=16, help="rows of a step (default: 16)")
    parser.add_argument("--length", type=int, default=40, help="tokens of a row (default: 40)")
    parser.add_argument(
        "--rounds",
        type=int,
        default=20,
        help="quiet rounds; a quarter as many are busy",
    )
    parser.add_argument(
        "--also", action="append", default=[], metavar="NAME=VALUE", help="a variant with this setting"
    )
    parser.add_argument("--only", choices=("quiet", "busy"), help="leave the other half out")
    parser.add_argument("--out", type=Path, help="write the numbers here as JSON")
    parser.add_argument("--quick", action="store_true", help="two rounds: does it run?")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--other", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if any("=" not in text for text in given.also):
        parser.error("--also takes NAME=VALUE")
    if given.other:
        return train_something_else()
    if given.serve:
        return serve(json.loads(given.serve))
    rounds = 2 if given.quick else given.rounds
    variants = VARIANTS | {text: ("finetooth", dict([text.split("=", 1)])) for text in given.also}
    shape = {key: getattr(given, key) for key in ("model", "adapter", "rows", "length")}
    found: dict[str, dict[str, Any]] = {}
    children: dict[str, subprocess.Popen[str]] = {}
    others: list[subprocess.Popen[str]] = []
    load = os.getloadavg()[0]
    if load > 0.5:
        print(
            f"warning: the load is {load:.1f}, so nothing here was measured on a quiet machine",
            file=sys.stderr,
        )
    try:
        for name, (first, settings) in variants.items():
            children[name] = start(["--serve", json.dumps(shape | {"first": first})], settings)
        threads = {answer_of(child)["threads"] for child in children.values()}
        if given.only != "busy":
            found["quiet"] = measure(children, rounds, {"steps": 8, "seconds": 30})
        if given.only != "quiet":
            others += [start(["--other"], {}) for _ in range(OTHERS)]
            time.sleep(8)  # until they train
            found["busy"] = measure(children, max(2, rounds // 4), {"steps": 8, "seconds": 5})
    finally:
        for child in [*children.values(), *others]:
            child.kill()
            child.wait()
    print(table(found))
    if given.out:
        facts = shape | {
            "model": Path(given.model).name,
            "threads": sorted(threads),
            "cpus": os.cpu_count(),
            "load": load,
        }
        given.out.write_text(json.dumps(facts | found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
