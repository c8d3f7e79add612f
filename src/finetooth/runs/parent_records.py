"""Recorded answers of the parent run to the same sealed test, which need not be generated again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetooth.evaluation import graders, ledger
from finetooth.evaluation.candidates import Prediction
from finetooth.evaluation.summary import START, TUNED
from finetooth.model.api import Model
from finetooth.rundir import read_json, read_jsonl
from finetooth.runs import workspace
from finetooth.runs.context import RunContext
from finetooth.runs.inputs import is_in_its_place
from finetooth.types import Example


@dataclass
class RecordedCandidate:
    """A candidate whose answers are on record. lines: of records.jsonl, by the row's id."""

    lines: Mapping[str, Mapping[str, Any]]
    notes: list[str]
    name: str = field(default=START)

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        """The answer to each example, in order."""
        for index, example in enumerate(examples):
            line = self.lines[example.id]
            used = line["prompt_tokens"], line["completion_tokens"]
            yield Prediction(index, line["text"], *used, line["stop"], written="lenient" in line)


def recorded(context: RunContext, digest_of: Callable[[RunContext, Model], str]) -> RecordedCandidate | None:
    """The parent run's answers to the sealed test, where its model would give the same answers again.

    That needs the same sealed file, the same prompts and sampling in both runs, and a look in the parent's
    ledger with the weights that it has now. digest_of: the digest of such a look, from
    a run and its tuned model. None otherwise.
    """
    task, path = context.task, context.path
    if task.start is None:
        return None
    run = Path(task.start)
    theirs = RunContext.of_run(run, context.console)
    records, summary = (run / "evaluate" / "test" / name for name in ("records.jsonl", "summary.json"))
    if not records.is_file() or ledger.sealed_digest(run) != ledger.sealed_digest(path):
        return None
    if ledger.require_unchanged(run, "test") or not is_in_its_place(run):
        return None  # perhaps edited, or with a grader that may not be imported
    templates = [Path(workspace.template(one.task, one.path)) for one in (context, theirs)]
    texts = [file.read_text(encoding="utf-8") if file.is_file() else str(file) for file in templates]
    ours, parents = (
        (one.evaluate, one.instruction, one.model, one.data.overlong, one.data.max_tokens, text)
        for one, text in zip((task, theirs.task), texts, strict=True)
    )
    labels = tuple(read_json(run / "data" / "split.json")["labels"])
    random = task.evaluate.temperature or task.evaluate.limit
    if (
        ours != parents
        or labels != context.prepared.labels
        or (random and task.seed != theirs.task.seed)
        or graders.PERPLEXITY in graders.specs(task.evaluate.grader)  # a record has no likelihoods
        or ledger.stored_result(run, digest_of(theirs, context.parent_model())) != read_json(summary)
    ):
        return None
    lines = {line["id"]: line for line in read_jsonl(records) if line["candidate"] == TUNED}
    return RecordedCandidate(lines, [f"answers recorded by {run} on the same test"])
