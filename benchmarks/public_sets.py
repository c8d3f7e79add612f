"""Five public label sets with a real base model and automatic settings: does it beat a bag of words?

    python benchmarks/tasks/convert.py trec sms_spam sst2 ag_news_test clinc150
    python benchmarks/public_sets.py --model DIR --out runs/public_sets

Every set gets a fixed random sample of training rows (--rows; at least --per-label of each label, which
counts for the 150 intents of clinc150) and of test rows. `finetooth run` trains LoRA with automatic settings
and answers the sealed rows with every candidate; milktooth is trained on the same rows, every weight. --rates
trains once more with each of these learning rates, for the sets of --grid. Runs that are finished are taken
as they are, so a call that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "src")]

from finetooth.evaluation.statistics import compare  # noqa: E402
from finetooth.evaluation.summary import BAG_OF_WORDS, TUNED  # noqa: E402
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl  # noqa: E402

INSTRUCTIONS = {
    "trec": "What kind of thing does the question ask for?",
    "sms_spam": "Is this text message spam or ham?",
    "sst2": "Is this sentence positive or negative?",
    "ag_news_test": "What is this news about?",
    "clinc150": "Name the intent of the request.",
}
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
SEALED_SHARE = 0.3  # of sets without a published test


def arguments() -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True, help="directory or name of the base model")
    parser.add_argument("--sets", nargs="+", default=list(INSTRUCTIONS), choices=list(INSTRUCTIONS))
    parser.add_argument("--rows", type=int, default=300, help="training rows, default %(default)s")
    parser.add_argument("--per-label", type=int, default=5, help="at least, default %(default)s")
    parser.add_argument("--test-rows", type=int, default=300, help="default %(default)s")
    parser.add_argument(
        "--grid", nargs="*", default=[], choices=list(INSTRUCTIONS), help="sets to try rates on"
    )
    parser.add_argument("--rates", nargs="+", type=float, default=RATES, help="default %(default)s")
    parser.add_argument("--epochs", default="auto", help="of every run, default %(default)s")
    parser.add_argument("--without-milktooth", action="store_true")
    parser.add_argument("--data", type=Path, default=HERE / "tasks" / "data", help="the converted sets")
    parser.add_argument("--out", type=Path, default=Path("runs/public_sets"), help="for runs and results")
    return parser.parse_args()


def sample(rows: list[dict[str, Any]], count: int, per_label: int, seed: int) -> list[dict[str, Any]]:
    """`count` rows in random order, and more until every label has `per_label` of them, where it has."""
    order = [rows[at] for at in np.random.default_rng(seed).permutation(len(rows))]
    taken, seen = order[:count], defaultdict(int)
    for row in taken:
        seen[row["label"]] += 1
    for row in order[count:]:
        if seen[row["label"]] < per_label:
            seen[row["label"]] += 1
            taken.append(row)
    return taken


def task_of(name: str, given: argparse.Namespace) -> Path:
    """The task file of a set, with its rows beside it."""
    folder, published = given.out / name, given.data / name / "test.jsonl"
    rows = list(read_jsonl(given.data / name / "train.jsonl"))
    if published.exists():
        test = list(read_jsonl(published))
    else:
        order = np.random.default_rng(7).permutation(len(rows))
        cut = int(SEALED_SHARE * len(rows))
        test, rows = [rows[at] for at in order[:cut]], [rows[at] for at in order[cut:]]
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "train.jsonl", sample(rows, given.rows, given.per_label, 1))
    write_jsonl(folder / "test.jsonl", sample(test, given.test_rows, 0, 2))
    task = {
        "name": name,
        "instruction": INSTRUCTIONS[name],
        "data": {"train": "train.jsonl", "validation": 0.15, "test": "test.jsonl", "format": "labels",
                 "allow": ["leak"]},
        "train": {"epochs": given.epochs if given.epochs == "auto" else float(given.epochs)},
        "evaluate": {"grader": "label"},
        "seed": 1,
    }  # fmt: skip
    (folder / "task.yaml").write_text(json.dumps(task, indent=1), encoding="utf-8")
    return folder / "task.yaml"


def scores(task: Path, run: str, *options: str) -> dict[str, list[float]]:
    """Every candidate's scores on the test rows, in the order of their ids; trained now unless it is done."""
    out = task.parent / run
    if not (out / "evaluate" / "summary.json").exists():
        command = [sys.executable, "-m", "finetooth", "run", str(task), "--out", str(out), *options]
        surroundings = os.environ | {"FINETOOTH_STATE": str(task.parent / "state")}
        subprocess.run([*command, "--sealed"], check=True, stdout=subprocess.DEVNULL, env=surroundings)
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for record in read_jsonl(out / "evaluate" / "test" / "records.jsonl"):
        found[record["candidate"]][record["id"]] = record["score"] or 0.0
    return {candidate: [score for _, score in sorted(of.items())] for candidate, of in found.items()}


def measured(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """A row of the table: scores in percent, and tuned minus bag of words with its interval."""
    task, base = task_of(name, given), ("--model", given.model)
    found = scores(task, "tuned", *base)
    against = compare(found[BAG_OF_WORDS], found[TUNED])
    row: dict[str, Any] = {"set": name, "test": len(found[TUNED])}
    row |= {candidate: 100 * float(np.mean(of)) for candidate, of in found.items()}
    row |= {"minus_words": [100 * value for value in (against.difference, against.low, against.high)]}
    state = read_json(task.parent / "tuned" / "train" / "result.json")
    row |= {"seconds": state.get("seconds"), "steps": state.get("steps")}
    if not given.without_milktooth:
        little = scores(
            task, "milktooth", "--model", "milktooth", "--train.adapter", "none", "--evaluate.shots", "[]"
        )
        row["milktooth"] = 100 * float(np.mean(little[TUNED]))
    for rate in given.rates if name in given.grid else ():
        only = ("--train.learning_rate", f"{rate}", "--evaluate.shots", "[]", "--evaluate.retention", "false")
        at = scores(task, f"rate-{rate:g}", *base, *only)
        row.setdefault("rates", {})[f"{rate:g}"] = 100 * float(np.mean(at[TUNED]))
    return row


def main() -> None:
    """Print and keep a row for each set."""
    given = arguments()
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.sets:
        row = measured(name, given)
        write_json(given.out / name / "result.json", row)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
