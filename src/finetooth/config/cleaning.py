"""The operations of `data.clean`: their names, their options, and the error messages for wrong ones."""

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
_SYNONYMS = {
    **dict.fromkeys(("deduplicate", "drop_duplicates", "unique", "dedup"), "dedupe"),
    **dict.fromkeys(("normalize_space", "strip", "trim", "whitespace"), "normalise_space"),
    **dict.fromkeys(("remove_html", "html", "strip_tags"), "strip_html"),
    **dict.fromkeys(("remove_empty", "dropna", "drop_na"), "drop_empty"),
    **dict.fromkeys(("anonymise", "anonymize", "redact", "pii", "redact_pii"), "mask_pii"),
    **dict.fromkeys(("fix_text", "ftfy", "encoding", "fix_unicode"), "fix_encoding"),
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One cleaning operation. Only balance has options. by: the column whose classes are balanced, or
    `label`. max_ratio: the largest class may keep this many times the rows of the smallest one.
    """

    name: str
    by: str = ""
    max_ratio: float = 0.0


def validate_operations(value: Any) -> Any:
    """A list of operations in the form that the task stores: names, and mappings with numbers as numbers.

    Raises ValueError that says what was expected, as a pydantic validator does.
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        raise ValueError("this is not a valid YAML list: is a bracket, a brace or a comma missing?")
    entries = [value] if isinstance(value, str | Mapping) else value
    if not isinstance(entries, list | tuple):
        raise ValueError(f"expected a list of operations from {', '.join(NAMES)}")
    return [
        {"balance": {"by": operation.by, "max_ratio": operation.max_ratio}}
        if operation.name == "balance"
        else operation.name
        for operation in operations(entries)
    ]


def operations(value: Sequence[Any]) -> tuple[Operation, ...]:
    """The operations of a list from a task file. Raises ValueError like `validate_operations`."""
    return tuple(map(_operation, value))


def _operation(entry: Any) -> Operation:
    if isinstance(entry, Mapping) and len(entry) == 1:
        name, options = next(iter(entry.items()))
    else:
        name, options = entry, None
    if not isinstance(name, str):
        raise ValueError(f"an operation is a name or {BALANCE}")
    if name not in NAMES:
        near = _SYNONYMS.get(name.lower()) or next(iter(difflib.get_close_matches(name, NAMES, 1, 0.6)), "")
        raise ValueError(
            f"there is no operation {name[:40]!r}; "
            + (f"did you mean {near}" if near else f"the operations are {', '.join(NAMES)}")
        )
    if name != "balance":
        if options is not None:
            raise ValueError(f"{name} takes no options; write its name alone")
        return Operation(name)
    if not isinstance(options, Mapping) or not {"max_ratio"} <= set(options) <= {"by", "max_ratio"}:
        raise ValueError(f"balance needs its options; write {BALANCE}")
    by, ratio = options.get("by", "label"), yaml_number(options["max_ratio"])
    if not isinstance(by, str) or not by:
        raise ValueError("balance: by must be label or the name of a column")
    is_number = isinstance(ratio, int | float) and not isinstance(ratio, bool)
    if not is_number or not 1 <= ratio < math.inf:
        raise ValueError("balance: max_ratio must be a number of at least 1")
    return Operation("balance", by, float(ratio))
