"""`finetooth check`: what is in the data, what would be trained on, and whether the gates let it through.

Neither torch nor transformers is imported, but for --embed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetooth.config.task import EMBEDDED, Task
from finetooth.config.values import source_name
from finetooth.data.hub import context_length, model_directory
from finetooth.data.render.overlong import row_limit
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import ConfigError, DataError, ModelError
from finetooth.evaluation import graders
from finetooth.privacy.masking import veiled
from finetooth.quality.findings import Embed, Finding, View, stopping
from finetooth.quality.gate import hidden, inspect, ordered, require_known
from finetooth.quality.prepare import Assembled, assemble
from finetooth.quality.repair import fix as fixing
from finetooth.quality.repair.fix import Fixed
from finetooth.quality.review_queue import label_queue
from finetooth.quality.rules.leaks import NOT_CHECKED
from finetooth.quality.rules.lengths import in_tokens
from finetooth.quality.rules.parent_leaks import former_leaks
from finetooth.quality.similarity.near_duplicates import known
from finetooth.quality.survey import Sample, Survey, embedded_tokens, plain_samples, survey
from finetooth.rundir import write_json, write_jsonl, write_text
from finetooth.runs import parent, workspace

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` found. findings: worst first; allowed: rules whose blocks do not stop (data.allow);
    labels: label -> rows per side. page: where the report was written, if it was; queue: how many rows
    --label-queue wrote, fixed: what --fix wrote, None where it was not asked for.
    """

    name: str
    model: str
    source: str
    data: Assembled
    tokens: Survey | None
    labels: dict[str, dict[str, int]]
    findings: list[Finding]
    allowed: list[str]
    notes: list[str]
    samples: list[Sample]
    view: View
    page: Path | None = None
    fixed: list[Fixed] | None = None
    queue: int | None = None

    @property
    def problems(self) -> list[str]:
        """What a gate says no to, each a complete message that begins with its rule, as --allow names it."""
        return [f"{finding.rule}: {finding.message()}" for finding in stopping(self.findings, self.allowed)]

    @property
    def ok(self) -> bool:
        """Whether the data is fit to train on."""
        return not stopping(self.findings, self.allowed)

    @property
    def overruled(self) -> list[str]:
        """Rules that found what blocks and were allowed."""
        stops = stopping(self.findings, self.allowed)
        blocks = [one.rule for one in self.findings if one.severity == "block" and one not in stops]
        return list(dict.fromkeys(blocks))

    @property
    def not_checked(self) -> list[str]:
        """What this check left out, in sentences."""
        paraphrase = [NOT_CHECKED] if self.view.embed is None else []
        return paraphrase + ([] if self.tokens else ["Lengths were not counted: no tokenizer was at hand."])

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values; the rows of the findings are in findings.jsonl."""
        return {
            "ok": self.ok,
            "source": self.source,
            "format": self.data.format,
            "rows": self.data.total,
            "sides": {side: len(rows) for side, rows in self.data.sides.items()},
            "rejected": [row.to_json() for row in self.data.rejected],
            "labels": self.labels,
            "tokens": _counts(self.tokens) if self.tokens else None,
            "cleaned": [step.to_json() for step in self.data.cleaned],
            "samples": [sample.to_json() for sample in self.samples],
            "findings": [_summary(finding) for finding in self.findings],
            "allowed": self.overruled,
            "not_checked": self.not_checked,
            "problems": self.problems,
            "notes": self.notes,
            "report": None if self.page is None else str(self.page),
            "fixed": [str(one.fixed) for one in self.fixed or []],
            "label_queue": self.queue,
        }

    def print(self, console: Console) -> None:
        """Show the report to a person."""
        from finetooth.report.check_terminal import show

        show(self, console)


def run(
    config: Task,
    out: Path | None = None,
    tokenizer_dir: Path | None = None,
    step: Callable[[int, int], None] = lambda done, total: None,
    embed: Embed | None = None,
    graded: bool = True,
) -> CheckReport:
    """Check the data of a task; with `out`, also write what `write` does there.

    tokenizer_dir: where the tokenizer is, when not with the task's model. step: told how far the rules are.
    embed: see View. graded: try the graders too. Raises DataError where there is nothing to report on (no
    such file, no rows, an unknown format), GradeError for a grader that cannot be used, ModelError for a
    model that is not there, ConfigError for a rule in data.allow that there is none of.
    """
    require_known(config.data.allow)
    former = parent.former(config)
    data = assemble(config, former)
    notes = list(data.notes)
    tokens = _survey(config, data, tokenizer_dir, notes)
    view = View(data.sides, data.format, config.data, config.seed, data.brought, embed, step)
    if data.pairs is not None:
        known(view, data.pairs)
    found = [hidden(one) for one in data.findings if one.rule != "leak"]  # the rule finds the same and more
    found += [*(_graders(config, data) if graded else ()), *inspect(view)]
    found += map(hidden, former_leaks(view, former)) if former else ()
    if tokens:
        notes += tokens.notes
        found += in_tokens(config.data, tokens)
    samples = tokens.samples if tokens else plain_samples(data.sides["train"])
    report = CheckReport(
        name=config.name,
        model=config.model,
        source=source_name(config.data.train),
        data=data,
        tokens=tokens,
        labels=veiled(_labels(data)),
        findings=ordered(found),
        allowed=list(config.data.allow),
        notes=veiled(notes),
        samples=[one.hidden() for one in samples],
        view=view,
    )
    return report if out is None else write(report, out)


def write(report: CheckReport, out: Path) -> CheckReport:
    """data/check.json, findings.jsonl, report.html and, before the split is written, rejected.jsonl."""
    from finetooth.report import data_page

    report = replace(report, page=out / "data" / "report.html")
    write_json(out / "data" / "check.json", report.to_json())
    write_jsonl(out / "data" / "findings.jsonl", (finding.to_json() for finding in report.findings))
    write_text(out / "data" / "report.html", data_page.render(report))
    if not (out / "data" / "split.json").is_file():
        write_jsonl(out / "data" / "rejected.jsonl", (row.to_json() for row in report.data.rejected))
    return report


def run_and_write(
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
    task, folder = parent.followed(task, console), workspace.run_path(task, out)
    if out is None and (folder / workspace.CONFIG).is_file():
        folder = folder.with_name(f"{folder.name}-check")
    if (folder / workspace.CONFIG).is_file():
        raise ConfigError(f"{folder} holds a run, with its own data/report.html. --out DIR writes elsewhere.")
    with rule_bar(console) as step:
        report = write(run(task, step=step, embed=_embedder(task.model) if embed else None), folder)
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


def passed(task: Task, path: Path, console: Console, graded: bool) -> Assembled | None:
    """The data of a new run behind the gate; None where it is written already. DataError for a block.

    graded: whether the run will be evaluated; what is only trained needs no grader that works.
    """
    if (path / "data" / "split.json").is_file():
        return None
    with rule_bar(console) as step:
        report = run(task, path, step=step, graded=graded)
    if report.ok:
        return report.data
    more = f"Every finding with its rows: {report.page}\nTo look closer: finetooth check TASK"
    raise DataError("\n".join([*report.problems, more]))


def _summary(finding: Finding) -> dict[str, Any]:
    line = finding.to_json()
    return {key: line[key] for key in ("rule", "severity", "says", "fix", "facts")} | {
        "rows": len(finding.hits)
    }


@contextmanager
def rule_bar(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar for the rules on a terminal; what it gives is told how far they are."""
    from rich.progress import Progress

    with Progress(console=console, transient=True, disable=not console.is_terminal or console.quiet) as bar:
        task = bar.add_task("looking at the data", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _graders(config: Task, data: Assembled) -> Iterator[Finding]:
    """What `run` would refuse of the graders, and what is doubtful about them. GradeError."""
    if data.format in ("text", "unknown"):
        return  # trained on without being graded
    kind = graders.kind(config.data.columns, data.format)
    refused, doubts = graders.try_out(config.evaluate.grader, kind, data.sides["train"], Path.cwd())
    for words in refused:
        yield hidden(Finding("grader", "block", f"evaluate.grader: {words}."))
    for words in doubts:
        yield hidden(Finding("grader", "review", f"evaluate.grader: {words}."))


def _survey(config: Task, data: Assembled, tokenizer_dir: Path | None, notes: list[str]) -> Survey | None:
    """Token counts, or None with a note where there is no tokenizer or nothing to count."""
    if not data.sides["train"]:
        return None
    try:
        directory = tokenizer_dir or _directory(config.model)
    except ModelError as error:
        if config.model not in EMBEDDED:
            raise
        notes.append(f"No tokens counted: {error}")
        return None
    tokenizer = Tokenizer.load(directory)
    limit = row_limit(config.data.max_tokens, context_length(directory), tokenizer)
    renderer = Renderer(tokenizer, config.template, config.instruction)
    return survey(renderer, data.sides, limit, embedded_tokens(directory))


def _counts(tokens: Survey) -> dict[str, Any]:
    """The survey without its samples, which the report has itself."""
    return {name: value for name, value in asdict(replace(tokens, samples=[])).items() if name != "samples"}


def _directory(name: str) -> Path:
    """An adapter's directory brings the tokenizer along; else the model's own."""
    path = Path(name)
    adapter = name not in EMBEDDED and (path / "adapter_config.json").is_file()
    return path if adapter else model_directory(name, weights=False)


def _labels(data: Assembled) -> dict[str, dict[str, int]]:
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
