"""The operations of `data.clean`: their names, what they take, and what is said of a wrong one."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetooth.config.values import yaml_number

TEXT = ("fix_encoding", "strip_html", "normalise_space", "mask_pii")
ROWS = ("drop_empty", "dedupe", "balance")
NAMES = TEXT + ROWS
BALANCE = "{balance: {by: label, max_ratio: 3}}"
_OTHER = {
    **dict.fromkeys(("deduplicate", "drop_duplicates", "unique", "dedup"), "dedupe"),
    **dict.fromkeys(("normalize_space", "strip", "trim", "whitespace"), "normalise_space"),
    **dict.fromkeys(("remove_html", "html", "strip_tags"), "strip_html"),
    **dict.fromkeys(("remove_empty", "dropna", "drop_na"), "drop_empty"),
    **dict.fromkeys(("anonymise", "anonymize", "redact", "pii", "redact_pii"), "mask_pii"),
    **dict.fromkeys(("fix_text", "ftfy", "encoding", "fix_unicode"), "fix_encoding"),
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of cleaning. by: the column whose classes `balance` evens out, or `label`; max_ratio: how many
    times the rows of the smallest class a class may keep. Both are of balance alone.
    """

    name: str
    by: str = ""
    max_ratio: float = 0.0


def validate_operations(value: Any) -> Any:
    """A list of operations as the task stores it: names, and mappings with numbers as numbers.

    Raises ValueError, as pydantic's validators do, with what was expected.
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        raise ValueError("this is no list as YAML writes one: is a bracket, a brace or a comma missing?")
    entries = [value] if isinstance(value, str | Mapping) else value
    if not isinstance(entries, list | tuple):
        raise ValueError(f"expected a list of operations out of {', '.join(NAMES)}")
    found = [_entry(entry) for entry in entries]
    return [
        {"balance": {"by": one.by, "max_ratio": one.max_ratio}} if one.name == "balance" else one.name
        for one in found
    ]


def operations(value: Sequence[Any]) -> tuple[Operation, ...]:
    """The operations of a list as the task file has it. Raises ValueError like `validate_operations`."""
    return tuple(map(_entry, value))


def _entry(entry: Any) -> Operation:
    if isinstance(entry, Mapping) and len(entry) == 1:
        name, options = next(iter(entry.items()))
    else:
        name, options = entry, None
    if not isinstance(name, str):
        raise ValueError(f"an operation is a name or {BALANCE}")
    if name not in NAMES:
        near = _OTHER.get(name.lower()) or next(iter(difflib.get_close_matches(name, NAMES, 1, 0.6)), "")
        raise ValueError(
            f"there is no operation {name[:40]!r}; "
            + (f"did you mean {near}" if near else f"the operations are {', '.join(NAMES)}")
        )
    if name == "balance":
        return _balance(options)
    if options is not None:
        raise ValueError(f"{name} takes no options; write its name alone")
    return Operation(name)


def _balance(options: Any) -> Operation:
    if not isinstance(options, Mapping) or not {"max_ratio"} <= set(options) <= {"by", "max_ratio"}:
        raise ValueError(f"balance says by what and how far; write {BALANCE}")
    by, ratio = options.get("by", "label"), yaml_number(options["max_ratio"])
    if not isinstance(by, str) or not by:
        raise ValueError("balance: by is label or the name of a column")
    number = isinstance(ratio, int | float) and not isinstance(ratio, bool)
    if not number or not 1 <= ratio < math.inf:
        raise ValueError("balance: max_ratio is a number from 1 on")
    return Operation("balance", by, float(ratio))
