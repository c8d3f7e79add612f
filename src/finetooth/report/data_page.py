"""The contents of data/report.html: findings with their rows, token lengths, labels, duplicates, cleaning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from finetooth.config.values import format_count, plural
from finetooth.quality.findings import Finding, blocking_findings
from finetooth.report import html
from finetooth.report.charts import bars, histogram
from finetooth.report.check_report import CheckReport

ROWS_SHOWN = 100  # of a finding, on the page; findings.jsonl has all of them
LABELS_SHOWN = 30
REJECTED_SHOWN = 50
DUPLICATE_RULES = ("duplicate", "near-duplicate")
NEVER_CHECKED = [
    "Whether the answers are factually correct.",
    "Whether the base model saw these rows in pretraining (contamination).",
]


def render(report: CheckReport) -> str:
    """The page as HTML: self-contained, without scripts, all data escaped."""
    return html.render("data.html.jinja", page_context(report))


def page_context(report: CheckReport) -> dict[str, Any]:
    """Everything the template needs."""
    blocking = blocking_findings(report.findings, report.allowed)
    counts = Counter[str](finding.severity for finding in report.findings)
    doubts = counts["review"] or report.overridden_rules
    rejected = [(row.file, row.line, row.reason) for row in report.data.rejected[:REJECTED_SHOWN]]
    return {
        "name": report.name,
        "source": report.source,
        "model": report.model if report.tokens else "",
        "format": report.data.format,
        "total": format_count(report.data.total, "row"),
        "kind": "worse" if blocking else "not-proven" if doubts else "better",
        "badge": "blocked" if blocking else "needs review" if doubts else "ready",
        "headline": (
            f"{format_count(len(blocking), 'finding blocks', 'findings block')} training"
            if blocking
            else "Ready for training"
        ),
        "lead": _lead(counts),
        "allowed": report.overridden_rules,
        "counts": [
            *(
                (plural(len(rows), f"{side} row", f"{side} rows"), len(rows))
                for side, rows in report.data.sides.items()
            ),
            ("rejected", len(report.data.rejected)),
        ],
        "findings": [_finding(finding, report.allowed) for finding in report.findings],
        "tokens": _tokens(report),
        "labels": _labels(report.labels),
        "copies": _duplicates(report.findings),
        "cleaned": [
            {**step.to_json(), "examples": [(change.before, change.after) for change in step.examples]}
            for step in report.data.cleaned
        ],
        "rejected": {"rows": rejected, "count": len(report.data.rejected)} if rejected else None,
        "notes": report.notes,
        "unchecked": [*report.not_checked, *NEVER_CHECKED],
    }


def _lead(counts: Counter[str]) -> str:
    actions = {"block": "to fix or override", "review": "to review", "info": "for information"}
    parts = [f"{counts[severity]} {action}" for severity, action in actions.items() if counts[severity]]
    return f"{format_count(counts.total(), 'finding')}: {', '.join(parts)}." if parts else "No findings."


def _finding(finding: Finding, allowed: Sequence[str]) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "summary": finding.summary,
        "fix": finding.fix,
        "allowed": finding.severity == "block" and finding.rule in allowed,
        "count": len(finding.hits),
        "rows": [asdict(hit) for hit in finding.hits[:ROWS_SHOWN]],
    }


def _tokens(report: CheckReport) -> dict[str, Any] | None:
    tokens = report.tokens
    if tokens is None:
        return None
    return {
        "context": tokens.context,
        "scored": tokens.scored,
        "scored_tokens": tokens.scored_tokens,
        "row_tokens": tokens.row_tokens,
        "limit": tokens.limit,
        "chart": histogram(tokens.lengths, tokens.limit),
    }


def _labels(labels: Mapping[str, Mapping[str, int]]) -> dict[str, Any] | None:
    if not labels:
        return None
    shown = {label: sum(counts.values()) for label, counts in list(labels.items())[:LABELS_SHOWN]}
    return {"count": len(labels), "shown": len(shown), "chart": bars(shown, "Rows by label")}


def _duplicates(findings: Sequence[Finding]) -> Any:
    """A chart of the rows in clusters of duplicates and near-duplicates, by cluster size."""
    sizes: Counter[int] = Counter()
    for finding in findings:
        if finding.rule in DUPLICATE_RULES:
            sizes.update({int(size): count for size, count in finding.facts.get("sizes", {}).items()})
    shown = {f"{size:,} rows": size * count for size, count in sorted(sizes.items())[:LABELS_SHOWN]}
    return bars(shown, "Rows in clusters of duplicates, by cluster size") if shown else None
