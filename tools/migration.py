"""Write the tables of docs/migration.md: what the names of other tools are here.

    python tools/migration.py

A test compares the page with what this makes.
"""

from __future__ import annotations

import re
from pathlib import Path

from finetooth.config.other_tools import tables

PAGE = Path(__file__).resolve().parent.parent / "docs" / "migration.md"
PLACE = re.compile(r"(<!-- generated: tools/migration\.py -->\n).*?(<!-- end -->)", re.DOTALL)


def render(page: str) -> str:
    """The page with what stands between the markers replaced by what the code says now."""
    made, count = PLACE.subn(lambda match: f"{match[1]}{tables()}\n{match[2]}", page)
    if count != 1:
        raise SystemExit(f"{PAGE.name}: expected one place for the tables, found {count}.")
    return made


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
