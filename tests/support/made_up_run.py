"""A run directory with invented results, for the report's tests and for looking at the page."""

from __future__ import annotations

import random
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from finetooth.data.examples import to_json
from finetooth.evaluation.candidates import Prediction
from finetooth.evaluation.graders import BUILT_IN, Grader
from finetooth.evaluation.ledger import open_sealed, seal, store_result
from finetooth.evaluation.runner import evaluate
from finetooth.rundir import append_jsonl, write_json, write_jsonl, write_text
from finetooth.types import Answer, Example, Message

_ROOM = tempfile.TemporaryDirectory()
LABELS = [
    *("card_arrival", "card_linking", "exchange_rate", "lost_or_stolen_card", "pin_blocked"),
    *("refund_not_showing_up", "top_up_failed", "transfer_timing", "verify_my_identity", "wrong_amount"),
]
QUESTIONS = [
    "When will the new card that I ordered last week arrive? I am travelling on Friday.",
    "I put money back and it still does not show. What happened to the refund?",
    "My PIN does not work any more, it says blocked after three tries.",
    "Why was I charged 14.20 when the receipt in the shop said 12.40?",
    "The app wants a picture of my passport again. How do I prove who I am?",
]
CONFIG = """\
name: "{name}"
model: milktooth
instruction: You sort messages of a bank's customers.
template: chat
data:
  train: /home/ada/tickets.csv
  validation: 0.1
  test: 0.2
  format: labels
  columns: {{}}
  max_tokens: 512
  overlong: raise
train:
  method: sft
  adapter: lora
  rank: 16
  learning_rate: 0.00219
  batch_size: 16
  epochs: 4.0
  schedule: cosine
evaluate:
  grader: label
  shots: [0, 4]
  max_tokens: 12
seed: 1

# Chosen automatically:
#   train.learning_rate: 0.00219: LoRA at hidden size 256: 10 times the rate of full fine-tuning
#   train.batch_size: 16: 2,100 training rows
#   train.epochs: 4.0: at least 500 steps teach a format and a task
#   evaluate.grader: label: the data format is labels
"""


@dataclass
class Invented:
    """Right with a fixed probability, by the seed; otherwise another label."""

    name: str
    rate: float
    tokens: int
    notes: list[str] = field(default_factory=list)

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        draw = random.Random(self.name)
        for index, example in enumerate(examples):
            wrong = LABELS[(LABELS.index(example.target) + draw.choice([1, 1, 1, 3])) % len(LABELS)]
            text = example.target if draw.random() < self.rate else wrong
            yield Prediction(index, text, self.tokens, 4 if self.tokens else 0)


def rows(n: int, name: str) -> list[Example]:
    draw = random.Random(name)
    return [
        Example(
            f"{name}-{i:04}",
            (Message("user", f"{QUESTIONS[i % len(QUESTIONS)]} ({name} {i})"),),
            (Answer(label),),
            {"label": label},
        )
        for i, label in enumerate(draw.choices(LABELS, range(3, 13), k=n))
    ]


def made_up_run(
    path: Path,
    name: str = "support-triage",
    tuned: float = 0.86,
    test: bool = True,
    evaluated: bool = True,
    others: dict[str, Grader] | None = None,
) -> Path:
    """Write the files of a run whose tuned model is right at this rate, and return its directory.

    Runs without `others` are made once in a process, and copied.
    """
    if others is None:
        shutil.copytree(_made(name, tuned, test, evaluated), path, dirs_exist_ok=True)
        return path
    return _make(path, name, tuned, test, evaluated, others)


@cache
def _made(name: str, tuned: float, test: bool, evaluated: bool) -> Path:
    return _make(Path(_ROOM.name) / str(uuid.uuid4()), name, tuned, test, evaluated, None)


def _make(
    path: Path, name: str, tuned: float, test: bool, evaluated: bool, others: dict[str, Grader] | None
) -> Path:
    validation, sealed = rows(240, "validation"), rows(520, "test")
    write_text(path / "config.yaml", CONFIG.format(name=name))
    write_json(path / "environment.json", {"versions": {"finetooth": "0.1.0", "torch": "2.13.0"}})
    write_jsonl(path / "data" / "train.jsonl", map(to_json, rows(2_100, "train")))
    write_jsonl(path / "data" / "validation.jsonl", map(to_json, validation))
    write_jsonl(path / "data" / "sealed.jsonl", map(to_json, sealed))
    broken = {"file": "tickets.csv", "line": 118, "reason": "the label is empty", "row": {}}
    write_jsonl(path / "data" / "rejected.jsonl", [broken, {**broken, "line": 907, "reason": "no text"}])
    seal(path, lambda: 0.0)
    draw = random.Random(1)
    for step in range(1, 529):
        loss = 0.24 + 2.6 * 0.985**step + draw.gauss(0, 0.06 + 0.2 * 0.985**step)
        line = {"step": step, "loss": max(loss, 0.02), "seconds": 0.4}
        append_jsonl(path / "train" / "metrics.jsonl", [line])
        if step % 66 == 0:
            valid = 0.31 + 2.5 * 0.985**step + 0.00015 * step
            append_jsonl(path / "train" / "metrics.jsonl", [{"step": step, "valid_loss": valid}])
    for split, examples in (("validation", validation), ("test", sealed)):
        if not evaluated or (split == "test" and not test):
            continue
        note = "31 of 520 rows were asked with fewer than 4 demonstrations (fewest 2)"
        candidates = [
            Invented("majority", 0.17, 0),
            Invented("bag-of-words", 0.79, 0),
            Invented("zero-shot", 0.31, 64),
            Invented("few-shot-4", 0.58, 213, [note]),
            Invented("tuned", tuned, 23),
        ]
        result = evaluate(examples, candidates, BUILT_IN["label"], "label", split, secondary_graders=others)
        result.write(path / "evaluate" / split)
        write_json(path / "evaluate" / "summary.json", result.summary)
        if split == "test":
            open_sealed(path, "one", lambda: 0.0)
            store_result(path, "one", result.summary, lambda: 0.0)
    return path
