"""What the run before has answered to the same test: those answers need not be written again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetooth.evaluation import graders, ledger
from finetooth.evaluation.candidates import Prediction
from finetooth.evaluation.summary import START, TUNED
from finetooth.rundir import read_json, read_jsonl
from finetooth.runs import workspace
from finetooth.runs.context import RunContext
from finetooth.types import Example


@dataclass
class RecordedCandidate:
    """A candidate whose answers were written before. lines: of records.jsonl, by the row's id."""

    lines: Mapping[str, Mapping[str, Any]]
    notes: list[str]
    name: str = field(default=START)

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        """The answer to each example, in order."""
        for index, example in enumerate(examples):
            line = self.lines[example.id]
            used = line["prompt_tokens"], line["completion_tokens"]
            yield Prediction(index, line["text"], *used, line["stop"])


def recorded(context: RunContext, digest_of: Callable[[RunContext], str]) -> RecordedCandidate | None:
    """The first run's answers to the sealed test, where they are what its model would answer again.

    That is where the sealed rows are the same bytes, both runs ask alike, and the look that its ledger holds
    is one with the weights that it has now. digest_of: the digest of such a look. None otherwise.
    """
    task, path = context.task, context.path
    if task.start is None:
        return None
    run = Path(task.start)
    first = RunContext.of_run(run, context.console)
    records, summary = (run / "evaluate" / "test" / name for name in ("records.jsonl", "summary.json"))
    if not records.is_file() or ledger.sealed_digest(run) != ledger.sealed_digest(path):
        return None
    if not _asks_alike(context, first):
        return None
    if ledger.stored_result(run, digest_of(first)) != read_json(summary):
        return None
    lines = {line["id"]: line for line in read_jsonl(records) if line["candidate"] == TUNED}
    return RecordedCandidate(lines, [f"the answers that {run} gave to this test"])


def _asks_alike(context: RunContext, first: RunContext) -> bool:
    """Whether the same model gives the same answers in both runs, all of which are known by their text."""
    task = context.task
    templates = [Path(workspace.template(one.task, one.path)) for one in (context, first)]
    texts = [each.read_text() if each.is_file() else str(each) for each in templates]
    asks = [
        (one.evaluate, one.instruction, one.model, one.data.overlong, one.data.max_tokens, text)
        for one, text in zip((task, first.task), texts, strict=True)
    ]
    known = not any(spec == graders.PERPLEXITY for spec in graders.specs(task.evaluate.grader))
    chance = task.evaluate.temperature or task.evaluate.limit
    labels = tuple(read_json(first.path / "data" / "split.json")["labels"]) == context.prepared.labels
    return known and labels and asks[0] == asks[1] and (not chance or task.seed == first.task.seed)
