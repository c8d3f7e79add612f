"""Prompting baselines: what the base model can do without fine-tuning, and what fine-tuning has to beat.

A plain prompt is the row's own context (as for the tuned model); zero-shot also lists the labels; few-shot-K
also puts K solved training rows in front. The Renderer adds the task's instruction to all of them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from finetooth.config.load import require_small
from finetooth.data.render.turns import answer_turn, has_answer
from finetooth.errors import ConfigError, GradeError
from finetooth.types import Answer, Example, Message

ZERO_SHOT = "zero-shot"
FROM_FILE = "prompt"
PROMPT_KEYS = {"instruction": str, "labels": bool, "shots": int, "examples": list}


@dataclass(frozen=True, slots=True)
class Prompt:
    """How a row becomes the messages that are sent to the model.

    labels: listed in the system message. multi_label: several of them may be right. demos: solved rows of the
    train split, in the order shown.
    """

    name: str
    labels: tuple[str, ...] = ()
    demos: tuple[Example, ...] = ()
    multi_label: bool = False

    def messages(self, example: Example) -> tuple[Message, ...]:
        """The row's system message and the labels, the demonstrations as turns, then the row's question."""
        own = [message for message in example.context if message.role == "system"]
        solved = [turn for demo in self.demos for turn in (*_turns(demo), answer_turn(demo))]
        listing = [Message("system", self._choices())] if self.labels else []
        return (*own, *listing, *solved, *_turns(example))

    def _choices(self) -> str:
        """The labels as a list in which each is told apart: one with a comma is in quotes, or on a line."""
        with_commas = any("," in label or "\n" in label for label in self.labels)
        if self.multi_label:
            how = "as a JSON list" if with_commas else "separated by commas"
            labels = json.dumps(self.labels, ensure_ascii=False) if with_commas else ", ".join(self.labels)
            return f"Answer with all that fit, {how}, of: {labels}."
        if not with_commas:
            return f"Answer with one of: {', '.join(self.labels)}."
        return "\n".join(["Answer with one of these, each on a line:", *self.labels])


def zero_shot(labels: Sequence[str] = ()) -> Prompt:
    """The row's question, with the list of labels when the task has labels."""
    return Prompt(ZERO_SHOT, tuple(labels))


def few_shot(k: int, train: Sequence[Example], labels: Sequence[str], seed: int) -> Prompt:
    """zero-shot with k demonstrations, drawn from the train split by the seed.

    With labels, the demonstrations are balanced: their counts per label differ by at most one. GradeError
    when the split has no usable row.
    """
    usable = [example for example in train if example.context and has_answer(example)]
    if not usable:
        raise GradeError(f"few-shot-{k}: no row of the train split has both a question and an answer.")
    draw = random.Random(f"few-shot {seed}")
    shuffled = draw.sample(usable, len(usable))
    demos = _balanced(shuffled, draw) if labels else shuffled
    return Prompt(f"few-shot-{k}", tuple(labels), tuple(demos[:k]))


def build_prompt(shots: int, train: Sequence[Example], labels: Sequence[str], seed: int) -> Prompt:
    """The prompting candidate with this many demonstrations: zero-shot for 0, else few-shot-K."""
    return few_shot(shots, train, labels, seed) if shots else zero_shot(labels)


def read_prompt(
    path: Path, train: Sequence[Example], labels: Sequence[str], seed: int
) -> tuple[Prompt, str | None]:
    """The prompt in a file, and the instruction that it has in place of the task's; None keeps that.

    A .yaml, .yml or .json file has some of the keys instruction (text), labels (whether to list them, where
    the task has labels: true by default), shots (number of demonstrations from the train split) and examples
    (demonstrations of its own: a list of {question, answer}). Any other file is the instruction, and all that
    is said. Raises ConfigError, and GradeError as few_shot does.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text) if path.suffix in (".yaml", ".yml", ".json") else {"instruction": text}
        require_small(values)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"--prompt {path}: cannot be read: {error}") from None
    if not isinstance(values, dict) or not values:
        raise ConfigError(f"--prompt {path}: expected some of the keys {', '.join(PROMPT_KEYS)}.")
    for key, value in values.items():
        kind = PROMPT_KEYS.get(key)
        if kind is None or type(value) is not kind:
            known = ", ".join(f"{name} ({one.__name__})" for name, one in PROMPT_KEYS.items())
            raise ConfigError(f"--prompt {path}: {key}: {str(value)[:40]!r} is not one of {known}.")
    shots, given = values.get("shots", 0), values.get("examples", [])
    if shots < 0 or (shots and given):
        raise ConfigError(f"--prompt {path}: shots is a count of training rows, in place of examples.")
    demos = []
    for number, one in enumerate(given, 1):
        if not isinstance(one, dict) or {"question", "answer"} != one.keys():
            raise ConfigError(f"--prompt {path}: example {number}: expected {{question: ..., answer: ...}}.")
        asked = (Message("user", str(one["question"])),)
        demos.append(Example(f"example {number}", asked, (Answer(str(one["answer"])),)))
    listed = tuple(labels) if path.suffix in (".yaml", ".yml", ".json") and values.get("labels", True) else ()
    drawn = build_prompt(shots, train, labels, seed).demos
    instruction = values.get("instruction")
    return Prompt(FROM_FILE, listed, drawn or tuple(demos)), instruction and instruction.strip()


def fit_prompt(
    prompt: Prompt, example: Example, tokens: Callable[[tuple[Message, ...]], int], limit: int
) -> Prompt:
    """The prompt with as many of its last demonstrations as fit the row's context into `limit` tokens.

    Where even the list of labels does not fit, the plain prompt, whatever its length.
    """
    for first in range(len(prompt.demos) + 1):
        shorter = replace(prompt, demos=prompt.demos[first:])
        if tokens(shorter.messages(example)) <= limit:
            return shorter
    return Prompt(prompt.name)


def _balanced(examples: Sequence[Example], draw: random.Random) -> list[Example]:
    """One example of every label, then a second of each, and so on; the labels of a round in random order."""
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.target.strip(), []).append(example)
    ordered: list[Example] = []
    while groups:
        names = sorted(groups)
        draw.shuffle(names)
        ordered += [groups[name].pop() for name in names]
        groups = {name: group for name, group in groups.items() if group}
    return ordered


def _turns(example: Example) -> list[Message]:
    return [message for message in example.context if message.role != "system"]
