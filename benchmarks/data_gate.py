"""What `finetooth check` costs on many rows: python benchmarks/data_gate.py --help.

The rows are made by a seeded generator: words of the shipped examples and made-up ones by Zipf's law (the
word of rank r as often as 1 / (r + 2.7)), stock phrases that many rows share, and known errors. `labels`:
texts with one of 20 labels; `qa`: questions with free answers. About 200 tokens a row of the embedded model.
A child process runs `finetooth check`; then another one times its stages and rules one by one, in seconds of
processors, which do not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent.parent / "src"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE)}
MADE_UP, PHRASES = 40_000, 3_000
LABELS, OWN_WORDS = 20, 300  # labels, and words that each of them prefers
LABEL_WORDS = 0.12  # of a text's words are the label's own
PHRASE = 0.2  # of the sentences are stock phrases
SENTENCES = {"labels": (3, 13), "qa": (3, 12)}  # least and most of a text
COPIES, NEAR, FLIPPED, MARKED = 0.01, 0.02, 0.03, 0.005  # shares of the rows with a known error
MARKS = (" Write to {}@{}.com.", " <br>&nbsp;{} {}", " CafÃ© {} {}")


class Writer:
    """Sentences from a seed. One writer gives the same rows each time."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        files = sorted(SOURCE.glob("finetooth/examples/*/*.jsonl"))
        lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
        texts = "\n".join(str(value) for line in lines for value in json.loads(line).values())
        counted = Counter(re.findall(r"(?<!\w)[a-z]{1,14}(?!\w)", texts.lower()))
        syllables = [a + b for a in "bcdfghklmnprstvw" for b in ("a", "e", "i", "o", "u", "an", "er", "is")]
        made = {"".join(self.draw.choices(syllables, k=self.draw.randint(2, 4))): 0 for _ in range(MADE_UP)}
        self.words = [word for word, _ in counted.most_common()] + [
            word for word in made if word not in counted
        ]
        self.weights = list(itertools.accumulate(1 / (rank + 3.7) for rank in range(len(self.words))))
        middle = self.words[200:10_000]
        self.own = {f"label {at + 1}": self.draw.sample(middle, OWN_WORDS) for at in range(LABELS)}
        self.phrases = [self._plain(self.draw.randint(4, 12)) for _ in range(PHRASES)]

    def _plain(self, count: int) -> list[str]:
        return self.draw.choices(self.words, cum_weights=self.weights, k=count)

    def text(self, kind: str, label: str = "") -> str:
        """Some sentences, about a label if one is named."""
        told = []
        for _ in range(self.draw.randint(*SENTENCES[kind])):
            if self.draw.random() < PHRASE:
                words = list(self.phrases[int(PHRASES * self.draw.random() ** 3)])
            else:
                words = self._plain(self.draw.randint(5, 20))
                if label:
                    words = [
                        self.draw.choice(self.own[label]) if self.draw.random() < LABEL_WORDS else word
                        for word in words
                    ]
            told.append(" ".join(words).capitalize() + self.draw.choice("..?!"))
        return " ".join(told)

    def edited(self, text: str) -> str:
        """The text with every tenth of its words replaced."""
        words = text.split()
        for at in self.draw.sample(range(len(words)), max(1, len(words) // 10)):
            words[at] = self.draw.choice(self.words)
        return " ".join(words)

    def rows(self, kind: str, count: int) -> Iterator[dict[str, str]]:
        """Rows of a kind, copies and near copies of earlier ones among them."""
        known: list[dict[str, str]] = []
        asked, answered = ("text", "label") if kind == "labels" else ("question", "answer")
        for _ in range(count):
            chance = self.draw.random()
            if known and chance < COPIES + NEAR:
                row = dict(self.draw.choice(known))
                row[asked] = row[asked] if chance < COPIES else self.edited(row[asked])
            else:
                row = self._row(kind)
                if self.draw.random() < MARKED:
                    row[asked] += self.draw.choice(MARKS).format(*self._plain(2))
            if kind == "labels" and self.draw.random() < FLIPPED:
                row[answered] = self.draw.choice(list(self.own))
            known += [row] if len(known) < 20_000 else []
            yield row

    def _row(self, kind: str) -> dict[str, str]:
        if kind == "labels":
            label = self.draw.choice(list(self.own))
            return {"text": self.text(kind, label), "label": label}
        question = self.text(kind)
        said = question.split(". ")[0] if self.draw.random() < 0.1 else self.text(kind)[:300]
        return {"question": question, "answer": said}


def measured(command: list[str], still: bool) -> tuple[int, float, float, float]:
    """Run a child: its exit status, seconds, seconds of processors, peak resident memory in GiB.

    still: what it prints is not shown.
    """
    start = time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawn(command[0], command, ENVIRONMENT, file_actions=quiet if still else [])
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    peak = usage.ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    return os.waitstatus_to_exitcode(status), seconds, usage.ru_utime + usage.ru_stime, peak


def by_rule(file: Path) -> list[tuple[str, float, int]]:
    """(stage or rule, seconds, findings' rows) of a check, in this process and in the order of `check`."""
    from rich.console import Console

    from finetooth.config.task import Task
    from finetooth.quality.findings import View
    from finetooth.quality.gate import RULES
    from finetooth.quality.prepare import assemble
    from finetooth.quality.review_queue import label_queue
    from finetooth.quality.similarity.near_duplicates import reuse_near_duplicates
    from finetooth.runs import check
    from finetooth.runs.context import RunContext

    times: list[tuple[str, float, int]] = []

    def timed(name: str, stage: Callable[[], Any], rows: Callable[[Any], int] = lambda made: 0) -> Any:
        start = time.process_time()
        made = stage()
        times.append((name, time.process_time() - start, rows(made)))
        return made

    task = Task.model_validate({"data": {"train": str(file)}})
    data = timed("read, clean and split", lambda: assemble(task), lambda made: made.total)
    context = RunContext(task, Path("runs/none"), Console(quiet=True))
    timed("tokens", lambda: check._survey(context, data, []), lambda made: made.rows)
    view = View(data.sides, data.format, task.data, task.seed, data.user_provided)
    if data.pairs is not None:
        reuse_near_duplicates(view, data.pairs)
    for rule in RULES:
        timed(rule.__name__, partial(list, rule(view)), lambda made: sum(len(one.hits) for one in made))
    timed("label queue", lambda: label_queue(view, 500), len)
    return times


def main() -> None:
    """Print the seconds and the peak memory of each kind of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, help="default %(default)s")
    parser.add_argument("--kind", choices=("labels", "qa"), help="only this one")
    parser.add_argument("--seed", type=int, default=0, help="of the rows, default %(default)s")
    parser.add_argument("--no-rules", action="store_true", help="only the whole check, no seconds per rule")
    parser.add_argument("--rules-of", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rules_of:
        for name, seconds, rows in by_rule(given.rules_of):
            print(f"  {name:<24} {seconds:8.1f} s  {rows:>9,} rows", flush=True)
        return
    for kind in (given.kind,) if given.kind else ("labels", "qa"):
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / f"{kind}.jsonl"
            with file.open("w", encoding="utf-8") as lines:
                for row in Writer(given.seed).rows(kind, given.rows):
                    lines.write(json.dumps(row) + "\n")
            python = sys.executable
            command = [python, "-m", "finetooth", "check", str(file), "--out", f"{directory}/out", "--quiet"]
            status, seconds, busy, peak = measured(command, still=True)
            print(
                f"{kind}, {given.rows:,} rows: {seconds:.0f} s ({busy:.0f} s of processors), peak memory "
                f"{peak:.2f} GiB, exit status {status}",
                flush=True,
            )
            if not given.no_rules:
                measured([python, __file__, "--rules-of", str(file)], still=False)


if __name__ == "__main__":
    main()
