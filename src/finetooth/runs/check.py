"""The data gate of a run: what is in the data, what would be trained on, and whether it may be.

Neither torch nor transformers is imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from finetooth.config.task import EMBEDDED, Task
from finetooth.config.values import source_name
from finetooth.data.hub import context_length, embedding_count
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
from finetooth.report import data_page
from finetooth.report.check_report import CheckReport
from finetooth.rundir import write_json, write_jsonl, write_text
from finetooth.runs import parent
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
    """Check the data of a task; with `out`, also write what `write` does there.

    progress: told how far the rules are. embed: see View. needs_grader: try the graders too. Raises DataError
    where there is nothing to report on (no such file, no rows, an unknown format), GradeError for a grader
    that cannot be used, ModelError for a model that is not there, ConfigError for a rule in data.allow that
    there is none of.
    """
    config = context.task
    require_known(config.data.allow)
    parent_run = parent.parent_run(config)
    data = assemble(config, parent_run)
    notes = list(data.notes)
    tokens = _survey(context, data, notes)
    view = View(data.sides, data.format, config.data, config.seed, data.user_provided, embed, progress)
    if data.pairs is not None:
        reuse_near_duplicates(view, data.pairs)
    found = [redacted(one) for one in data.findings if one.rule != "leak"]  # the rule finds the same and more
    found += [*(_graders(config, data) if needs_grader else ()), *inspect(view)]
    found += map(redacted, parent_run_leaks(view, parent_run)) if parent_run else ()
    if tokens:
        notes += tokens.notes
        found += token_findings(config.data, tokens)
    samples = tokens.samples if tokens else plain_samples(data.sides["train"])
    report = CheckReport(
        name=config.name,
        model=config.model,
        source=source_name(config.data.train),
        data=data,
        tokens=tokens,
        labels=redact_json(_labels(data)),
        findings=ordered(found),
        allowed=list(config.data.allow),
        notes=redact_json(notes),
        samples=[one.redacted() for one in samples],
        view=view,
    )
    return report if out is None else write(report, out)


def write(report: CheckReport, out: Path) -> CheckReport:
    """data/check.json, findings.jsonl, report.html and, before the split is written, rejected.jsonl."""
    report = replace(report, page=out / "data" / "report.html")
    write_json(out / "data" / "check.json", report.to_json())
    write_jsonl(out / "data" / "findings.jsonl", (finding.to_json() for finding in report.findings))
    write_text(out / "data" / "report.html", data_page.render(report))
    if not (out / "data" / "split.json").is_file():
        write_jsonl(out / "data" / "rejected.jsonl", (row.to_json() for row in report.data.rejected))
    return report


def run_gate(context: RunContext, needs_grader: bool) -> AssembledData | None:
    """The data of a new run behind the gate; None where it is written already. DataError for a block.

    needs_grader: whether the run will be evaluated; what is only trained needs no grader that works.
    """
    if (context.path / "data" / "split.json").is_file():
        return None
    with rule_bar(context.console) as progress:
        report = check(context, context.path, progress=progress, needs_grader=needs_grader)
    if report.ok:
        return report.data
    more = f"Every finding with its rows: {report.page}\nTo look closer: finetooth check TASK"
    raise DataError("\n".join([*report.problems, more]))


@contextmanager
def rule_bar(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar for the rules on a terminal; what it gives is told how far they are."""
    from rich.progress import Progress

    with Progress(console=console, transient=True, disable=not console.is_terminal or console.quiet) as bar:
        task = bar.add_task("looking at the data", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _graders(config: Task, data: AssembledData) -> Iterator[Finding]:
    """What `run` would refuse of the graders, and what is doubtful about them. GradeError."""
    if data.format in ("text", "unknown"):
        return  # trained on without being needs_grader
    kind = graders.grading_format(config.data.columns, data.format)
    refused, doubts = graders.validate_graders(config.evaluate.grader, kind, data.sides["train"], Path.cwd())
    for words in refused:
        yield redacted(Finding("grader", "block", f"evaluate.grader: {words}."))
    for words in doubts:
        yield redacted(Finding("grader", "review", f"evaluate.grader: {words}."))


def _survey(context: RunContext, data: AssembledData, notes: list[str]) -> Survey | None:
    """Token counts, or None with a note where there is no tokenizer or nothing to count."""
    if not data.sides["train"]:
        return None
    task = context.task
    try:
        tokenizer = context.tokenizer
    except ModelError as error:
        if task.model not in EMBEDDED:
            raise
        notes.append(f"No tokens counted: {error}")
        return None
    limit = row_limit(task.data.max_tokens, context_length(context.tokenizer_directory), tokenizer)
    return survey(context.renderer, data.sides, limit, embedding_count(context.tokenizer_directory))


def _labels(data: AssembledData) -> dict[str, dict[str, int]]:
    if data.format != "labels":
        return {}
    counts = {
        side: Counter(row.tags["label"] for row in rows if "label" in row.tags)
        for side, rows in data.sides.items()
    }
    everything: Counter[str] = sum(counts.values(), Counter())
    return {
        label: {side: counts[side][label] for side in counts}
        for label, _ in sorted(everything.items(), key=lambda item: (-item[1], item[0]))
    }
