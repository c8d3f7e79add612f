"""Write the tables of docs/migration.md: the keys of other tools, and ours for each.

    python tools/migration.py

A test compares the page with the output.
"""

from __future__ import annotations

import re
from pathlib import Path

from finetooth.config.other_tools import key_mappings, tools

PAGE = Path(__file__).resolve().parent.parent / "docs" / "migration.md"
PLACE = re.compile(r"(<!-- generated: tools/migration\.py -->\n).*?(<!-- end -->)", re.DOTALL)


def tables() -> str:
    """One table for each tool: its keys, ours, and a note."""
    parts = []
    for tool, names in tools().items():
        rows = [f"| {tool} | finetooth | note |", "|---|---|---|"]
        for name in names:
            key, note = key_mappings()[name]
            rows.append(f"| `{name}` | {f'`{key}`' if key else '–'} | {note} |")
        parts.append(f"## {tool}\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def render(page: str) -> str:
    """The page with the text between the markers generated from the code."""
    text, count = PLACE.subn(lambda match: f"{match[1]}{tables()}\n{match[2]}", page)
    if count != 1:
        raise SystemExit(f"{PAGE.name}: expected one place for the tables, found {count}.")
    return text


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
