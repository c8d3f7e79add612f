"""Findings made while the files are read and split, before the rules of the gate see the rows."""

from __future__ import annotations

from collections.abc import Iterator

from finetooth.config.task import DataConfig
from finetooth.config.values import format_count, format_count_of, plural
from finetooth.data.examples import source_location
from finetooth.data.formats.columns import advice, nearest_column
from finetooth.data.formats.parse import ParsedTable
from finetooth.data.read.locations import rejected_location
from finetooth.data.read.names import REPEATED
from finetooth.data.split import ADDED, SIDES, Sides, exact_leaks
from finetooth.errors import DataError
from finetooth.privacy.masking import redact
from finetooth.quality.findings import Finding, Hit

MAX_BROKEN = 0.01  # share of a file's rows
MAX_EMPTY = 0.1  # the same, of rows with an empty cell
EMPTY_CELL = " is empty"  # the end of the reason of such a row


def broken(side: str, table: ParsedTable) -> Iterator[Finding]:
    """A blocking finding if more than 1% of a file's rows are broken. Repeated headers are no rows.

    People leave a few cells empty: rows with one are set aside, for review, up to 10%.
    """
    broken = [row for row in table.rejected if row.reason != REPEATED]
    empty = [row for row in broken if row.reason.endswith(EMPTY_CELL)]
    if empty and len(empty) <= MAX_EMPTY * table.total:
        broken = [row for row in broken if row not in empty]
        yield Finding(
            "empty-cells",
            "review",
            f"{empty[0].file}: {format_count_of(len(empty), table.total, 'row')} "
            f"{plural(len(empty), 'has', 'have')} an empty cell where a text or an answer belongs, and "
            f"{plural(len(empty), 'is', 'are')} set aside.",
            tuple(Hit("", rejected_location(row.redacted()), side, redact(row.reason)) for row in empty),
            "Fill them in, or leave it at that.",
        )
    if len(broken) <= MAX_BROKEN * table.total:
        return
    bytes = any(row.reason.startswith("not UTF-8") for row in broken)
    hint = ", or name the file's encoding, for example `data.encoding: cp1252`" if bytes else ""
    yield Finding(
        "broken-rows",
        "block",
        f"{broken[0].file}: {format_count_of(len(broken), table.total, 'row')} "
        f"{plural(len(broken), 'is', 'are')} broken, more than {MAX_BROKEN:.0%}.",
        tuple(Hit("", rejected_location(row.redacted()), side, redact(row.reason)) for row in broken),
        f"Fix or remove them{hint}.",
    )


def unread_labels(table: ParsedTable) -> Iterator[Finding]:
    """A review finding for plain text beside columns that look like labels."""
    for column, values in table.maybe_labels.items():
        yield Finding(
            "unread-label",
            "review",
            f"{table.name}: the rows are read as plain text, and the column {column!r}, which has {values} "
            "different values, is left out. It may be the label.",
            fix=f"If it is, {advice({column: 'label'})}; else set data.format: text.",
        )


def leaks_found(config: DataConfig, sides: Sides) -> Iterator[Finding]:
    """A blocking finding for exact leaks. The rule `leak` (quality/rules/leaks.py) finds these and more."""
    leaks = exact_leaks(sides, groups=config.group is not None)
    if leaks:
        yield Finding(
            "leak",
            "block",
            f"{format_count(len(leaks), 'row (or group) is', 'rows (or groups) are')} on two sides of the "
            "split, so no result could be trusted.",
            tuple(
                Hit.of(copy, other, f"= {one} {source_location(row)}", row.id)
                for one, row, other, copy in leaks
            ),
            "Remove each from one of the two files.",
        )


def require_rates_column(config: DataConfig, sides: Sides) -> None:
    """Raise DataError if data.rates names a column that no training row has."""
    own = {"file", "line", "sheet_row", "label", "group", ADDED}
    known = {tag for row in sides["train"] for tag in row.tags} - own
    known |= {config.group} if config.group else set()
    if sides["train"] and config.rates is not None and config.rates not in known:
        listed = ", ".join(sorted(known)[:20])
        others = f"Columns to group by: {listed}." if listed else "The rows have no columns to group by."
        near = nearest_column("data.rates", config.rates, known)
        raise DataError(f"data.rates: no training row has {config.rates!r}. {others}{near}")


def empty_sides(config: DataConfig, sides: Sides) -> Iterator[Finding]:
    """A blocking finding for sides without rows, unless their share is 0. Raises DataError without train."""
    empty = [
        side for side in SIDES if not sides[side] and not (side != "train" and getattr(config, side) == 0)
    ]
    if not empty:
        return
    total = sum(map(len, sides.values()))
    counts = ", ".join(f"{len(sides[side])} {side}" for side in SIDES)
    wanted = " and ".join(f"data.{side}: a larger share or a file" for side in empty if side != "train")
    finding = Finding(
        "empty-side",
        "block",
        f"Too few rows ({total}): they split into {counts}, and every side needs at least one "
        "(30 in the test before a result can be called better).",
        fix="Add more rows" + (f", or set {wanted}." if wanted else "."),
    )
    if not sides["train"]:
        raise DataError(f"{finding.summary} {finding.fix}")
    yield finding
