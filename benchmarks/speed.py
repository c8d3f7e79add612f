"""Measure finetooth beside the trainers that people use, on this machine: python benchmarks/speed.py --help.

Run it with the interpreter of an environment in which finetooth's requirements are installed; the code that
is measured is this checkout's. Peers get virtual environments of their own. See docs/benchmarks.md for what
is measured, and for what is fair about it and what not.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

from sidebyside import environments, machine, report  # noqa: E402
from sidebyside.answers import run_choosing, run_generation  # noqa: E402
from sidebyside.children import Quiet  # noqa: E402
from sidebyside.learning import learning_cases, run_learning, systems_of  # noqa: E402
from sidebyside.models import LITTLE, make_model  # noqa: E402
from sidebyside.real import real_cases, real_contexts, shape_of, stop_and_padding  # noqa: E402
from sidebyside.training import SYSTEMS, Setting, run_training, training_cases  # noqa: E402

REAL = ["real-instructions", "real-labels", "real-answers"]
CASES = {"a": ["a-lora", "a-full"], "b": ["b-lora"], "real": REAL}
CASES |= {"grpo": ["grpo-lora", "grpo-full"], "dpo": ["dpo-lora", "dpo-full"], "sampled": ["sampled-lora"]}
ANSWERS = {"c": run_generation, "d": run_choosing}


def arguments() -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--cases",
        default="a,b,c,d,grpo,dpo,sampled",
        help="of a, a-lora, a-full, b, c, d, grpo, grpo-lora, grpo-full, dpo, dpo-lora, dpo-full, sampled;\n"
        "real, real-instructions, real-labels, real-answers, which need --model and --data;\n"
        "default: %(default)s",
    )
    parser.add_argument("--model", type=Path, help="directory of the base model of the real cases")
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("FINETOOTH_DATA"),
        help="public data sets of the real cases; default: FINETOOTH_DATA",
    )
    parser.add_argument("--systems", help="of training cases, by name or the start of one; default: all of\n"
                        + ", ".join(system.name for system in SYSTEMS))  # fmt: skip
    parser.add_argument("--steps", type=int, default=5, help="timed rounds, default %(default)s")
    parser.add_argument("--warmup", type=int, default=2, help="rounds before them, default %(default)s")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every system")
    parser.add_argument("--clock", default="wall", choices=("wall", "processor"), help="default %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs/speed"), help="for the results")
    parser.add_argument("--envs", type=Path, default=environments.DEFAULT, help="for the peers' environments")
    parser.add_argument("--lock", type=Path, help="a file to hold an exclusive lock on while measuring")
    parser.add_argument(
        "--at-once", type=int, default=4, help="peers in memory together, default %(default)s"
    )
    return parser.parse_args()


def chosen(names: str | None) -> list[Any]:
    """The systems that the user named, finetooth always among them."""
    if names is None:
        return SYSTEMS
    exact = {system.name for system in SYSTEMS}
    wanted = ["finetooth", *names.split(",")]
    return [
        system
        for system in SYSTEMS
        if system.name in wanted or any(system.name.startswith(name) for name in wanted if name not in exact)
    ]


def real(name: str, given: argparse.Namespace, setting: Setting) -> dict[str, Any]:
    """A case with the user's model and public rows."""
    model, data = given.model.resolve(), Path(given.data)
    setting = replace(setting, model=model, shape=shape_of(model))
    if name == "real-answers":
        return run_generation(setting, real_contexts(model, data, 100), **stop_and_padding(model))
    return run_training(real_cases(model, data)[name], chosen(given.systems), setting)


def main() -> None:
    """Run the cases one after the other; results are written after each."""
    given = arguments()
    given.out.mkdir(parents=True, exist_ok=True)
    names = [case for name in given.cases.split(",") for case in CASES.get(name, [name])]
    if missing := [name for name in names if name in REAL and not (given.model and given.data)]:
        raise SystemExit(f"{missing[0]} needs --model and --data")
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(
            model=make_model(given.envs / "model"),
            room=Path(folder),
            environments=given.envs,
            threads=given.threads,
            steps=given.steps,
            warmup=given.warmup,
            quiet=Quiet(given.lock),
            at_once=given.at_once,
            clock=given.clock,
        )
        for name in names:
            print(f"case {name}", file=sys.stderr, flush=True)
            if name in ANSWERS:
                result = ANSWERS[name](setting)
            elif name in REAL:
                result = real(name, given, setting)
            elif name in learning_cases():
                model = make_model(given.envs / "little", LITTLE)
                result = run_learning(
                    learning_cases()[name],
                    systems_of(name),
                    replace(setting, model=model, shape=LITTLE),
                )
            else:
                result = run_training(training_cases()[name], chosen(given.systems), setting)
            result |= {
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
                "machine": machine.describe(given.threads),
                "clock": given.clock,
            }
            (given.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            print(report.of(name, result), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
