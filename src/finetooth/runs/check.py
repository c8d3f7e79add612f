"""The data gate of a run: checks the data, writes the check report, and blocks training on bad data.

Imports neither torch nor transformers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from finetooth.config.method_keys import PREFERENCE_METHODS
from finetooth.config.task import EMBEDDED, Task
from finetooth.config.values import source_name
from finetooth.data.hub import context_length, embedding_count
from finetooth.data.read.locations import rejected_line
from finetooth.data.render.overlong import row_limit
from finetooth.errors import DataError, ModelError
from finetooth.evaluation import graders
from finetooth.privacy.masking import redact_json
from finetooth.quality.findings import Embed, Finding, View
from finetooth.quality.gate import inspect, ordered, redacted, require_known
from finetooth.quality.prepare import AssembledData, assemble
from finetooth.quality.rules.leaks import parent_run_leaks
from finetooth.quality.rules.lengths import token_findings
from finetooth.quality.similarity.near_duplicates import reuse_near_duplicates
from finetooth.quality.survey import Survey, plain_samples, survey
from finetooth.report.check_report import CheckReport
from finetooth.rundir import write_json, write_jsonl, write_text
from finetooth.runs import parent, workspace
from finetooth.runs.context import RunContext

if TYPE_CHECKING:
    from rich.console import Console


def check(
    context: RunContext,
    out: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    embed: Embed | None = None,
    needs_grader: bool = True,
) -> CheckReport:
    """Check the data of a task; with `out`, also write the report there.

    progress: called with (rules done, rules in all). embed: see View. needs_grader: try the graders too.
    Raises DataError where there is nothing to report on (no such file, no rows, an unknown format),
    GradeError for a grader that cannot be used, ModelError for a missing model, ConfigError for an unknown
    rule in data.allow.
    """
    task = context.task
    require_known(task.data.allow)
    parent_run = parent.parent_run(task)
    data = assemble(task, parent_run)
    notes = list(data.notes)
    tokens = _survey(context, data, notes)
    view = View(data.sides, data.format, task.data, task.seed, data.user_provided, embed, progress)
    if data.pairs is not None:
        reuse_near_duplicates(view, data.pairs)
    findings = [redacted(one) for one in data.findings if one.rule != "leak"]  # the rule finds these and more
    findings += [*(_grader_findings(task, data) if needs_grader else ()), *inspect(view)]
    notes += _grader_forms(task, data) if needs_grader else []
    if parent_run and parent_run.continued:
        findings += map(redacted, parent_run_leaks(view, parent_run))
    if tokens:
        notes += tokens.notes
        findings += token_findings(task.data, tokens)
    samples = tokens.samples if tokens else plain_samples(data.sides["train"])
    report = CheckReport(
        name=task.name,
        model=task.model,
        source=source_name(task.data.train),
        data=data,
        tokens=tokens,
        labels=redact_json(_labels(data)),
        findings=ordered(findings),
        allowed=list(task.data.allow),
        notes=redact_json(notes),
        samples=[one.redacted() for one in samples],
        view=view,
    )
    return report if out is None else write(report, out)


def write(report: CheckReport, out: Path) -> CheckReport:
    """Write data/check.json, findings.jsonl, report.html and, before the split exists, rejected.jsonl."""
    from finetooth.report import data_page  # here, as it brings scipy, which reading the data does not need

    report = replace(report, page=out / "data" / "report.html")
    with workspace.occupied(out):
        write_json(out / "data" / "check.json", report.to_json())
        write_jsonl(out / "data" / "findings.jsonl", (finding.to_json() for finding in report.findings))
        write_text(out / "data" / "report.html", data_page.render(report))
        if not (out / "data" / "split.json").is_file():
            write_jsonl(out / "data" / "rejected.jsonl", map(rejected_line, report.data.rejected))
    return report


def run_gate(context: RunContext, needs_grader: bool) -> AssembledData | None:
    """The data of a new run, once it passed the gate; None where the split exists. DataError for a block.

    needs_grader: the run will be evaluated, so its graders are tried too.
    """
    if (context.path / "data" / "split.json").is_file():
        return None
    with rule_bar(context.console) as progress:
        report = check(context, context.path, progress=progress, needs_grader=needs_grader)
    if report.ok:
        if listed := report.to_review:
            context.console.print(
                f"warning: the data gate has findings to review: {listed}. Their rows: {report.page}",
                style="yellow",
                markup=False,
                soft_wrap=True,
            )
        return report.data
    more = f"All findings with their rows: {report.page}\nFor the full report: finetooth check TASK"
    raise DataError("\n".join([*report.problems, more]))


@contextmanager
def rule_bar(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for the rules, on a terminal; yields the function that updates it."""
    from rich.progress import Progress

    with Progress(console=console, transient=True, disable=not console.is_terminal or console.quiet) as bar:
        task = bar.add_task("checking the data", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _grader_findings(task: Task, data: AssembledData) -> Iterator[Finding]:
    """A block for each grader that `run` would refuse, a review for each doubtful one.

    Raises GradeError.
    """
    if data.format in ("text", "unknown"):
        return  # trained on, but not graded
    evaluate, rows = task.evaluate, data.sides["train"]
    format = graders.grading_format(task.data.columns, data.format, rows)
    errors, warnings = graders.validate_graders(
        evaluate.grader, format, rows, Path.cwd(), evaluate.grader_seconds
    )
    for error in errors:
        yield redacted(Finding("grader", "block", f"evaluate.grader: {error}."))
    for warning in warnings:
        yield redacted(Finding("grader", "review", f"evaluate.grader: {warning}."))


def _grader_forms(task: Task, data: AssembledData) -> list[str]:
    """How the primary grader grades expected answers in other forms, in sentences."""
    if data.format in ("text", "unknown"):
        return []
    rows = data.sides["train"]
    spec = graders.settled(graders.specs(task.evaluate.grader)[0], rows)
    format = graders.grading_format(task.data.columns, data.format, rows)
    return graders.shown_forms(spec, format, rows, Path.cwd(), task.evaluate.grader_seconds)


def _survey(context: RunContext, data: AssembledData, notes: list[str]) -> Survey | None:
    """Token counts; None, with a note, without rows, or where the embedded model's tokenizer is missing."""
    if not data.sides["train"]:
        return None
    task = context.task
    try:
        tokenizer = context.tokenizer
    except ModelError as error:
        if task.model not in EMBEDDED:
            raise
        notes.append(f"Tokens were not counted: {error}")
        return None
    limit = row_limit(task.data.max_tokens, context_length(context.tokenizer_directory), tokenizer)
    pairs = data.format == "preference" and task.train.method in PREFERENCE_METHODS
    return survey(context.renderer, data.sides, limit, embedding_count(context.tokenizer_directory), pairs)


def _labels(data: AssembledData) -> dict[str, dict[str, int]]:
    """Label -> rows per side, the most frequent label first; {} for rows without labels."""
    if data.format != "labels":
        return {}
    counts = {
        side: Counter(row.tags["label"] for row in rows if "label" in row.tags)
        for side, rows in data.sides.items()
    }
    total: Counter[str] = sum(counts.values(), Counter())
    return {
        label: {side: counts[side][label] for side in counts}
        for label, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))
    }
