"""Instructions to try in place of the task's own: a few templates, or those of the user's file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from finetooth.config.load import require_small
from finetooth.errors import ConfigError

EXPERT = "You are an expert at this task and read every word before you decide."
LABEL_ALONE = "Answer with the label that fits best, and nothing else."
ANSWER_ALONE = "Give only the answer, without an explanation."
CLASSIFY = "Classify the text."
REASON = "Think step by step. End with “Answer: ” and the answer alone."
REASONED = ("number", "contains")  # graders that find the answer behind its reasons
ROOM = 160  # tokens of an answer with its reasons, at least


def variants(instruction: str, labels: Sequence[str]) -> list[str]:
    """Other instructions for a task with this one: deterministic, without duplicates."""
    alone = LABEL_ALONE if labels else ANSWER_ALONE
    own = instruction.strip() or (CLASSIFY if labels else "")
    found = [f"{own} {alone}".strip(), f"{EXPERT} {own}".strip(), alone]
    return list(dict.fromkeys(found))


def read_instructions(path: Path) -> list[str]:
    """The instructions of a .yaml, .yml or .json file with a list, else of the lines of a text file.

    Raises ConfigError.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            values = json.loads(text)
        else:
            values = yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else text.splitlines()
        require_small(values)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"--instructions {path}: cannot be read: {error}") from None
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise ConfigError(f"--instructions {path}: expected a list of instructions.")
    found = list(dict.fromkeys(one.strip() for one in values if one.strip()))
    if not found:
        raise ConfigError(f"--instructions {path}: there is no instruction in it.")
    return found
