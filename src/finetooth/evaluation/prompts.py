"""Prompting baselines: what the base model can do without fine-tuning, and what fine-tuning has to beat.

A plain prompt is the row's own context (as for the tuned model); zero-shot also lists the labels; few-shot-K
also puts K solved training rows in front. The Renderer adds the task's instruction to all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from finetooth.evaluation.prompting.demonstrations import Nearest, drawn, usable
from finetooth.evaluation.prompting.layouts import TURNS, Layout
from finetooth.types import Example, Message

ZERO_SHOT = "zero-shot"
FROM_FILE = "prompt"


@dataclass(frozen=True, slots=True)
class Prompt:
    """How a row becomes the messages that are sent to the model.

    labels: listed in the system message. multi_label: several of them may be right. demos: solved rows of the
    train split, in the order shown; nearest: chooses them for each row instead. layout: where all this
    stands. offsets: what is added to each label's log-probability (nats) before the likeliest is chosen.
    """

    name: str
    labels: tuple[str, ...] = ()
    demos: tuple[Example, ...] = ()
    multi_label: bool = False
    layout: Layout = TURNS
    nearest: Nearest | None = None
    offsets: Mapping[str, float] | None = None

    @property
    def shots(self) -> int:
        """How many demonstrations a row gets."""
        return len(self.demos) if self.nearest is None else min(self.nearest.k, len(self.nearest.index.rows))

    def of_row(self, example: Example) -> Prompt:
        """The prompt with the demonstrations of this row."""
        return self if self.nearest is None else replace(self, demos=self.nearest(example), nearest=None)

    def messages(self, example: Example) -> tuple[Message, ...]:
        """The row's system message and the labels, the demonstrations, then the row's question."""
        demos = self.of_row(example).demos
        return self.layout.messages(example, self._choices() if self.labels else "", demos, bool(self.labels))

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
    rows = usable(train, f"few-shot-{k}")
    return Prompt(f"few-shot-{k}", tuple(labels), drawn(k, rows, seed, balanced=bool(labels)))


def build_prompt(shots: int, train: Sequence[Example], labels: Sequence[str], seed: int) -> Prompt:
    """The prompting candidate with this many demonstrations: zero-shot for 0, else few-shot-K."""
    return few_shot(shots, train, labels, seed) if shots else zero_shot(labels)


def fit_prompt(
    prompt: Prompt, example: Example, tokens: Callable[[tuple[Message, ...]], int], limit: int
) -> Prompt:
    """The prompt with as many of its last demonstrations as fit the row's context into `limit` tokens.

    Where even the list of labels does not fit, the plain prompt, whatever its length.
    """
    prompt = prompt.of_row(example)
    for first in range(len(prompt.demos) + 1):
        shorter = replace(prompt, demos=prompt.demos[first:])
        if tokens(shorter.messages(example)) <= limit:
            return shorter
    return Prompt(prompt.name)
