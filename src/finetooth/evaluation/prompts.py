"""Prompting: what one can do with the base model before fine-tuning it, and what fine-tuning has to beat.

plain asks the question as it stands (as the tuned model is asked); zero-shot lists the labels too; few-shot-K
puts K solved training rows in front. The task's own instruction is added to all of them by the Renderer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from finetooth.data.render.turns import answer_turn
from finetooth.errors import GradeError
from finetooth.types import Example, Message


@dataclass(frozen=True, slots=True)
class Prompt:
    """How a row becomes the messages that are sent to the model.

    labels: listed in the system message, of which `multi_label` may be right. demos: solved rows of the train
    split, in the order shown.
    """

    name: str
    labels: tuple[str, ...] = ()
    demos: tuple[Example, ...] = ()
    multi_label: bool = False

    def messages(self, example: Example) -> tuple[Message, ...]:
        """The row's system message and the labels, the demonstrations as turns, then the row's question."""
        own = [message for message in example.context if message.role == "system"]
        turns = [message for message in example.context if message.role != "system"]
        ask = "all that fit, separated by commas," if self.multi_label else "one"
        choices = f"Answer with {ask} of: {', '.join(self.labels)}."
        listing = [Message("system", choices)] if self.labels else []
        return (*own, *listing, *(turn for demo in self.demos for turn in _solved(demo)), *turns)


def zero_shot(labels: Sequence[str] = ()) -> Prompt:
    """The question with the labels that may be answered, when the task has labels."""
    return Prompt("zero-shot", tuple(labels))


def few_shot(k: int, train: Sequence[Example], labels: Sequence[str], seed: int) -> Prompt:
    """zero-shot with k demonstrations, drawn from the train split by the seed.

    With labels, no label is shown once more than another. GradeError when the split cannot give any.
    """
    usable = [example for example in train if example.context and example.target.strip()]
    if not usable:
        raise GradeError(f"few-shot-{k}: no row of the train split has a question and an answer to show.")
    draw = random.Random(f"few-shot {seed}")
    shuffled = draw.sample(usable, len(usable))
    demos = _balanced(shuffled, draw) if labels else shuffled
    return Prompt(f"few-shot-{k}", tuple(labels), tuple(demos[:k]))


def build_prompt(shots: int, train: Sequence[Example], labels: Sequence[str], seed: int) -> Prompt:
    """The prompting candidate with this many demonstrations: zero-shot for 0, else few-shot-K."""
    return few_shot(shots, train, labels, seed) if shots else zero_shot(labels)


def fit_prompt(
    prompt: Prompt, example: Example, tokens: Callable[[tuple[Message, ...]], int], limit: int
) -> Prompt:
    """The prompt with as many of its last demonstrations as keep the row's context within limit tokens.

    Where even the labels are too long, the plain prompt, whatever its length.
    """
    for first in range(len(prompt.demos) + 1):
        shorter = replace(prompt, demos=prompt.demos[first:])
        if tokens(shorter.messages(example)) <= limit:
            return shorter
    return Prompt(prompt.name)


def _balanced(examples: Sequence[Example], draw: random.Random) -> list[Example]:
    """One example of every label, then a second of each, and so on; labels in a random order per round."""
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


def _solved(demo: Example) -> tuple[Message, ...]:
    turns = tuple(message for message in demo.context if message.role != "system")
    return (*turns, answer_turn(demo))
