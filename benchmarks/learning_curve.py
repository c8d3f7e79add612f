"""Does the forecast of `finetooth curve` hold? Five public label sets, each measured at twice the rows too.

    python benchmarks/tasks/convert.py trec sst2 ag_news_test sms_spam clinc150
    python benchmarks/learning_curve.py --set trec --model smollm2-135m --out runs/learning_curve
    python benchmarks/learning_curve.py --refit runs/learning_curve/*.jsonl

Of each set 400 rows are for validation. `curve` sees --rows training rows, in sizes from an eighth up; its
forecast is for twice as many. Then the task is trained with twice as many, the same rows among them, and as
many seeds. A call that was interrupted goes on. OUT/SET.jsonl has a line for each training with the score of
every row, from which --refit makes the table again without training.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "src")]

from finetooth.analysis.learning_curve import Point, forecast  # noqa: E402
from finetooth.rundir import read_json, read_jsonl, write_jsonl  # noqa: E402

INSTRUCTIONS = {
    "trec": "What kind of thing does the question ask for?",
    "sst2": "Is this sentence positive or negative?",
    "ag_news_test": "What is this news about?",
    "sms_spam": "Is this text message spam or ham?",
    "clinc150": "Name the intent of the request.",
}
LABELS = {"clinc150": 25}  # of its 150 intents, so that a few hundred rows can teach them


def arguments() -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--set", dest="sets", nargs="+", default=list(INSTRUCTIONS), choices=list(INSTRUCTIONS)
    )
    parser.add_argument("--model", default="smollm2-135m", help="name or directory, default %(default)s")
    parser.add_argument("--rows", type=int, default=160, help="that `curve` sees, default %(default)s")
    parser.add_argument("--validation", type=int, default=400, help="rows, default %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each size, default %(default)s")
    parser.add_argument("--data", type=Path, default=HERE / "tasks" / "data", help="the converted sets")
    parser.add_argument("--out", type=Path, default=Path("runs/learning_curve"))
    parser.add_argument(
        "--refit", type=Path, nargs="+", metavar="FILE", help="of an earlier call: no training"
    )
    return parser.parse_args()


def task_files(name: str, given: argparse.Namespace) -> tuple[Path, Path]:
    """The task of a set with --rows training rows, and the one with twice as many."""
    folder = given.out / name
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(read_jsonl(given.data / name / "train.jsonl"))
    draw = np.random.default_rng(11)
    if name in LABELS:
        known = sorted({row["label"] for row in rows})
        chosen = {known[at] for at in draw.choice(len(known), LABELS[name], replace=False)}
        rows = [row for row in rows if row["label"] in chosen]
    rows = [rows[at] for at in draw.permutation(len(rows))]
    write_jsonl(folder / "validation.jsonl", rows[: given.validation])
    rest = rows[given.validation :]
    files = []
    for part, count in (("half", given.rows), ("all", 2 * given.rows)):
        write_jsonl(folder / f"{part}.jsonl", rest[:count])
        task = {
            "name": f"{name}-{part}",
            "model": given.model,
            "instruction": INSTRUCTIONS[name],
            "data": {"train": f"{part}.jsonl", "validation": "validation.jsonl", "test": 0,
                     "format": "labels", "allow": ["leak"]},
            # One recipe for all sizes, with all epochs: to validate costs more than to train so few rows.
            "train": {"batch_size": 8, "epochs": 8, "validate_every": 100_000, "patience": None,
                      "select": "loss"},
            "evaluate": {"grader": "label"},
            "seed": 1,
        }  # fmt: skip
        files.append(folder / f"{part}.yaml")
        files[-1].write_text(json.dumps(task, indent=1), encoding="utf-8")
    return files[0], files[1]


def measured(name: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """A line for each training of a set, trained now unless it is done."""
    half, full = task_files(name, given)
    lines: list[dict[str, Any]] = []
    for part, file, words in (("half", half, ()), ("all", full, ("--sizes", str(2 * given.rows)))):
        out = file.parent / part
        command = [sys.executable, "-m", "finetooth", "curve", str(file), "--out", str(out)]
        surroundings = os.environ | {"FINETOOTH_STATE": str(file.parent / "state")}
        subprocess.run(
            [*command, "--seeds", str(given.seeds), *words],
            check=True,
            stdout=subprocess.DEVNULL,
            env=surroundings,
        )
        for one in read_json(out / "curve.json")["trainings"]:
            folder = out / "curve" / f"{one['size']}-{one['seed']}"
            answers = list(read_jsonl(folder / "answers.jsonl"))
            train = [row["tags"]["label"] for row in read_jsonl(folder / "data" / "train.jsonl")]
            scores = {answer["id"]: answer["score"] for answer in answers}
            wants = {answer["id"]: answer["want"] for answer in answers}
            counts = {label: train.count(label) for label in sorted(set(train))}
            lines.append({"set": name, **one, "scores": scores, "wants": wants, "trained": counts})
    write_jsonl(given.out / f"{name}.jsonl", lines)
    return lines


def check(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The forecast from all sizes but the largest, and what was measured there."""
    most = max(line["size"] for line in lines)
    graded = set.intersection(
        *({id for id, one in line["scores"].items() if one is not None} for line in lines)
    )
    points = [
        Point(line["size"], line["seed"], float(np.mean([line["scores"][id] for id in graded])))
        for line in lines
    ]
    seen = [point for point in points if point.size < most]
    found = forecast(seen, len(graded), most)
    real = [point.score for point in points if point.size == most]
    inside = [found.low <= score <= found.high for score in real]
    return {"found": found, "real": real, "inside": inside, "points": points}


def table(lines: list[dict[str, Any]]) -> Iterator[str]:
    """What a set's trainings show, in lines: scores by size, then the forecast and what came."""
    result = check(lines)
    found, name = result["found"], lines[0]["set"]
    for size in sorted({point.size for point in result["points"]}):
        scores = [100 * point.score for point in result["points"] if point.size == size]
        yield f"{name:14}{size:6} rows  " + "  ".join(f"{score:5.1f}" for score in scores)
    held = f"{sum(result['inside'])} of {len(result['inside'])} trainings inside"
    mean = float(np.mean(result["real"]))
    held += ", their mean inside" if found.low <= mean <= found.high else ", their mean OUTSIDE"
    yield (
        f"{name:14}forecast for {found.target}: {100 * found.score:.1f} ({100 * found.low:.1f} to "
        f"{100 * found.high:.1f}), gain {100 * found.gain:+.1f} ({100 * found.gain_low:+.1f} to "
        f"{100 * found.gain_high:+.1f}); came {100 * mean:.1f}: {held}"
    )


def main() -> None:
    """Train or read, and print."""
    given = arguments()
    if given.refit:
        for file in given.refit:
            print("\n".join(table(list(read_jsonl(file)))), flush=True)
        return
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.sets:
        print("\n".join(table(measured(name, given))), flush=True)


if __name__ == "__main__":
    main()
