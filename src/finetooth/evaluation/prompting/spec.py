"""A prompt as a file has it: plain values, from which the prompt is built for the train rows of a run."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import yaml

from finetooth.config.load import require_small
from finetooth.errors import ConfigError
from finetooth.evaluation.prompting.demonstrations import Index, Nearest, drawn, usable
from finetooth.evaluation.prompting.layouts import LAYOUTS
from finetooth.evaluation.prompts import FROM_FILE, Prompt
from finetooth.quality.findings import Embed
from finetooth.types import Answer, Example, Message

KEYS = {
    "instruction": str,
    "labels": bool,
    "shots": int,
    "examples": list,
    "demonstrations": str,
    "draw": int,
    "layout": str,
    "offsets": dict,
    "max_tokens": int,
}
WORDS = {str: "text", bool: "true or false", int: "a whole number", list: "a list", dict: "a mapping"}
DRAWN, NEAREST = ("balanced", "random"), ("bm25", "vectors")
VALUED = (".yaml", ".yml", ".json")


class Indexes(Protocol):
    """The train rows by their similarity to a question; by: bm25 or vectors."""

    def __call__(self, by: str) -> Index: ...


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """What decides a prompt beside the train rows.

    instruction: in place of the task's; None keeps that. labels: whether to list them. shots: number of
    demonstrations. demonstrations: balanced or random (drawn by `draw`; None: the task's own draw), or bm25
    or vectors (the nearest to each question). examples: demonstrations of its own. layout: a key of LAYOUTS.
    offsets: of the labels. max_tokens: of a generated answer, where the prompt asks for reasoning before it;
    None: the task's.
    """

    instruction: str | None = None
    labels: bool = True
    shots: int = 0
    examples: tuple[Example, ...] = field(default=(), hash=False)
    demonstrations: str = "balanced"
    draw: int | None = None
    layout: str = "turns"
    offsets: Mapping[str, float] = field(default_factory=dict, hash=False)
    max_tokens: int | None = None

    def build(self, train: Sequence[Example], labels: Sequence[str], seed: int, indexes: Indexes) -> Prompt:
        """The prompt for a task with these labels. Raises GradeError where no train row can be shown."""
        prompt = Prompt(
            FROM_FILE,
            tuple(labels) if self.labels else (),
            self.examples,
            layout=LAYOUTS[self.layout],
            offsets=self.offsets or None,
        )
        if not self.shots:
            return prompt
        if self.demonstrations in NEAREST:
            return replace(prompt, nearest=Nearest(indexes(self.demonstrations), self.shots))
        rows, draw = usable(train, FROM_FILE), seed if self.draw is None else self.draw
        balanced = bool(labels) and self.demonstrations == "balanced"
        return replace(prompt, demos=drawn(self.shots, rows, draw, balanced))

    @property
    def title(self) -> str:
        """The prompt in a few words, for tables."""
        parts = ["zero-shot"]
        if self.shots:
            how = f", draw {self.draw}" if self.demonstrations in DRAWN and self.draw is not None else ""
            parts = [f"{self.shots} {self.demonstrations}{how}"]
        if self.layout != "turns":
            parts.append(f"layout {self.layout}")
        if not self.labels:
            parts.append("labels not listed")
        if self.instruction is not None:
            length = len(self.instruction)  # instructions can begin alike
            parts.append(
                f"instruction {self.instruction[:24]!r}" + f" of {length} characters" * (length > 24)
            )
        if self.max_tokens is not None:
            parts.append(f"up to {self.max_tokens} tokens")
        return ", ".join(parts)

    def to_yaml(self, comment: str = "") -> str:
        """The file that `read` reads. comment: lines that stand before it."""
        values: dict[str, Any] = {} if self.instruction is None else {"instruction": self.instruction}
        values |= {"labels": self.labels, "shots": self.shots}
        if self.shots:
            values["demonstrations"] = self.demonstrations
        if self.shots and self.demonstrations in DRAWN and self.draw is not None:
            values["draw"] = self.draw
        values["layout"] = self.layout
        if self.offsets:
            values["offsets"] = {label: round(nats, 4) for label, nats in self.offsets.items()}
        if self.max_tokens is not None:
            values["max_tokens"] = self.max_tokens
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
        return "".join(f"# {line}\n" for line in comment.splitlines()) + text


def made_for(base: str, instruction: str, ids: Iterable[str]) -> dict[str, str]:
    """What a search was made for. base: digest of the base model. ids: of the train and validation rows.

    A prompt of other rows is no baseline of a run: rows of its test may have chosen it.
    """
    rows = hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
    return {"model": base, "instruction": instruction, "rows": rows}


def read_spec(path: Path, key: str = "--prompt") -> PromptSpec:
    """The prompt in a file.

    A .yaml, .yml or .json file has some of the keys of KEYS: instruction (text), labels (whether to list
    them, where the task has labels: true by default), shots (number of demonstrations from the train split),
    examples (demonstrations of its own: a list of {question, answer}), demonstrations (how they are chosen),
    draw (their seed), layout, offsets (label: nats), max_tokens (of a generated answer). Any other file is
    the instruction, and all that is said.
    key: that names the file, for messages. Raises ConfigError.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text) if path.suffix in VALUED else {"instruction": text}
        require_small(values)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{key} {path}: cannot be read: {error}") from None
    if not isinstance(values, dict) or not values:
        raise ConfigError(f"{key} {path}: expected some of the keys {', '.join(KEYS)}.")
    for name, value in values.items():
        kind = KEYS.get(name)
        if kind is None:
            near = difflib.get_close_matches(str(name), KEYS, n=1)
            hint = f" Did you mean {near[0]}?" if near else f" Known are {', '.join(KEYS)}."
            raise ConfigError(f"{key} {path}: {str(name)[:40]} is no key of a prompt.{hint}")
        if type(value) is not kind:
            raise ConfigError(f"{key} {path}: {name}: {str(value)[:40]!r} is not {WORDS[kind]}.")
    shots, given = values.get("shots", 0), values.pop("examples", [])
    if shots < 0 or (shots and given):
        raise ConfigError(f"{key} {path}: shots is a count of training rows, in place of examples.")
    if values.get("max_tokens", 1) < 1:
        raise ConfigError(f"{key} {path}: max_tokens: expected at least 1.")
    for name, known_values in (("demonstrations", (*DRAWN, *NEAREST)), ("layout", tuple(LAYOUTS))):
        if name in values and values[name] not in known_values:
            raise ConfigError(
                f"{key} {path}: {name}: {values[name]!r} is not one of {', '.join(known_values)}."
            )
    for label, nats in values.get("offsets", {}).items():
        if not isinstance(label, str) or not isinstance(nats, int | float) or not math.isfinite(nats):
            raise ConfigError(f"{key} {path}: offsets: {label!r}: {nats!r} is not a number of nats.")
    demos = []
    for number, one in enumerate(given, 1):
        if not isinstance(one, dict) or {"question", "answer"} != one.keys():
            raise ConfigError(f"{key} {path}: example {number}: expected {{question: ..., answer: ...}}.")
        asked = (Message("user", str(one["question"])),)
        demos.append(Example(f"example {number}", asked, (Answer(str(one["answer"])),)))
    if "instruction" in values:
        values["instruction"] = values["instruction"].strip()
    values.setdefault("labels", path.suffix in VALUED)
    return PromptSpec(**values, examples=tuple(demos))


def index_of(train: Sequence[Example], embed: Embed) -> Indexes:
    """The indexes of these rows, each built when it is first asked for. embed: of the model that answers."""
    built: dict[str, Index] = {}

    def index(by: str) -> Index:
        if by not in built:
            built[by] = Index(usable(train, FROM_FILE), embed if by == "vectors" else None)
        return built[by]

    return index
