"""The report of `check`: as JSON, and on a terminal, where tables come first and the verdict last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetooth.config.values import format_count
from finetooth.data.read.locations import rejected_line, rejected_location
from finetooth.quality.findings import Finding, View, blocking_findings
from finetooth.quality.prepare import AssembledData
from finetooth.quality.repair.fix import FixedFile
from finetooth.quality.rules.leaks import NOT_CHECKED
from finetooth.quality.survey import Sample, Survey
from finetooth.report.row_text import VISIBLE, row_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

SHOWN_LABELS = 20
SHOWN_ROWS = 5
SHOWN_HITS = {"block": 5, "review": 2, "info": 0}  # rows shown per finding; the page has more
COLOURS = {"block": "bold red", "review": "yellow", "info": "dim"}


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of `check`. findings: most severe first. allowed: rules whose blocks are overridden
    (data.allow). labels: label -> rows per side. page: the HTML report, None where none was written. queue:
    number of rows that --label-queue wrote, fixed: files that --fix wrote; None without the flag.
    """

    name: str
    model: str
    source: str
    data: AssembledData
    tokens: Survey | None
    labels: dict[str, dict[str, int]]
    findings: list[Finding]
    allowed: list[str]
    notes: list[str]
    samples: list[Sample]
    view: View
    page: Path | None = None
    fixed: list[FixedFile] | None = None
    queue: int | None = None

    @property
    def problems(self) -> list[str]:
        """The blocking findings, each a complete message that begins with its rule, as --allow names it."""
        return [
            f"{finding.rule}: {finding.message()}"
            for finding in blocking_findings(self.findings, self.allowed)
        ]

    @property
    def to_review(self) -> str:
        """The rules with findings for a person to look at, with their numbers of rows; "" without any."""
        rows: dict[str, int] = {}
        for finding in self.findings:
            if finding.severity == "review":
                rows[finding.rule] = rows.get(finding.rule, 0) + len(finding.hits)
        return ", ".join(
            f"{rule} ({format_count(count, 'row')})" if count else rule for rule, count in rows.items()
        )

    @property
    def ok(self) -> bool:
        """Whether nothing blocks training on the data."""
        return not blocking_findings(self.findings, self.allowed)

    @property
    def overridden_rules(self) -> list[str]:
        """Rules whose blocking findings were overridden."""
        stops = blocking_findings(self.findings, self.allowed)
        blocks = [one.rule for one in self.findings if one.severity == "block" and one not in stops]
        return list(dict.fromkeys(blocks))

    @property
    def not_checked(self) -> list[str]:
        """What this check did not cover, in sentences."""
        paraphrases = [NOT_CHECKED] if self.view.embed is None else []
        why = "no tokenizer was available" if self.data.sides["train"] else "no row was left"
        return paraphrases + ([] if self.tokens else [f"Token lengths were not checked: {why}."])

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values; the rows of the findings are in findings.jsonl."""
        return {
            "ok": self.ok,
            "source": self.source,
            "format": self.data.format,
            "rows": self.data.total,
            "sides": {side: len(rows) for side, rows in self.data.sides.items()},
            "rejected": list(map(rejected_line, self.data.rejected)),
            "labels": self.labels,
            "tokens": self._token_counts(),
            "cleaned": [step.to_json() for step in self.data.cleaned],
            "samples": [sample.to_json() for sample in self.samples],
            "findings": [
                {key: line[key] for key in ("rule", "severity", "says", "fix", "facts")}
                | {"rows": len(line["rows"])}
                for line in (finding.to_json() for finding in self.findings)
            ],
            "allowed": self.overridden_rules,
            "not_checked": self.not_checked,
            "problems": self.problems,
            "notes": self.notes,
            "report": None if self.page is None else str(self.page),
            "fixed": [str(one.fixed) for one in self.fixed or []],
            "label_queue": self.queue,
        }

    def _token_counts(self) -> dict[str, Any] | None:
        """The survey without its samples, which stand beside it."""
        if self.tokens is None:
            return None
        return {
            key: value for key, value in asdict(replace(self.tokens, samples=[])).items() if key != "samples"
        }

    def print(self, console: Console) -> None:
        """Show the report on a terminal."""
        title = f"{self.source}: {format_count(self.data.total, 'row')}, format {self.data.format}"
        console.print(_text(title, style="bold"))
        parts: list[RenderableType] = [_sides_table(self)]
        if self.tokens:
            parts.append(_tokens_table(self.tokens))
        if self.labels:
            parts.append(_labels_table(self.labels))
        if self.data.cleaned:
            parts.append(_cleaning_table(self))
        parts += [row_text(sample) for sample in self.samples]
        parts.append(_verdict(self))
        for part in parts:
            console.print()
            console.print(part)
        for line in _written(self):
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def _written(report: CheckReport) -> Iterator[str]:
    """The files that were written, and why a requested one was not."""
    if report.page is not None:
        yield f"Report: {report.page}"
    for one in report.fixed or []:
        left = f", {one.left_out:,} unreadable ones left out" if one.left_out else ""
        rows = f"{format_count(one.changed, 'row')} changed, {one.dropped:,} dropped{left}"
        yield f"Fixed: {one.fixed} ({rows}), patch {one.patch}"
    if report.fixed == []:
        yield "Nothing can be fixed safely."
    if report.queue and report.page is not None:
        queue = report.page.with_name("label_queue.jsonl")
        yield f"To relabel: {queue} ({format_count(report.queue, 'row')})"
    if report.queue == 0:
        yield "Label queue: no suspicious label, or too few labelled rows to judge."


def _text(value: str, style: str = "") -> Text:
    """Text that is safe to print: control characters are made visible."""
    from rich.text import Text

    return Text(value.translate(VISIBLE), style=style)


def _table(title: Text, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _sides_table(report: CheckReport) -> Table:
    table = _table(_text("Rows"), "", "rows", "share")
    usable = max(sum(map(len, report.data.sides.values())), 1)
    for side, rows in report.data.sides.items():
        table.add_row(
            "test (sealed)" if side == "test" else side, f"{len(rows):,}", f"{len(rows) / usable:.0%}"
        )
    table.add_row("rejected", f"{len(report.data.rejected):,}", "")
    for reason, count in _reasons(report):
        table.add_row(_text(f"  {reason}"), f"{count:,}", "", style="dim")
    return table


def _reasons(report: CheckReport) -> Iterator[tuple[str, int]]:
    """The reasons of rejected rows with their counts, each with the place of the first row."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for row in report.data.rejected:
        counts[row.reason] += 1
        first.setdefault(row.reason, rejected_location(row))
    for reason, count in counts.most_common(SHOWN_ROWS):
        yield f"{first[reason]}: {reason}", count
    if len(counts) > SHOWN_ROWS:
        yield "other reasons", counts.total() - sum(count for _, count in counts.most_common(SHOWN_ROWS))


def _tokens_table(tokens: Survey) -> Table:
    limit = f", limit {tokens.limit:,}" if tokens.limit else ""
    title = f"Tokens (template: {tokens.template}, stop token {tokens.stop}{limit})"
    table = _table(_text(title), "per row", "median", "95th percentile", "longest", "total")
    context = tokens.row_tokens - tokens.scored_tokens
    for name, lengths, total in (
        ("context", tokens.context, context),
        ("scored (answer and stop token)", tokens.scored, tokens.scored_tokens),
    ):
        table.add_row(name, f"{lengths.p50:,}", f"{lengths.p95:,}", f"{lengths.max:,}", f"{total:,}")
    table.add_row("rows too long", "", "", "", f"{len(tokens.overlong):,}")
    table.add_row("tokens merged across the boundary", "", "", "", f"{tokens.boundary_merges:,}")
    return table


def _labels_table(labels: dict[str, dict[str, int]]) -> Table:
    sides = list(next(iter(labels.values())))
    more = f", the {SHOWN_LABELS} most frequent" if len(labels) > SHOWN_LABELS else ""
    table = _table(_text(f"Labels ({len(labels):,}{more})"), "label", *sides)
    for label, counts in list(labels.items())[:SHOWN_LABELS]:
        table.add_row(_text(label), *(f"{counts[side]:,}" for side in sides))
    return table


def _cleaning_table(report: CheckReport) -> Table:
    table = _table(_text("Cleaning"), "operation", "kept", "changed", "dropped")
    for step in report.data.cleaned:
        table.add_row(step.operation, f"{step.kept:,}", f"{step.changed:,}", f"{step.dropped:,}")
    return table


def _verdict(report: CheckReport) -> Table:
    """Notes and findings, the most severe last, then the verdict."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column()
    grid.add_column(overflow="fold")  # a long path is wrapped, not truncated
    for note in [*report.notes, *report.not_checked]:
        grid.add_row(_text("note", style="dim"), _text(note))
    for finding in reversed(report.findings):
        tag: str = finding.severity
        if tag == "block":
            tag = "allowed" if finding.rule in report.allowed else "NO"
        grid.add_row(_text(tag, style=COLOURS[finding.severity]), _finding(finding))
    if report.ok:
        grid.add_row(_text("OK", style="bold green"), _text("The data is ready for training."))
    return grid


def _finding(finding: Finding) -> Text:
    """A finding with its first rows and, unless it is only information, the fix."""
    from rich.text import Text

    text = Text.assemble(_text(f"{finding.rule}: ", style=COLOURS[finding.severity]), _text(finding.summary))
    most = SHOWN_HITS[finding.severity]
    for hit in finding.hits[:most]:
        text.append_text(_text(f"\n  {hit.side} {hit.place}: {hit.evidence}", style="dim"))
    if most and len(finding.hits) > most:
        text.append_text(_text(f"\n  and {len(finding.hits) - most:,} more", style="dim"))
    if finding.fix and finding.severity != "info":
        text.append_text(_text(f"\n  {finding.fix}"))
    return text
