"""The contents of data/report.html: findings with their rows, token lengths, labels, duplicates, cleaning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from finetooth.config.values import format_count, plural
from finetooth.data.read.locations import rejected_location
from finetooth.privacy.masking import redact
from finetooth.quality.findings import Finding, blocking_findings, question
from finetooth.quality.survey import Lengths
from finetooth.report import html
from finetooth.report.charts import histogram
from finetooth.report.check_report import CheckReport
from finetooth.report.copies import copies, near_copies

ROWS_SHOWN = 100  # of a finding, on the page; findings.jsonl has all of them
LABELS_SHOWN = 30
REJECTED_SHOWN = 50
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
    rejected = [(rejected_location(row), row.reason) for row in report.data.rejected[:REJECTED_SHOWN]]
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
        "lengths": _lengths(report),
        "labels": _labels(report),
        "copies": copies(report.findings, report.view),
        "near": near_copies(report.findings, report.view),
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


def _lengths(report: CheckReport) -> dict[str, Any] | None:
    """A panel for the questions and one for the answers: in tokens if they were counted, and in words."""
    rows = [row for _, row in report.view.rows()]
    if not rows:
        return None
    words = [[len(question(row).split()) for row in rows], [len(row.target.split()) for row in rows]]
    if not any(row.context for row in rows):  # plain text: a row is its own answer
        words[0] = [0] * len(rows)
    tokens = report.tokens
    panels = []
    for at, (name, kind) in enumerate((("Questions", "mark"), ("Answers", "second"))):
        counts = tokens.lengths[at] if tokens else words[at]
        if not any(counts):
            continue
        panels.append(
            {
                "name": name,
                "chart": histogram(
                    counts, kind, "tokens" if tokens else "words", tokens.limit if tokens else None
                ),
                "tokens": Lengths.of(counts) if tokens else None,
                "words": Lengths.of(words[at]),
            }
        )
    return {
        "panels": panels,
        "scored_tokens": tokens.scored_tokens if tokens else None,
        "row_tokens": tokens.row_tokens if tokens else None,
        "limit": tokens.limit if tokens else None,
    }


def _labels(report: CheckReport) -> dict[str, Any] | None:
    """The rows of each label by side. `like`: the label that this one may be a misspelling of."""
    if not report.labels:
        return None
    spellings: dict[str, str] = {}
    for finding in report.findings:
        if finding.rule == "label-spelling":
            spellings |= {redact(one): redact(right) for one, right in finding.facts["spellings"].items()}
    suspects = [label for label in list(report.labels)[LABELS_SHOWN:] if label in spellings]
    shown = [*list(report.labels)[:LABELS_SHOWN], *suspects[:LABELS_SHOWN]]
    most = max(sum(counts.values()) for counts in report.labels.values()) or 1
    rows = [
        {
            "label": label,
            "total": sum(report.labels[label].values()),
            "sides": [
                (side, count, round(100 * count / most, 2))
                for side, count in report.labels[label].items()
                if count
            ],
            "like": spellings.get(label, ""),
        }
        for label in shown
    ]
    sides = [side for side in next(iter(report.labels.values())) if report.data.sides.get(side)]
    return {"count": len(report.labels), "rows": rows, "sides": sides, "spellings": len(spellings)}
