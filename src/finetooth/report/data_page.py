"""What data/report.html shows of a check: the findings with their rows, lengths, labels, copies, cleaning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from finetooth.config.values import format_count, plural
from finetooth.quality.findings import Finding, blocking_findings
from finetooth.report import html
from finetooth.report.check_report import CheckReport
from finetooth.report.plots import bars, histogram

ROWS = 100  # of a finding, on the page; all of them are in findings.jsonl
LABELS = 30
REJECTED = 50
COPIES = ("duplicate", "near-duplicate")
NEVER_CHECKED = [
    "Whether the answers are true: no rule knows the world.",
    "What the base model has read before: that cannot be told from outside.",
]


def render(report: CheckReport) -> str:
    """The page as HTML: self-contained, without a script; every text of the data is escaped."""
    return html.render("data.html.jinja", page_context(report))


def page_context(report: CheckReport) -> dict[str, Any]:
    """What the template needs."""
    stops = blocking_findings(report.findings, report.allowed)
    counts = Counter[str](finding.severity for finding in report.findings)
    doubts = counts["review"] or report.overridden_rules
    return {
        "name": report.name,
        "source": report.source,
        "model": report.model if report.tokens else "",
        "format": report.data.format,
        "total": format_count(report.data.total, "row"),
        "kind": "worse" if stops else "not-proven" if doubts else "better",
        "badge": "blocked" if stops else "a look is worth it" if doubts else "fit",
        "headline": _headline(stops),
        "lead": _lead(counts),
        "allowed": report.overridden_rules,
        "counts": _counts(report),
        "findings": [_shown(one, report.allowed) for one in report.findings],
        "tokens": _tokens(report),
        "labels": _labels(report.labels),
        "copies": _copies(report.findings),
        "cleaned": [_step(step) for step in report.data.cleaned],
        "rejected": _rejected(report),
        "notes": report.notes,
        "unchecked": [*report.not_checked, *NEVER_CHECKED],
    }


def _headline(stops: Sequence[Finding]) -> str:
    if not stops:
        return "Nothing stands in the way of training"
    what = "finding blocks" if len(stops) == 1 else "findings block"
    return f"{len(stops)} {what} training"


def _lead(counts: Counter[str]) -> str:
    told = [
        (counts["block"], "must be mended or allowed"),
        (counts["review"], plural(counts["review"], "wants", "want") + " a person's eye"),
        (counts["info"], plural(counts["info"], "is", "are") + " worth knowing"),
    ]
    words = [f"{count} {what}" for count, what in told if count]
    return (
        f"Of {format_count(sum(counts.values()), 'finding')}, {', '.join(words)}."
        if words
        else "No rule found anything."
    )


def _counts(report: CheckReport) -> list[tuple[str, int]]:
    sides = report.data.sides
    counts = [(plural(len(rows), f"{side} row", f"{side} rows"), len(rows)) for side, rows in sides.items()]
    return [*counts, ("set aside", len(report.data.rejected))]


def _shown(finding: Finding, allowed: Sequence[str]) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "says": finding.summary,
        "fix": finding.fix,
        "allowed": finding.severity == "block" and finding.rule in allowed,
        "count": len(finding.hits),
        "rows": [asdict(hit) for hit in finding.hits[:ROWS]],
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
    shown = {label: sum(counts.values()) for label, counts in list(labels.items())[:LABELS]}
    return {"count": len(labels), "shown": len(shown), "chart": bars(shown, "Rows by label")}


def _copies(findings: Sequence[Finding]) -> Any:
    """Rows in groups of copies and near-copies, by the groups' sizes; None without any."""
    sizes: Counter[int] = Counter()
    for finding in findings:
        if finding.rule in COPIES:
            sizes.update({int(size): count for size, count in finding.facts.get("sizes", {}).items()})
    shown = {f"{size:,} rows": size * count for size, count in sorted(sizes.items())[:LABELS]}
    return bars(shown, "Rows in groups of copies, by the size of the group") if shown else None


def _step(step: Any) -> dict[str, Any]:
    pairs = [(change.before, change.after) for change in step.examples]
    return {**step.to_json(), "examples": pairs}


def _rejected(report: CheckReport) -> dict[str, Any] | None:
    found = report.data.rejected
    rows = [(row.file, row.line, row.reason) for row in found[:REJECTED]]
    return {"rows": rows, "count": len(found)} if found else None
