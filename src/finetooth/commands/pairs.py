"""`finetooth pairs RUN`: preference pairs from the answers of a run's own models.

For every row with good and bad answers, the best and the worst one. Answers are the rollouts of a
reinforcement-learning run and the validation records; the sealed test is never read.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.data.examples import read_examples
from finetooth.data.hub import model_directory
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import ConfigError, DataError
from finetooth.evaluation import graders, ledger
from finetooth.evaluation.summary import START, TUNED, is_prompting
from finetooth.rundir import read_jsonl, write_jsonl
from finetooth.runs import workspace
from finetooth.types import Example

GOOD = 0.5  # the lowest score of a good answer
WITHOUT_PAIR = {
    "only_good": "with good answers only",
    "only_bad": "with bad answers only",
    "close": "whose best and worst answers have nearly the same score",
}
UNUSED = {
    "cut": "truncated",
    "unusable": "empty, or with the text of a special token",
    "not_graded": "not graded, as the grader failed",
}


@dataclass(frozen=True, slots=True)
class PairsReport:
    """The pairs of a run's answers. rows: answered ones; pairs: number written; trained_on: how many of them
    are of training rows; from_reference: how many have the expected answer as the chosen one. without: rows
    without a pair, by reason; unused: answers left out, by reason.
    """

    path: Path
    rows: int
    pairs: int
    trained_on: int
    from_reference: int
    without: dict[str, int]
    unused: dict[str, int]
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "out": str(self.path),
            "rows": self.rows,
            "pairs": self.pairs,
            "of_training_rows": self.trained_on,
            "from_reference": self.from_reference,
            **self.without,
            "unused_answers": self.unused,
        }

    def print(self, console: Console) -> None:
        """The number of pairs, and why the other rows have none."""
        lines = [f"{self.pairs:,} pairs from {self.rows:,} answered rows: {self.path}"]
        if not self.trained_on:
            lines.append(
                "  all of them are of validation rows, on which nothing is ever trained; answers to training "
                "rows come from training by rewards (--train.method grpo)"
            )
        if self.from_reference:
            lines.append(f"  {self.from_reference:,} of them have the expected answer as the chosen one")
        lines += [
            f"  {count:,} rows {WITHOUT_PAIR[why]}: no pair" for why, count in self.without.items() if count
        ]
        lines += [
            f"  {count:,} answers not used: {UNUSED[why]}" for why, count in self.unused.items() if count
        ]
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def run(path: Path, out: Path | None, margin: float, reference: bool) -> PairsReport:
    """Write the pairs of a run as lines with id, prompt, chosen and rejected, to `out` (RUN/pairs.jsonl).

    margin: the smallest score difference between the best and the worst answer of a pair. reference: where
    all answers are bad, the expected answer is the chosen one. Raises ConfigError where the run has no
    answers yet or `out` exists; DataError where no row gives a pair, or answers are to rows that are neither
    training nor validation rows.
    """
    target = out or path / "pairs.jsonl"
    if out is not None and os.path.lexists(target):
        raise ConfigError(f"{target} exists already. Choose another file with --out FILE.")
    files = [path / "data" / f"{side}.jsonl" for side in ("train", "validation")]
    sides = [list(read_examples(file)) for file in files]
    rows = {example.id: example for side in sides for example in side}
    unused = Counter(dict.fromkeys(UNUSED, 0))
    answers = _answers(path, rows, unused)
    without, from_reference = Counter(dict.fromkeys(WITHOUT_PAIR, 0)), 0
    lines: list[dict[str, Any]] = []
    for id, score_of in answers.items():
        ranked = sorted(score_of, key=lambda text, score_of=score_of: score_of[text])  # type: ignore[misc]
        bad, good = ranked[0], ranked[-1]
        best, worst, expected = score_of[good], score_of[bad], rows[id].target
        if reference and best < GOOD and expected and expected not in score_of:
            good, best, from_reference = expected, 1.0, from_reference + 1
        if good == bad or best - worst < margin:
            without["only_good" if worst >= GOOD else "only_bad" if best < GOOD else "close"] += 1
            continue
        lines.append({**_prompt(rows[id]), "chosen": good, "rejected": bad})
    ids = {example.id for example in sides[0]}
    trained_on = sum(line["id"] in ids for line in lines)
    report = PairsReport(
        target, len(answers), len(lines), trained_on, from_reference, dict(without), dict(unused)
    )
    if not lines:
        why = ", ".join(f"{count} {WITHOUT_PAIR[why]}" for why, count in without.items() if count)
        why = why or "no usable answer"
        raise DataError(
            f"{path}: none of {len(answers)} answered rows has a good and a bad answer ({why}). "
            "A smaller --margin may help, or --reference, with the expected answers as chosen ones."
        )
    write_jsonl(target, lines)
    return report


def _answers(path: Path, rows: dict[str, Example], unused: Counter[str]) -> dict[str, dict[str, float]]:
    """Row id -> its distinct answers with their scores, the latest last. Counts the others in `unused`."""
    answers: dict[str, dict[str, float]] = {}
    task = workspace.load_config(path)
    sources = [path / "train" / "rollouts.jsonl"]
    if graders.PREFERENCE not in graders.specs(
        task.evaluate.grader
    ):  # else records hold choices, not answers
        sources.append(path / "evaluate" / "validation" / "records.jsonl")
        ledger.require_unchanged(path, "validation")
    sources = [file for file in sources if file.is_file()]
    if not sources:
        raise ConfigError(f"{path} has no answers yet. First: finetooth evaluate {path}")
    tokenizer = Tokenizer.load(model_directory(task.model, weights=False))
    renderer = Renderer(tokenizer, workspace.template(task, path), task.instruction)
    for file, line in [(source, line) for source in sources for line in read_jsonl(source)]:
        name = line.get("candidate", TUNED)
        if not (name in (TUNED, START) or is_prompting(name)):
            continue  # not from a language model
        if line["id"] not in rows:
            raise DataError(
                f"{file}: an answer to row {line['id']}, which is neither a training nor a validation row of "
                f"{path}. Pairs are made of these only, never of the sealed test."
            )
        cut, usable = line["stop"] == "length", line["text"].strip() and renderer.can_answer(line["text"])
        if cut or not usable or line["score"] is None:
            unused["cut" if cut else "not_graded" if usable else "unusable"] += 1
            continue
        score_of = answers.setdefault(line["id"], {})
        score_of.pop(line["text"], None)
        score_of[line["text"]] = line["score"]
    return answers


def _prompt(example: Example) -> dict[str, Any]:
    """The columns of the prompt: a text where it is a single plain question, else messages."""
    turns = [{"role": turn.role, "content": turn.content, **turn.more} for turn in example.context]
    plain = len(turns) == 1 and turns[0].keys() == {"role", "content"} and turns[0]["role"] == "user"
    group = {"group": example.tags["group"]} if "group" in example.tags else {}
    tools = {"tools": list(example.tools)} if example.tools else {}
    return {"id": example.id, "prompt": turns[0]["content"] if plain else turns, **tools, **group}
