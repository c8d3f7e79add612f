"""Does starting from milktooth help? Label tasks with few rows, against the same architecture from scratch.

    python benchmarks/tasks/convert.py trec sst2 snips clinc150 --out .staging/tasks
    python recipes/milktooth/transfer.py --tasks .staging/tasks --json .staging/milktooth/transfer.json

For every data set, number of training rows and seed, milktooth (every weight, and LoRA) and a fresh
initialisation (every weight) are trained on the same rows with three learning rates each. The rate is chosen
by the score on 64 validation rows; then 500 test rows are answered once. What is done is kept in the JSON
file, and a second call goes on from there. The interval takes a test row, over its seeds, as one observation.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.config.task import TrainConfig
from finetooth.data.hub import model_directory
from finetooth.data.render.renderer import Renderer
from finetooth.evaluation import graders
from finetooth.evaluation.candidates import ModelCandidate
from finetooth.evaluation.prompts import Prompt
from finetooth.evaluation.statistics import compare
from finetooth.model.api import Model
from finetooth.rundir import read_jsonl, write_json
from finetooth.training.loop import Trainer
from finetooth.training.selection import AnswerValidator
from finetooth.types import Answer, Example, Message, Sampling

INSTRUCTIONS = {
    "trec": "What kind of thing does the question ask for?",
    "sst2": "Is this sentence positive or negative?",
    "snips": "What does the user want?",
    "clinc150": "What does the user want?",
}
TEST_ROWS, VALIDATION_ROWS, BATCH = 500, 64, 16
STEPS = {100: 140, 300: 280}  # about 22 and 15 passes; the best of seven looks at the validation rows is kept
LOOKS = 7
FULL, LORA, SCRATCH = "full", "lora", "scratch"
RATES = {FULL: (3e-4, 1e-3, 3e-3), LORA: (1e-3, 3e-3, 1e-2), SCRATCH: (3e-4, 1e-3, 3e-3)}


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of one data set and seed. labels: all of the data set's."""

    name: str
    train: list[Example]
    validation: list[Example]
    test: list[Example]
    labels: list[str]


def example(number: int, row: dict[str, str]) -> Example:
    """A row as finetooth's own reader makes it."""
    return Example(
        str(number), (Message("user", row["text"]),), (Answer(row["label"]),), {"label": row["label"]}
    )


def read(folder: Path, rows: int, seed: int) -> Data:
    """`rows` training rows and the validation rows drawn by the seed; the test rows are always the same."""
    pool = [example(at, row) for at, row in enumerate(read_jsonl(folder / "train.jsonl"))]
    test = [example(at, row) for at, row in enumerate(read_jsonl(folder / "test.jsonl"))]
    drawn = random.Random(f"{folder.name} {seed}").sample(pool, 300 + VALIDATION_ROWS)
    asked = random.Random(folder.name).sample(test, min(TEST_ROWS, len(test)))
    labels = sorted({one.target for one in pool if one.target})
    return Data(folder.name, drawn[VALIDATION_ROWS:][:rows], drawn[:VALIDATION_ROWS], asked, labels)


def scratch(model: str, room: Path) -> Path:
    """The model's directory without its weights: it is then drawn from the seed."""
    goal = room / "scratch"
    shutil.copytree(model_directory(model), goal, ignore=shutil.ignore_patterns("*.safetensors"))
    return goal


def trained(model: Model, data: Data, rate: float, seed: int, room: Path) -> tuple[Model, float, float]:
    """The model after training, with its score and loss on the validation rows."""
    assert model.tokenizer is not None
    renderer = Renderer(model.tokenizer, "auto", INSTRUCTIONS[data.name])
    steps = STEPS[len(data.train)]
    config = TrainConfig(
        learning_rate=rate,
        batch_size=BATCH,
        epochs=1000,
        max_steps=steps,
        weight_decay=0.1,
        micro_tokens=1024,
        validate_every=steps // LOOKS,
        save_every=steps,
        patience=None,
        select="score",
    )
    rows = [renderer.render_all(part).rows for part in (data.train, data.validation)]
    answers = AnswerValidator(candidate(model, renderer, data), data.validation, grader(), True)
    quiet = Console(quiet=True)
    found = Trainer(model, rows[0], rows[1], config, room, seed, quiet, answers=answers).run()
    assert found.best_score is not None and found.best_loss is not None
    return model, found.best_score, found.best_loss


def candidate(model: Model, renderer: Renderer, data: Data) -> ModelCandidate:
    """The model choosing among the labels."""
    return ModelCandidate("tuned", model, renderer, Prompt("tuned"), Sampling(0.0, 16), data.labels)


def grader() -> graders.Grader:
    """Right or wrong label."""
    return graders.resolve("label", "labels", Path.cwd())[1]


def cell(start: str, model: str, data: Data, seed: int, room: Path) -> dict[str, Any]:
    """Train with every rate, choose one by validation, answer the test rows: their scores in order."""
    best: tuple[float, float, float, Model] | None = None
    tried = {}
    for rate in RATES[start]:
        loaded = Model.load(scratch(model, room) if start == SCRATCH else model, seed=seed)
        if start == LORA:
            loaded.add_lora(16, seed)
        loaded, score, loss = trained(loaded, data, rate, seed, room / "run")
        shutil.rmtree(room)
        room.mkdir()
        tried[str(rate)] = score
        if best is None or (score, -loss) > (best[0], -best[1]):
            best = (score, loss, rate, loaded)
    assert best is not None and best[3].tokenizer is not None
    asked = candidate(best[3], Renderer(best[3].tokenizer, "auto", INSTRUCTIONS[data.name]), data)
    grade, scores = grader(), [0.0] * len(data.test)
    for answer in asked.answers(data.test):
        scores[answer.index] = float(grade(data.test[answer.index], answer.text).value or 0.0)
    return {"rate": best[2], "validation": tried, "scores": scores}


def table(done: dict[str, Any], sets: Sequence[str], sizes: Sequence[int], seeds: Sequence[int]) -> str:
    """Accuracy by data set and rows, with the difference to scratch and its interval."""
    lines = ["| data set | rows | scratch | milktooth | difference | LoRA |", "|---|---|---|---|---|---|"]
    for name in sets:
        for size in sizes:
            found = {
                start: [
                    done[key]["scores"] for seed in seeds if (key := f"{name} {size} {start} {seed}") in done
                ]
                for start in (SCRATCH, FULL, LORA)
            }
            shown = {
                start: f"{sum(map(sum, runs)) / sum(map(len, runs)):.1%}" if runs else ""
                for start, runs in found.items()
            }
            told = ""
            if found[FULL] and len(found[FULL]) == len(found[SCRATCH]):
                base, ours = ([value for run in found[start] for value in run] for start in (SCRATCH, FULL))
                row_ids = [str(at) for run in found[FULL] for at in range(len(run))]
                gain = compare(base, ours, row_ids)
                told = f"{100 * gain.difference:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
            lines.append(f"| {name} | {size} | {shown[SCRATCH]} | {shown[FULL]} | {told} | {shown[LORA]} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="milktooth", help="a model directory")
    parser.add_argument("--tasks", type=Path, required=True, help="where convert.py wrote the data sets")
    parser.add_argument("--sets", nargs="+", default=list(INSTRUCTIONS), choices=list(INSTRUCTIONS))
    parser.add_argument("--rows", nargs="+", type=int, default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--starts", nargs="+", default=[FULL, SCRATCH, LORA], choices=list(RATES))
    parser.add_argument("--json", type=Path, required=True, help="what is done; goes on from there")
    options = parser.parse_args()
    done = json.loads(options.json.read_text(encoding="utf-8")) if options.json.is_file() else {}
    for seed in options.seeds:
        for name in options.sets:
            for size in options.rows:
                data = read(options.tasks / name, size, seed)
                for start in options.starts:
                    key = f"{name} {size} {start} {seed}"
                    if key in done:
                        continue
                    with tempfile.TemporaryDirectory() as room:
                        done[key] = cell(start, options.model, data, seed, Path(room))
                    write_json(options.json, done)
                    score = sum(done[key]["scores"]) / len(data.test)
                    print(f"{key}: {score:.1%} with {done[key]['rate']:g}", flush=True)
    print(table(done, options.sets, options.rows, options.seeds))


if __name__ == "__main__":
    main()
