"""The patch of `check --fix` taken back: that shows whether it holds all that was changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetooth.rundir import read_jsonl


def undo(fixed: Path, patch: Path) -> list[dict[str, Any]]:
    """The rows as they were before `fix`, in their order, from what it wrote alone."""
    lines, left = list(read_jsonl(patch)), iter(read_jsonl(fixed))
    gone = {line["row"]: line["before"] for line in lines if line["operation"] == "drop"}
    whole: list[dict[str, Any]] = []
    while (row := gone.get(len(whole) + 1) or next(left, None)) is not None:
        whole.append(row)
    for line in reversed(lines):
        if line["operation"] != "drop":
            row = whole[line["row"] - 1]
            assert {column: row[column] for column in line["after"]} == line["after"]
            row |= line["before"]
    return whole
