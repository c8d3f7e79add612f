"""`finetooth check`: what is in the data, what would be trained on, and whether the data gate passes.

Imports neither torch nor transformers, except for --embed.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from finetooth.config.task import Task
from finetooth.errors import ConfigError
from finetooth.quality.repair import fix as fixing
from finetooth.quality.review_queue import label_queue
from finetooth.report.check_report import CheckReport
from finetooth.rundir import write_jsonl
from finetooth.runs import elsewhere, parent, workspace
from finetooth.runs.check import check, rule_bar, write
from finetooth.runs.context import RunContext, model_lines

if TYPE_CHECKING:
    from rich.console import Console


def run(
    task: Task,
    out: Path | None,
    console: Console,
    fix: bool = False,
    queue: int | None = None,
    embed: bool = False,
) -> CheckReport:
    """The report, written to `out` (default runs/NAME), with a progress bar for the rules.

    fix: also write files with all safe fixes to data/fixed there. queue: also write so many rows with
    suspicious labels to data/label_queue.jsonl. embed: load the task's model, and with it torch, to look for
    paraphrase leakage with its embeddings. The report of an existing run is kept: the new one goes to
    runs/NAME-check, and an `out` that is a run raises ConfigError.
    """
    task = elsewhere.with_tuned(parent.inherit_settings(task, console))
    folder = workspace.run_path(task, out)
    if out is None and (folder / workspace.CONFIG).is_file():
        folder = folder.with_name(f"{folder.name}-check")
    if (folder / workspace.CONFIG).is_file():
        workspace.require_ours(folder)
        raise ConfigError(f"{folder} is a run, with its own data/report.html. Choose another --out.")
    embedding = None
    if embed:
        from finetooth.runs.embeddings import embedder

        embedding = embedder(task.model, model_lines(console))
    with workspace.occupied(folder):
        with rule_bar(console) as progress:
            context = RunContext(task, folder, console)
            report = write(check(context, progress=progress, embed=embedding), folder)
        if fix:
            edits = [edit for finding in report.findings for edit in finding.edits]
            report = replace(report, fixed=fixing.fix(task.data, edits, folder / workspace.FIXED))
        if queue is not None:
            hits = label_queue(report.view, queue)
            write_jsonl(folder / "data" / "label_queue.jsonl", (asdict(hit) for hit in hits))
            report = replace(report, queue=len(hits))
    return report
