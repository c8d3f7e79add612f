"""`finetooth pairs RUN`: pairs to learn a preference from, made of what a run's own models have answered.

Of every row that was answered well and badly, the best and the worst answer. Answers are the rollouts of a
run that learned from rewards, and those of its evaluation on the validation rows; the sealed test is never
read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.data.examples import from_json
from finetooth.data.hub import model_directory
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import ConfigError, DataError
from finetooth.evaluation import graders
from finetooth.evaluation.summary import START, TUNED, is_prompting
from finetooth.rundir import read_jsonl, write_jsonl
from finetooth.runs import workspace
from finetooth.types import Example

GOOD = 0.5  # a score from which on an answer is rather right than wrong
WORDS = {
    "only_good": "with good answers alone",
    "only_bad": "with bad answers alone",
    "close": "whose best and worst answer score nearly the same",
}
UNUSED = {
    "cut": "cut off",
    "unusable": "empty, or with the text of a special token",
    "not_graded": "not graded, as the grader failed",
}


@dataclass(frozen=True, slots=True)
class PairsReport:
    """What came of a run's answers. pairs: written; from_reference: how many of them have the expected answer
    as the chosen one. without: rows that gave no pair, by why; unused: answers that were left out, by why.
    """

    path: Path
    rows: int
    pairs: int
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
            "from_reference": self.from_reference,
            **self.without,
            "unused_answers": self.unused,
        }

    def print(self, console: Console) -> None:
        """How many pairs there are, and why the other rows gave none."""
        lines = [f"{self.pairs:,} pairs of {self.rows:,} answered rows: {self.path}"]
        if self.from_reference:
            lines.append(f"  {self.from_reference:,} of them have the expected answer as the chosen one")
        lines += [f"  {count:,} rows {WORDS[why]} gave none" for why, count in self.without.items() if count]
        lines += [
            f"  {count:,} answers not used: {UNUSED[why]}" for why, count in self.unused.items() if count
        ]
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def run(path: Path, out: Path | None, margin: float, reference: bool) -> PairsReport:
    """Write the pairs of a run as lines with id, prompt, chosen and rejected, to `out` (RUN/pairs.jsonl).

    margin: by how much the score of the best answer is above that of the worst. reference: where all answers
    are bad, the expected answer is the chosen one. Raises ConfigError where the run has answered nothing yet
    or a file is in the way; DataError where no row gives a pair, or answers are to rows that are neither
    training nor validation rows.
    """
    goal = out or path / "pairs.jsonl"
    if out is not None and goal.exists():
        raise ConfigError(f"{goal}: there is something already. --out FILE writes to another place.")
    rows, unused = _rows(path), Counter(dict.fromkeys(UNUSED, 0))
    heard = _heard(path, rows, unused)
    without, from_reference = Counter(dict.fromkeys(WORDS, 0)), 0
    lines: list[dict[str, Any]] = []
    for id, score_of in heard.items():
        ranked = sorted(score_of, key=lambda text, score_of=score_of: score_of[text])  # type: ignore[misc]
        bad, good = ranked[0], ranked[-1]
        best, worst, expected = score_of[good], score_of[bad], rows[id].target
        if reference and best < GOOD and expected and expected not in score_of:
            good, best, from_reference = expected, 1.0, from_reference + 1
        if good == bad or best - worst < margin:
            without["only_good" if worst >= GOOD else "only_bad" if best < GOOD else "close"] += 1
            continue
        lines.append({**_asked(rows[id]), "chosen": good, "rejected": bad})
    report = PairsReport(goal, len(heard), len(lines), from_reference, dict(without), dict(unused))
    if not lines:
        why = ", ".join(f"{count} {WORDS[why]}" for why, count in without.items() if count)
        raise DataError(
            f"{path}: of {len(heard)} answered rows none has a good and a bad answer ({why or 'no answer'}). "
            "A smaller --margin, or --reference for the expected answers, may help."
        )
    write_jsonl(goal, lines)
    return report


def _rows(path: Path) -> dict[str, Example]:
    folder = path / "data"
    lines = [line for side in ("train", "validation") for line in read_jsonl(folder / f"{side}.jsonl")]
    return {example.id: example for example in map(from_json, lines)}


def _heard(path: Path, rows: dict[str, Example], unused: Counter[str]) -> dict[str, dict[str, float]]:
    """Of each row its different answers with their scores, the latest last. `unused` counts the others."""
    heard: dict[str, dict[str, float]] = {}
    sources, task = list(_sources(path)), workspace.load_config(path)
    if not sources:
        raise ConfigError(f"{path}: nothing was answered yet. First: finetooth evaluate {path}")
    tokenizer = Tokenizer.load(model_directory(task.model, weights=False))
    renderer = Renderer(tokenizer, workspace.template(task, path), task.instruction)
    for file, line in [(source, line) for source in sources for line in read_jsonl(source)]:
        name = line.get("candidate", TUNED)
        if not (name in (TUNED, START) or is_prompting(name)):
            continue  # no language model wrote that
        if line["id"] not in rows:
            raise DataError(
                f"{file}: an answer to row {line['id']}, which is neither a training nor a validation row of "
                f"{path}. Pairs are made of no other, and never of the sealed test."
            )
        cut, usable = line["stop"] == "length", line["text"].strip() and renderer.can_answer(line["text"])
        if cut or not usable or line["score"] is None:
            unused["cut" if cut else "not_graded" if usable else "unusable"] += 1
            continue
        answers = heard.setdefault(line["id"], {})
        answers.pop(line["text"], None)
        answers[line["text"]] = line["score"]
    return heard


def _sources(path: Path) -> Iterator[Path]:
    """The files with answers that models wrote; where the grader is preference they only chose."""
    rollouts = path / "train" / "rollouts.jsonl"
    records = path / "evaluate" / "validation" / "records.jsonl"
    chose = graders.PREFERENCE in graders.specs(workspace.load_config(path).evaluate.grader)
    return (file for file in (rollouts, records) if file.is_file() and not (chose and file == records))


def _asked(example: Example) -> dict[str, Any]:
    """The columns that ask: text where that is all there is to it, else messages."""
    turns = [{"role": turn.role, "content": turn.content, **turn.more} for turn in example.context]
    plain = len(turns) == 1 and turns[0].keys() == {"role", "content"} and turns[0]["role"] == "user"
    group = {"group": example.tags["group"]} if "group" in example.tags else {}
    tools = {"tools": list(example.tools)} if example.tools else {}
    return {"id": example.id, "prompt": turns[0]["content"] if plain else turns, **tools, **group}
