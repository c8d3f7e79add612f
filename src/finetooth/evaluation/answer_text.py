"""What of an answer is compared: of the expected one, what a model writes; of both, no thought in front."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from finetooth.data.render import turns
from finetooth.errors import DataError
from finetooth.types import Example

if TYPE_CHECKING:
    from finetooth.data.render.renderer import Renderer

THOUGHT, THOUGHT_ENDS = "<think>", "</think>"
AnswerNormaliser = Callable[[Example, str], tuple[Example, str]]


def identity(example: Example, text: str) -> tuple[Example, str]:
    """The row and the answer, unchanged."""
    return example, text


def answer_normaliser(renderer: Renderer) -> AnswerNormaliser:
    """The row and the answer as graders get them.

    An expected answer that calls functions or begins with a thought is what the run's template writes for it.
    A thought in front of either is left out: it is a way to the answer, of which there are many.
    """

    def compared(example: Example, text: str) -> tuple[Example, str]:
        try:
            turn = turns.answer_turn(example)
            thinks = bool(turns.reasoning(turn))
            written = renderer.answer_text(example)
        except DataError:
            return example, strip_reasoning(text, False)
        if thinks or written != turn.content:
            expected = strip_reasoning(written, thinks)
            answers = tuple(
                replace(answer, text=expected if answer.text == turn.content else answer.text)
                for answer in example.answers
            )
            example = replace(example, answers=answers)
        return example, strip_reasoning(text, thinks)

    return compared


def strip_reasoning(text: str, opened: bool) -> str:
    """What follows a thought that the text begins with, or ends where the context has opened it."""
    before, end, after = text.partition(THOUGHT_ENDS)
    return after.strip() if end and (opened or before.lstrip().startswith(THOUGHT)) else text
