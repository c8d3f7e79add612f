"""JSON Lines and JSON lists with keys added: what is in them stays as it is, to the byte."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from finetooth.data.read.delimited import BOM
from finetooth.data.read.json_files import item_spans
from finetooth.data.write.text import Cells, Text

_OBJECT = re.compile(r"(\s*\{)(\s*)(.*\S)?(\s*\}\s*)", re.DOTALL)


def add_to_lines(text: Text, names: Sequence[str], cells: Mapping[int, Cells]) -> str:
    """JSON Lines with these keys at the end of each object. cells: those of each line, by its number."""
    lines, ends = text.lines()
    for number, values in cells.items():
        lines[number - 1] = _added(text, lines[number - 1], names, values)
    return "".join(line + end for line, end in zip(lines, ends, strict=True))


def add_to_items(path: Path, text: Text, names: Sequence[str], cells: Mapping[int, Cells]) -> str:
    """A JSON list with these keys at the end of each object. cells: those of each item, by its number."""
    spans = item_spans(path, text.text)
    if spans is None:
        return add_to_lines(text, names, cells)
    parts: list[str] = []
    at = 0
    for number, (start, end) in enumerate(spans, 1):
        added = _added(text, text.text[start:end], names, cells[number]) if number in cells else ""
        parts += [text.text[at:start], added or text.text[start:end]]
        at = end
    return "".join([*parts, text.text[at:]])


def _added(text: Text, written: str, names: Sequence[str], values: Cells) -> str:
    """The text of an object with these members at its end. Other text becomes an object that holds it."""
    found = _OBJECT.fullmatch(written)
    if found is None:
        row = written.removeprefix(BOM).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        found = _OBJECT.fullmatch(text.json({"row": row}))
    assert found is not None, "that is an object"
    start, space, members, end = found.groups(default="")
    added = [f"{text.json(name)}: {text.json(value)}" for name, value in zip(names, values, strict=True)]
    joined = f",{space or ' '}".join([*([members] if members else []), *added])
    return f"{start}{space}{joined}{end}"
