"""The texts that graders compare: answers without reasoning, expected answers as the template writes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from finetooth.data.render import turns
from finetooth.errors import DataError
from finetooth.types import Example

if TYPE_CHECKING:
    from finetooth.data.render.renderer import Renderer

THINK, END_THINK = "<think>", "</think>"
AnswerNormaliser = Callable[[Example, str], tuple[Example, str]]


def identity(example: Example, text: str) -> tuple[Example, str]:
    """The row and the answer, unchanged."""
    return example, text


def answer_normaliser(renderer: Renderer) -> AnswerNormaliser:
    """A function that turns a row and an answer into what graders compare.

    An expected answer with tool calls or reasoning becomes the text that the run's template writes for it.
    Leading reasoning is removed from both: many lines of reasoning lead to one answer.
    """

    def normalise(example: Example, text: str) -> tuple[Example, str]:
        try:
            turn = turns.answer_turn(example)
            thinks = bool(turns.reasoning(turn))
            rendered = renderer.answer_text(example)
        except DataError:
            return example, strip_reasoning(text, False)
        if thinks or rendered != turn.content:
            expected = strip_reasoning(rendered, thinks)
            answers = tuple(
                replace(answer, text=expected if answer.text == turn.content else answer.text)
                for answer in example.answers
            )
            example = replace(example, answers=answers)
        return example, strip_reasoning(text, thinks)

    return normalise


def strip_reasoning(text: str, opened: bool) -> str:
    """The text after its leading reasoning. opened: the prompt already holds the opening tag."""
    before, end, after = text.partition(END_THINK)
    return after.strip() if end and (opened or before.lstrip().startswith(THINK)) else text
