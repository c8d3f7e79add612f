"""A run that is made of another one: the same rows, base and settings, with other weights.

Its prompts give the answers that they gave in the other run, so these are taken from the records there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from finetooth.config.task import Task
from finetooth.errors import FinetoothError
from finetooth.evaluation import graders, ledger
from finetooth.evaluation.summary import FREE, TUNED, TUNED_PROMPT
from finetooth.report.settings import read_config
from finetooth.rundir import read_json, read_jsonl, write_bytes, write_json
from finetooth.runs import inputs, workspace
from finetooth.runs.context import RunContext
from finetooth.runs.parent_records import RecordedCandidate
from finetooth.types import Example

# Of the other run's directory: its rows, what the data gate said of them, its template and its best prompt.
ROWS = (
    *("data/train.jsonl", "data/validation.jsonl", "data/split.json", "data/rejected.jsonl"),
    *("data/check.json", "data/findings.jsonl", "data/report.html", "template.jinja"),
    *("baseline/prompt.yaml", "baseline/baseline.json"),
)
NOT_RECORDED = (graders.PERPLEXITY, graders.PREFERENCE)  # graders of likelihoods, which no record has
OWN = (TUNED, TUNED_PROMPT, FREE)  # candidates with the run's own weights


def copy_run(
    source: RunContext, out: Path, task: Task, reasons: Mapping[str, str], more: Iterable[str] = ()
) -> None:
    """Write the directory of a run of `task` with the other's rows; config.yaml is last.

    Looks of the other run at the sealed rows count in this one. reasons: of settings that differ, by key.
    more: further files to copy.
    """
    for name in (*ROWS, *more):
        if (source.path / name).is_file():
            write_bytes(out / name, (source.path / name).read_bytes())
    if ledger.sealed_count(source.path) is not None:
        ledger.seal_copy(out, source.path, time.time)
    environment = inputs.moved(source.path, out) | {"origin": str(source.path.resolve())}
    write_json(out / "environment.json", environment)
    _, known = read_config(source.path / workspace.CONFIG)
    workspace.save_config(out, task, {**known, **reasons})


def recorded(context: RunContext, rows: Iterable[Example]) -> list[RecordedCandidate]:
    """The answers of prompts and simple baselines to validation rows, from the run that this one is made of.

    Empty where there is none, or its records do not hold for these rows and settings.
    """
    file = context.path / "environment.json"
    origin = read_json(file).get("origin") if file.is_file() else None
    if origin is None:
        return []
    run, ids = Path(origin), {row.id for row in rows}
    records = run / "evaluate" / "validation" / "records.jsonl"
    try:
        if not records.is_file() or ledger.require_unchanged(run, "validation"):
            return []
        theirs = workspace.load_config(run)
    except FinetoothError:
        return []
    names = [
        one if isinstance(one, str) else one.get("name") for one in graders.specs(theirs.evaluate.grader)
    ]
    changed = theirs.evaluate != context.task.evaluate or theirs.evaluate.prompt is not None  # a file
    if changed or set(names) & set(NOT_RECORDED):
        return []
    lines: dict[str, dict[str, dict[str, object]]] = {}
    for line in read_jsonl(records):
        if line["candidate"] not in OWN:
            lines.setdefault(line["candidate"], {})[line["id"]] = line
    if any(ids - by_id.keys() for by_id in lines.values()):
        return []
    notes = {
        one["name"]: one.get("notes", [])
        for one in read_json(records.with_name("summary.json"))["candidates"]
    }
    return [RecordedCandidate(by_id, [*notes.get(name, [])], name) for name, by_id in lines.items()]
