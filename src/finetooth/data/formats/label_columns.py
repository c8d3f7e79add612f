"""Several label columns as one label that keeps what each column says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from finetooth.data.formats.text_columns import InvalidRowError, string
from finetooth.data.read.table import RawRow

# The ways to say yes and no; a column is a flag if all its cells are of one of them.
_STYLES: tuple[dict[str, bool], ...] = (
    {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True},
    *(
        {yes: True, no: False}
        for yes, no in (
            *(("yes", "no"), ("y", "n"), ("t", "f"), ("on", "off"), ("x", "-"), ("✓", "✗"), ("✔", "✘")),
            *(("ja", "nein"), ("j", "n"), ("oui", "non"), ("o", "n"), ("si", "no"), ("sí", "no")),
            *(("sim", "não"), ("да", "нет"), ("是", "否"), ("wahr", "falsch"), ("vrai", "faux"), ("☑", "☐")),
        )
    ),
)
_SEPARATORS = re.compile(r"[,;\n]")


@dataclass(frozen=True, slots=True)
class LabelColumns:
    """How label columns become one label, the same in all files.

    flags: for each column of yes and no, what its cells mean; a blank cell means no where the column only has
    marks. named: values are written with the name of their column, because columns share values or some are
    flags. listed: the label is a JSON list, because a part of it holds a separator.
    """

    columns: tuple[str, ...]
    flags: Mapping[str, Mapping[str, bool]]
    named: bool
    listed: bool

    @classmethod
    def of(cls, rows: Sequence[RawRow], columns: Sequence[str]) -> LabelColumns:
        """The form for these rows of all files."""
        cells = {name: {_cell(row.values.get(name)) for row in rows} for name in columns}
        flags = {name: _flag(found) for name, found in cells.items()}
        both = {name: flag for name, flag in flags.items() if flag and len(cells[name]) > 1}
        if not all(flags.values()):  # beside columns of values, a flag is a column that says yes and no
            flags = {name: both.get(name, {}) for name in columns}
        sets = [{name.casefold()} if flags[name] else cells[name] - {""} for name in columns]
        named = sum(map(len, sets)) > len(set().union(*sets))
        parts = [*(name for name in columns if flags[name] or named)]
        parts += [cell for name in columns if not flags[name] for cell in cells[name]]
        listed = any(_SEPARATORS.search(part) for part in parts)
        return cls(tuple(columns), {name: flag for name, flag in flags.items() if flag}, named, listed)

    def joined(self, row: RawRow) -> RawRow:
        """The row with one label in the first of the columns, in the order of data.columns.

        Flags: the names of the columns that are set; `none` if nothing is; empty if one is missing.
        """
        others = {name: value for name, value in row.values.items() if name not in self.columns}
        parts: list[str] = []
        missing = False
        for name in self.columns:
            value = row.values.get(name)
            cell = _cell(value)
            if name in self.flags:
                missing = missing or cell not in self.flags[name]
                parts += [name] if self.flags[name].get(cell) else []
            elif cell:
                try:
                    text = string(value, "label").strip()
                except InvalidRowError:  # the list stays, and reading the row reports it
                    return replace(row, values=others | {self.columns[0]: value})
                parts.append(f"{name}: {text}" if self.named else text)
        label: Any = self._text(parts) if parts else "none" if self.flags else ""
        return replace(row, values=others | {self.columns[0]: "" if missing else label})

    def _text(self, parts: Sequence[str]) -> str:
        return json.dumps(parts, ensure_ascii=False) if self.listed else ", ".join(parts)


def _cell(value: Any) -> str:
    return "" if value is None else str(value).strip().casefold()


def _flag(cells: set[str]) -> dict[str, bool]:
    """What the cells of a column of flags mean; {} for a column that is none."""
    said = cells - {""}
    style = next((style for style in _STYLES if said <= style.keys()), None)
    if style is None:
        return {}
    marks_only = bool(said) and all(style[cell] for cell in said)
    return style | {"": False} if marks_only and "" in cells else dict(style)
