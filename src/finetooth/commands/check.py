"""`finetooth check`: what is in the data, what would be trained on, and whether the gates let it through.

Neither torch nor transformers is imported, but for --embed.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from finetooth.config.task import Task
from finetooth.errors import ConfigError
from finetooth.quality.findings import Embed
from finetooth.quality.repair import fix as fixing
from finetooth.quality.review_queue import label_queue
from finetooth.report.check_report import CheckReport
from finetooth.rundir import write_jsonl
from finetooth.runs import parent, workspace
from finetooth.runs.check import check, rule_bar, write
from finetooth.runs.context import RunContext

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
    """`finetooth check`: the report, written to `out` (runs/NAME), with a bar while the rules look.

    fix: also write what Edits can mend (quality.fix) to data/fixed there. queue: also write so many rows to
    look at again to data/label_queue.jsonl. embed: load the task's model, which brings torch, and compare the
    sides by its vectors too. A run's own data/report.html is left alone: the report then goes to
    runs/NAME-check, and `out` must be another directory (ConfigError).
    """
    task, folder = parent.inherit_settings(task, console), workspace.run_path(task, out)
    if out is None and (folder / workspace.CONFIG).is_file():
        folder = folder.with_name(f"{folder.name}-check")
    if (folder / workspace.CONFIG).is_file():
        raise ConfigError(f"{folder} holds a run, with its own data/report.html. --out DIR writes elsewhere.")
    with rule_bar(console) as progress:
        context = RunContext(task, folder, console)
        report = write(
            check(context, progress=progress, embed=_embedder(task.model) if embed else None), folder
        )
    if fix:
        edits = [edit for finding in report.findings for edit in finding.edits]
        report = replace(report, fixed=fixing.fix(task.data, edits, folder / workspace.FIXED))
    if queue is not None:
        hits = label_queue(report.view, queue)
        write_jsonl(folder / "data" / "label_queue.jsonl", (asdict(hit) for hit in hits))
        report = replace(report, queue=len(hits))
    return report


def _embedder(model: str) -> Embed:
    from finetooth.runs.embeddings import embedder

    return embedder(model)
