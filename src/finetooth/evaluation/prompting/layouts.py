"""Layouts: equivalent forms of one prompt. Instruction, labels, demonstrations and question stay the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetooth.data.render.turns import answer_turn
from finetooth.types import Example, Message


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a prompt stand.

    listed_in: the message that lists the labels. cue: the question is written as "Text: ...", and ends with
    "Label:". demos_in: demonstrations are turns, or a block of text in the system message or the question.
    """

    name: str
    listed_in: str = "system"
    cue: bool = False
    demos_in: str = "turns"

    def messages(
        self, example: Example, listing: str, demos: Sequence[Example], has_labels: bool
    ) -> tuple[Message, ...]:
        """The row's system message and the list of labels, the demonstrations, then the row's question.

        listing: the sentence with the labels, "" for none. A row or a demonstration that is not a single
        question (a conversation, tool calls) is laid out as turns.
        """
        if self != TURNS and not all(is_single_question(one) for one in (example, *demos)):
            return TURNS.messages(example, listing, demos, has_labels)
        system = [message for message in example.context if message.role == "system"]
        before, asked = [], question_turns(example)
        if self.cue:
            asked = [Message("user", self._cued(example, has_labels))]
        if listing and self.listed_in == "system":
            system.append(Message("system", listing))
        elif listing:
            asked = [Message("user", f"{listing}\n\n{asked[0].content}")]
        if self.demos_in == "turns":
            for demo in demos:
                cued = [Message("user", self._cued(demo, has_labels))] if self.cue else question_turns(demo)
                before += [*cued, answer_turn(demo)]
        elif demos:
            solved = [f"{self._cued(demo, has_labels)} {answer_turn(demo).content}" for demo in demos]
            if self.demos_in == "system":
                system.append(Message("system", "\n\n".join(["Examples:", *solved])))
            else:
                *head, last = ([listing] if listing else []) + [self._cued(example, has_labels)]
                asked = [Message("user", "\n\n".join([*head, *solved, last]))]
        return (*system, *before, *asked)

    @staticmethod
    def _cued(example: Example, has_labels: bool) -> str:
        text, answer = ("Text", "Label") if has_labels else ("Input", "Answer")
        return f"{text}: {question_turns(example)[0].content}\n{answer}:"


TURNS = Layout("turns")
LAYOUTS = {
    layout.name: layout
    for layout in (
        TURNS,
        Layout("question", listed_in="question"),
        Layout("cue", cue=True),
        Layout("block", listed_in="question", cue=True, demos_in="question"),
        Layout("system-block", cue=True, demos_in="system"),
    )
}


def question_turns(example: Example) -> list[Message]:
    """The messages of a row's context without its system message."""
    return [message for message in example.context if message.role != "system"]


def is_single_question(example: Example) -> bool:
    """Whether the row is one user message, and its answer plain text."""
    asked = question_turns(example)
    plain = not example.tools and not answer_turn(example).more
    return plain and len(asked) == 1 and asked[0].role == "user" and not asked[0].more
