"""Key names of other fine-tuning tools, and renamed keys: for the error message of an unknown key.

The table is other_tools.yaml, read when it is first needed.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import yaml


class KeyMapping(NamedTuple):
    """Our key for a name of another tool, "" if there is none, and a note: how it differs, or why not."""

    key: str
    note: str = ""


@cache
def _table() -> dict[str, Any]:
    text = files("finetooth.config").joinpath("other_tools.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


@cache
def key_mappings() -> dict[str, KeyMapping]:
    """Every known name of another tool with our key for it."""
    return {
        name: KeyMapping(entry) if isinstance(entry, str) else KeyMapping(entry.get("key", ""), entry["note"])
        for name, entry in _table()["keys"].items()
    }


def tools() -> dict[str, list[str]]:
    """The names of each tool, in the order of docs/migration.md."""
    return dict(_table()["tools"])


def key_hint(name: str) -> str:
    """What the error message of an unknown key says about this name (without its section), "" if nothing.

    Nothing for a name that is ours too, such as `max_steps`: there the nearest key is the better hint.
    """
    if name in _table()["renamed"]:
        return f"It has been renamed to {_table()['renamed'][name]['key']}."
    key, note = key_mappings().get(name, ("", ""))
    if not key:
        return f"finetooth has no such key: {note}." if note else ""
    if key.rsplit(".", 1)[-1] == name:
        return ""
    return f"In finetooth it is called {key}." + (f" {note[0].upper()}{note[1:]}." if note else "")


def run_directory_hint(name: str) -> str:
    """What to do with the run directory whose config.yaml has this renamed key, "" for any other key."""
    return str(_table()["renamed"].get(name, {}).get("directory", ""))
