"""Five iterations on real rows: does a model get better by following only what finetooth says?

    finetooth models get smollm2-135m
    python benchmarks/iterations.py --out runs/iterations

The task: 15 intents of a bank's customers (clinc150, CC BY 3.0, found through FINETOOTH_DATA). It starts
badly on purpose: 300 rows, in which three intents hardly occur (the gaps) and one label in ten is wrong (the
noise). Further rows have no label: the pool. It comes from the same source, so the gaps are rare in it too:
--pool-gaps rows of each, and about 64 of every other intent.

A script plays the person. It does what `finetooth errors --next` asks for and nothing else: it labels the
rows of next.csv, corrects the training rows that are doubted there, and runs the printed command. It knows
the published labels, and gives them as the person's answers.

Every iteration is trained twice: with the rows that were asked for, and with as many random rows of the pool
(the same corrections in both). The test set is kept for a look at the models from outside. Prints a table and
writes OUT/iterations.json. What is finished is kept, so a call that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetooth.data.examples import normalise
from finetooth.quality.similarity.near import find_similar_pairs

HERE = Path(__file__).resolve().parent
INTENTS = [
    *("transfer", "transactions", "balance", "freeze_account", "pay_bill", "bill_balance", "bill_due"),
    *("interest_rate", "routing", "min_payment", "order_checks", "pin_change", "report_fraud"),
    *("account_blocked", "spending_history"),
]
GAPS = ("bill_due", "min_payment", "spending_history")
START, OF_A_GAP, NOISE = 300, 3, 0.1
VALIDATION = 12  # rows of each intent that join the 20 of the published validation set
TASK = """\
name: intents
model: {model}
instruction: Name the intent of the customer's message.
data:
  train: start.csv
  validation: validation.csv
  test: test.csv
  columns: {{message: text, intent: label}}
train:
  seed: {seed}
  epochs: 3
  batch_size: 16
  validate_every: 30
evaluate:
  grader: label
  shots: [0]
  ladder: false
  retention: false
seed: 1
"""


def arguments() -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="default %(default)s")
    parser.add_argument("--iterations", type=int, default=5, help="after the start, default %(default)s")
    parser.add_argument("--rows", type=int, default=45, help="to label in each, default %(default)s")
    parser.add_argument(
        "--pool-gaps", type=int, default=20, help="rows of a gap in the pool, default %(default)s"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the draw and the training")
    parser.add_argument("--out", type=Path, default=Path("runs/iterations"))
    return parser.parse_args()


def words(intent: str) -> str:
    """pin_change as a person writes it: pin change."""
    return intent.replace("_", " ")


def make_data(folder: Path, seed: int, pool_gaps: int) -> dict[str, str]:
    """Write the files of the task and the pool; the true intent of every message.

    pool_gaps: rows of each gap in the pool.
    """
    data = Path(os.environ.get("FINETOOTH_DATA") or HERE.parents[1] / "shared" / "data")
    published = json.loads((data / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    rows = {name: [(text, words(label)) for text, label in published[name] if label in INTENTS]
            for name in ("train", "val", "test")}  # fmt: skip
    seen = {normalise(text) for name in ("val", "test") for text, _ in rows[name]}
    draw = random.Random(seed)
    train = [row for row in dict.fromkeys(rows["train"]) if normalise(row[0]) not in seen]
    draw.shuffle(train)
    by_intent: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in train:
        by_intent[row[1]].append(row)
    gaps = [words(intent) for intent in GAPS]
    others = [words(intent) for intent in INTENTS if intent not in GAPS]
    validation = rows["val"] + [row for intent in by_intent for row in by_intent[intent][-VALIDATION:]]
    free = apart([text for one in by_intent.values() for text, _ in one[:-VALIDATION]],
                 [text for text, _ in (*validation, *rows["test"])])  # fmt: skip
    by_intent = {intent: [row for row in found[:-VALIDATION] if row[0] in free]
                 for intent, found in by_intent.items()}  # fmt: skip
    start = [row for gap in gaps for row in by_intent[gap][:OF_A_GAP]]
    unlabelled = {row for gap in gaps for row in by_intent[gap][OF_A_GAP : OF_A_GAP + pool_gaps]}
    common = [row for other in others for row in by_intent[other]]
    draw.shuffle(common)
    unlabelled |= {*common[START - len(start) :]}
    start += common[: START - len(start)]
    noisy = {text for text, _ in draw.sample(start, round(NOISE * START))}
    given = [(text, draw.choice([one for one in others if one != label]) if text in noisy else label)
             for text, label in start]  # fmt: skip
    draw.shuffle(given)
    write_csv(folder / "start.csv", ["message", "intent"], given)
    write_csv(folder / "validation.csv", ["message", "intent"], validation)
    write_csv(folder / "test.csv", ["message", "intent"], rows["test"])
    write_csv(folder / "pool.csv", ["message"], [row[:1] for row in train if row in unlabelled])
    return dict(train)


def apart(texts: Sequence[str], held: Sequence[str]) -> set[str]:
    """The texts that are no near copies of held-out ones."""
    pairs = find_similar_pairs([*held, *texts], [0] * len(held) + [1] * len(texts))
    near = {pair.other - len(held) for pair in pairs if pair.one < len(held) <= pair.other}
    return {text for at, text in enumerate(texts) if at not in near}


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A CSV file with a header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def finetooth(*given: Any) -> dict[str, Any]:
    """The JSON result of a command; its log goes to stderr."""
    command = [sys.executable, "-m", "finetooth", *map(str, given), "--json"]
    print("$ finetooth", *map(str, given), flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return dict(json.loads(done.stdout))


def fill_in(path: Path, truth: dict[str, str]) -> dict[str, int]:
    """Play the person: give every row with a text its true intent. Returns how many of each kind."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        if row["message"] in truth and row["finetooth_change"] != "remove":
            row["intent"] = truth[row["message"]]
            counts[row["finetooth_change"]] += 1
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["message"])
        writer.writeheader()
        writer.writerows(rows)
    return dict(counts)


def tuned_score(run: Path) -> float:
    """The tuned model's score on the validation rows."""
    summary = json.loads((run / "evaluate" / "validation" / "summary.json").read_text(encoding="utf-8"))
    return next(float(one["score"]) for one in summary["candidates"] if one["name"] == "tuned")


def main() -> None:
    """Make the data, run the iterations, print what came of each."""
    asked = arguments()
    folder = asked.out
    folder.mkdir(parents=True, exist_ok=True)
    truth = make_data(folder, asked.seed, asked.pool_gaps)
    (folder / "task.yaml").write_text(TASK.format(model=asked.model, seed=asked.seed), encoding="utf-8")
    lines: list[dict[str, Any]] = []
    run = folder / "run-1"
    finetooth("run", folder / "task.yaml", "--out", run)
    before: Path | None = None
    for number in range(1, asked.iterations + 2):
        against = ["--against", before] if before else []
        last = number == asked.iterations + 1
        following = (
            [] if last else ["--next", "--pool", folder / "pool.csv", "--rows", asked.rows, "--random"]
        )
        found = finetooth(
            "errors", run, *against, *([] if (run / "errors/next.csv").is_file() else following)
        )
        line = {
            "run": str(run),
            "score": tuned_score(run),
            "flips": found["flips"],
            "issues": [issue["words"] for issue in found["issues"] if issue["state"] != "present"][:8],
        }
        lines.append(line)
        targeting = run / "errors" / "targeting.json"
        if targeting.is_file():
            line["targeting"] = json.loads(targeting.read_text(encoding="utf-8"))
        (folder / "iterations.json").write_text(json.dumps(lines, indent=1), encoding="utf-8")
        if last:
            break
        files = [run / "errors" / name for name in ("next.csv", "random.csv")]
        line["filled in"] = [fill_in(file, truth) for file in files]
        before, run = run, folder / f"run-{number + 1}"
        finetooth("run", "--add", files[0], "--random", files[1], "--from", before, "--out", run)
    for line in lines:
        print(json.dumps(line))


if __name__ == "__main__":
    main()
