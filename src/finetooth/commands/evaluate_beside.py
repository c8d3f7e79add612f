"""An evaluation beside a run's own, in evaluate/NAME: `evaluate RUN` with --grader, --test or --prompt.

Answers on record are graded again where they suffice; otherwise the run's candidates are asked again, as the
run asks them. Earlier results stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.commands.evaluate import (
    EvaluateReport,
    evaluate_rows,
    prompting_candidates,
    require_evaluable,
    run_candidates,
    sample_rows,
)
from finetooth.config import cleaning
from finetooth.config.load import load_task
from finetooth.config.values import format_count, safe_name
from finetooth.data.examples import normalised_context, to_json
from finetooth.data.read.locations import rejected_location
from finetooth.errors import ConfigError, DataError
from finetooth.evaluation import graders, ledger
from finetooth.evaluation.candidates import Candidate, SupportsLikelihood
from finetooth.evaluation.looks import Look
from finetooth.evaluation.prompting.spec import PromptSpec, read_spec
from finetooth.evaluation.prompts import FROM_FILE
from finetooth.evaluation.summary import START, TUNED
from finetooth.quality.prepare import read_rows
from finetooth.quality.similarity.clusters import with_clusters
from finetooth.report.answers import ROWS
from finetooth.rundir import jsonl_bytes, read_json, read_jsonl, sha256_file
from finetooth.runs import inputs, parent, workspace
from finetooth.runs.asking import primary_grader
from finetooth.runs.context import RunContext
from finetooth.runs.parent_records import RecordedCandidate
from finetooth.runs.result_digest import result_digest
from finetooth.types import Example

NOT_RECORDED = (graders.PERPLEXITY, graders.PREFERENCE)  # graders of likelihoods, which no record has
ON_RECORD = "answers on record, graded again"


@dataclass(frozen=True, slots=True)
class Request:
    """What differs from the run's own evaluation; None: nothing.

    grader: as evaluate.grader. test: a file with new rows. prompt: a file, see spec.read_spec. sealed:
    the sealed test in place of the validation rows. name: of the folder in evaluate/.
    """

    grader: Any = None
    test: Path | None = None
    prompt: Path | None = None
    sealed: bool = False
    name: str | None = None

    def folder(self) -> str:
        """The name that was given, else one of its parts: test-rouge, new-rows-shorter-prompt."""
        given = self.name
        if given is None:
            names = [str(one if isinstance(one, str) else one.get("name", one.get("type", "grader")))
                     for one in (graders.specs(self.grader) if self.grader is not None else ())]  # fmt: skip
            files = [file.stem for file in (self.test, self.prompt) if file is not None]
            short = [name.rpartition(":")[2] for name in names]
            given = safe_name("-".join([*(["test"] if self.sealed else []), *short, *files]))
        if given in ("validation", "test") or given != safe_name(given):
            raise ConfigError(f"--name {given}: not a name for a folder in evaluate/. Try: --name again")
        return given


def run(path: Path, request: Request, console: Console, trust_code: bool = False) -> EvaluateReport:
    """Evaluate a run once more, and write evaluate/NAME. Raises FinetoothError.

    A look at the sealed test is spent where `sealed` opens it for answers, prompts or graders that were not
    on record before.
    """
    if request.test is not None and request.sealed:
        raise ConfigError("--test brings rows of its own, and --sealed opens the run's. Leave one out.")
    if request.grader is None:
        inputs.require_trusted(path, "evaluate", trust_code)
    context = RunContext.of_run(path, console)
    require_evaluable(context)
    folder = request.folder()
    if (path / "evaluate" / folder / "summary.json").is_file():
        raise ConfigError(
            f"{path / 'evaluate' / folder} has an evaluation, which is never replaced. To see it: finetooth "
            f"report {path} --evaluation {folder}. For another one beside it: --name NAME"
        )
    with workspace.occupied(path):
        return _run(context, request, folder)


def _run(context: RunContext, request: Request, folder: str) -> EvaluateReport:
    path, task, console = context.path, context.task, context.console
    grader = task.evaluate.grader
    if request.grader is not None:
        grader = load_task(task, {"evaluate.grader": request.grader}).evaluate.grader
    split = "test" if request.sealed else "validation"
    names = [one if isinstance(one, str) else one.get("name") for one in graders.specs(grader)]
    own = primary_grader(context)
    on_record = path / "evaluate" / split / "records.jsonl"
    suffice = request.test is None and not {own, *names} & set(NOT_RECORDED) and on_record.is_file()
    if suffice:
        ledger.require_unchanged(path, split)
    extra = None if request.prompt is None else read_spec(request.prompt)
    look = None
    if request.test is not None:
        rows = new_rows(context, request.test)
    elif request.sealed:
        rows, look = _sealed_rows(context, request, grader, on_record if suffice else None)
    else:
        rows = context.prepared.validation
    rows = sample_rows(rows, task)
    if suffice:
        candidates = _recorded(context, on_record, own, extra)
    else:
        candidates = run_candidates(context, own, split if request.test is None else "new", extra)
    if names[0] == graders.PERPLEXITY:
        candidates = (one for one in candidates if isinstance(one, SupportsLikelihood))
    shown = request.test.name if request.test is not None else split
    result = evaluate_rows(context, rows, shown, look, grader, candidates)
    files = result.files()
    if request.test is not None:  # for its page; the run's own rows are in data/
        files = {ROWS: jsonl_bytes(map(to_json, rows)), **files}
    ledger.store_files(path, folder, files, time.time)
    if look is None:
        console.print("The sealed test stays closed: no look at it is spent.")
    return EvaluateReport(path, {**result.summary, "evaluation": folder})


def _recorded(
    context: RunContext, records: Path, grader: str, extra: PromptSpec | None
) -> Iterator[Candidate]:
    """The candidates of an evaluation with the answers that they gave; the extra prompt is asked."""
    summary = read_json(records.with_name("summary.json"))
    replaced = extra is not None
    lines: dict[str, dict[str, Any]] = {}
    for line in read_jsonl(records):
        lines.setdefault(line["candidate"], {})[line["id"]] = line
    for entry in summary["candidates"]:
        if extra is not None and entry["name"] in (START, TUNED):
            yield from prompting_candidates(context, grader, extra, shots=())
            extra = None
        if entry["name"] == FROM_FILE and replaced:
            continue
        yield RecordedCandidate(lines[entry["name"]], [*entry.get("notes", ()), ON_RECORD], entry["name"])


def _sealed_rows(
    context: RunContext, request: Request, grader: Any, records: Path | None
) -> tuple[list[Example], Look | None]:
    """The rows of the sealed test and this look, which is put on record first.

    The same request on the same answers is the same look.
    """
    path = context.path
    answers = result_digest(context, context.tuned()) if records is None else sha256_file(records)
    prompt = None if request.prompt is None else sha256_file(request.prompt)
    code = [graders.grader_digest(spec, Path.cwd()) for spec in graders.specs(grader)]
    parts = json.dumps([answers, grader, code, prompt], sort_keys=True)
    digest = hashlib.sha256(parts.encode()).hexdigest()
    known = ledger.look_number(path, digest)
    look = ledger.take_look(path, digest, time.time, context.task.evaluate.looks)
    assert look is not None
    rows = ledger.read_sealed(path)
    asked = [*(["asked again"] if records is None else []), *(["asked with a new prompt"] if prompt else [])]
    spent = "This is a look at it already on record" if known else f"This spends look {look.number} at it"
    how = " and ".join([*asked, "graded anew"])
    context.console.print(f"The sealed test is opened: its rows are {how}. {spent} (ledger.jsonl).")
    return rows, look


def new_rows(context: RunContext, file: Path) -> list[Example]:
    """The rows of a file that are new to the run, read as its data is.

    Rows whose prompt the run has on any side are left out and counted: trained on, they prove nothing, and
    sealed ones are opened by --sealed alone. Near copies are tagged as in the split: as evidence they are one
    row. DataError where none is left.
    """
    task, path, console = context.task, context.path, context.console
    kept = [one for one in task.data.clean if cleaning.operations([one])[0].name not in ("dedupe", "balance")]
    own = {"train": str(file), "validation": 0.0, "test": 0.0, "split_from": None, "add": [], "clean": kept}
    data = task.data.model_copy(update={**own, "format": context.prepared.format})
    found = read_rows(task.model_copy(update={"data": data}))
    rows = found.cleaned["train"].examples
    if rejected := [row for table in found.tables["train"] for row in table.rejected]:
        first = f"{rejected_location(rejected[0].redacted())}: {rejected[0].redacted().reason}"
        console.print(
            f"{file}: {format_count(len(rejected), 'row')} cannot be read and are left out; {first}"
        )
    home = sides_of_prompts(context)
    known = Counter(home[key] for row in rows if (key := normalised_context(row)) in home)
    new = [row for row in rows if normalised_context(row) not in home]
    counts = ", ".join(f"{count} of the {side} rows" for side, count in known.items())
    if not new:
        raise DataError(f"{file}: no row is new to {path}: it has {counts or 'no rows'}.")
    if known:
        console.print(
            f"{file}: {known.total()} of {format_count(len(rows), 'row')} are left out, since the run has "
            f"them: {counts}.",
            style="yellow",
        )
    return with_clusters(new, {})


def sides_of_prompts(context: RunContext) -> dict[str, str]:
    """The side of every normalised prompt of the run and its parents; sealed ones are only matched."""
    path = context.path
    sides: dict[str, Sequence[Example]] = {
        "sealed test": ledger.read_sealed(path) if ledger.sealed_count(path) else [],
        "validation": context.prepared.validation,
        "training": context.prepared.train,
    }
    if earlier := parent.parent_run(context.task):
        sides["training"] = [*sides["training"], *earlier.rows("train"), *earlier.rows("validation")]
    return {normalised_context(row): side for side, examples in sides.items() for row in examples}
