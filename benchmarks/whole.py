"""The whole way from a file to a verdict, beside a TRL and transformers script: --help says how to call it.

`finetooth run` does all that it always does: data gate, preflight check, training, the proof of what was
saved, validation, the sealed test and the report. The script trains on the same rows with the same settings
and answers the same rows under the same prompts. It gets them as token ids, and grades by equality.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

from rich.console import Console  # noqa: E402
from sidebyside import environments, machine  # noqa: E402

from finetooth.commands.evaluate import prompting_candidates, sample_rows  # noqa: E402
from finetooth.config.load import load_task  # noqa: E402
from finetooth.data.examples import from_json  # noqa: E402
from finetooth.evaluation.prompts import Prompt  # noqa: E402
from finetooth.rundir import read_json, read_jsonl, write_json  # noqa: E402
from finetooth.runs.context import RunContext  # noqa: E402


def arguments() -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("task", type=Path, help="a task file with labels as answers")
    parser.add_argument("--model", type=Path, required=True, help="directory of the base model")
    parser.add_argument("--rounds", type=int, default=1, help="default %(default)s")
    parser.add_argument(
        "--micro", type=int, default=16, help="rows of TRL's micro-batch, default %(default)s"
    )
    parser.add_argument("--batch", type=int, default=32, help="rows that the script answers together")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of both systems")
    parser.add_argument("--out", type=Path, default=Path("runs/whole.json"), help="for the result")
    parser.add_argument("--envs", type=Path, default=environments.DEFAULT, help="for the peer's environment")
    return parser.parse_args()


def run_finetooth(given: argparse.Namespace, out: Path) -> float:
    """Seconds of `finetooth run` in a process of its own, which knows of no earlier look at the test."""
    task = out.parent / f"{out.name}.yaml"
    write_json(task, load_task(given.task).model_dump(mode="json", exclude_unset=True))
    command = [
        sys.executable,
        "-m",
        "finetooth",
        "run",
        str(task),
        "--model",
        str(given.model.resolve()),
    ]
    path = os.pathsep.join([str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")])
    surroundings = {**os.environ, "OMP_NUM_THREADS": str(given.threads), "PYTHONPATH": path}
    surroundings["FINETOOTH_STATE"] = str(out.parent / "state")
    begun = time.perf_counter()
    subprocess.run([*command, "--out", str(out), "--quiet"], check=True, env=surroundings)
    return time.perf_counter() - begun


def spec_of(run: Path, given: argparse.Namespace) -> dict[str, Any]:
    """What the script gets: the run's rows, settings and prompts, as token ids."""
    context = RunContext.of_run(run, Console(quiet=True))
    task, renderer = context.task, context.renderer
    sealed = [from_json(line) for line in read_jsonl(run / "data" / "sealed.jsonl")]
    splits = {"validation": sample_rows(context.prepared.validation, task), "test": sample_rows(sealed, task)}
    prompts = [candidate.prompt for candidate in prompting_candidates(context, "label")]
    questions = {}
    for split, rows in splits.items():
        for prompt in [*prompts, Prompt("tuned")]:
            questions[f"{split}: {prompt.name}"] = {
                "tuned": prompt.name == "tuned",
                "contexts": [renderer.context_row(prompt.messages(row)).tokens.tolist() for row in rows],
                "want": [row.target for row in rows],
            }
    rows = [row for example in context.prepared.train for row in renderer.training_rows(example)]
    return {
        "model": str(given.model.resolve()),
        "threads": given.threads,
        "train": [
            {"tokens": row.tokens.tolist(), "scored": (row.weight > 0).astype(int).tolist()} for row in rows
        ],
        "epochs": task.train.epochs,
        "batch_size": task.train.batch_size,
        "learning_rate": task.train.learning_rate,
        "rank": task.train.rank,
        "micro": min(given.micro, int(task.train.batch_size)),
        "batch": given.batch,
        "max_tokens": task.evaluate.max_tokens,
        "stop": renderer.stop_id,
        "questions": questions,
    }


def main() -> None:
    """Both ways in turn; the result is printed and written."""
    given = arguments()
    python = environments.python_of("hf", given.envs)
    rounds = []
    for number in range(given.rounds):
        with tempfile.TemporaryDirectory() as folder:
            run, told = Path(folder) / "run", Path(folder) / "spec.json"
            ours = run_finetooth(given, run)
            told.write_text(json.dumps(spec_of(run, given)), encoding="utf-8")
            begun = time.perf_counter()
            command = [str(python), str(HERE / "peers" / "run_whole.py"), str(told)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            theirs = time.perf_counter() - begun
            lines = done.stdout.splitlines()  # the trainer prints there, too
            said = json.loads(next(line for line in lines if line.startswith('{"seconds"')))
            summary = read_json(run / "evaluate" / "summary.json")
            mine = {one["name"]: one["score"] for one in summary["candidates"]}
        rounds.append({"finetooth": ours, "script": theirs, "ratio": theirs / ours, "parts": said["seconds"],
                       "scores": {"finetooth": mine, "script": said["score"]}})  # fmt: skip
        print(f"round {number + 1}: finetooth {ours:.0f} s, script {theirs:.0f} s: {theirs / ours:.2f}x")
    result = {"rounds": rounds, "machine": machine.describe(given.threads), "task": given.task.stem}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
