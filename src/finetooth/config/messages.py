"""What a key of the task expects, in plain words in place of pydantic's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SOURCES = ("data.train", "data.validation", "data.test")
WORDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "dict_type": "names with values, as {name: value}",
    "finite_number": "a finite number",
}
LIMITS = {
    "greater_than": ("gt", "a number above"),
    "greater_than_equal": ("ge", "a number from"),
    "less_than": ("lt", "a number below"),
    "less_than_equal": ("le", "a number up to"),
}


def describe_expected(key: str, problem: Mapping[str, Any]) -> str:
    """What one of pydantic's problems asks for, as a noun; "" for a message of our own. key: dotted."""
    kind, facts = problem["type"], problem.get("ctx", {})
    if kind in ("model_type", "dataclass_type", "model_attributes_type"):
        given = problem["input"]
        inner = (
            f"{{train: {given if isinstance(given, str) else 'FILE'}}}" if key == "data" else "{key: value}"
        )
        return f"keys of its own, as {key}: {inner}"
    if kind == "literal_error":
        return str(facts["expected"]).replace("'", "")
    if kind in LIMITS:
        name, words = LIMITS[kind]
        return f"{words} {facts[name]:g}" + (" on" if name == "ge" else "")
    if key in SOURCES:
        share = "a share from 0 to below 1"
        return {"string_type": "a file", "list_type": "a list of files", "float_parsing": share,
                "float_type": share}.get(kind, WORDS.get(kind, ""))  # fmt: skip
    return WORDS.get(kind, "")
