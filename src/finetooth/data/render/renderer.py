"""Renders examples as rows of token ids, identically for training, evaluation and serving.

A row is a context, rendered exactly as a server would, and the continuation that the model has to generate:
the answer up to and including the first stop token, and only that is scored. Spans come from rendering with
and without the answer; text written by a user is never searched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from finetooth.data.examples import source_location
from finetooth.data.render import turns
from finetooth.data.render.chat_template import ChatTemplate, Clock, select_template
from finetooth.data.render.limits import TemplateLimit
from finetooth.data.render.template_encoder import (
    PROBE_ANSWER,
    PROBE_QUESTION,
    TemplateEncoder,
    Tools,
    common_prefix_length,
)
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import DataError
from finetooth.tree import Row
from finetooth.types import Example, Message

NO_BOS = "The tokenizer has no BOS: rows of plain text start with its EOS."
SAME_TOKENS = "chosen and rejected are the same as the template writes them, so there is nothing to prefer."
MAX_UNUSABLE = 0.01  # share of the examples
FRAME_CACHE = 1000  # combinations of system message and tools
MARKUP = re.compile(r"<[|｜][^<>|｜\s]+[|｜]>|<(?:start|end)_of_turn>|\[/?INST\]")


@dataclass(frozen=True, slots=True)
class RenderedRows:
    """Rows in the order of their examples. rejected: (example, reason) of those that cannot be rendered."""

    rows: list[Row]
    rejected: list[tuple[Example, str]]


class Renderer:
    """Renders messages as rows with one template.

    template: auto (the tokenizer's chat template, else instruction), chat, instruction, plain or a .jinja
    file. instruction: a system prompt for every context; an example's own system message follows it.
    clock: read once, for the date in templates. Raises DataError if the template cannot be trained on.

    kind: chat, instruction, plain or file. stop_id: the token that ends an answer. added_system: the system
    message that the template itself writes into contexts without one, "" if none. notes: for the user,
    complete once the rows are rendered.

    For answers with reasoning the template's thinking switch is on. For others it keeps the template's
    default, or is off if only then the context ends as the template writes such an answer.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: str = "auto",
        instruction: str = "",
        clock: Clock = datetime.now,
    ) -> None:
        self.tokenizer = tokenizer
        self.instruction = instruction
        self.kind, source, where = select_template(tokenizer, template)
        self._where = where
        now = clock()  # one date, so that a context is the same text with and without its answer
        self._encoder = TemplateEncoder(
            tokenizer, ChatTemplate(source, tokenizer.special_tokens, where, lambda: now)
        )
        self.notes = self._encoder.notes
        self.stop_id = self._encoder.stop_id
        self._frames: dict[str, list[list[int]]] = {}
        self._reasoning_count = self._answer_count = 0
        self._encoder.check_trainable(self._merged([Message("user", PROBE_QUESTION)]))
        self.added_system = "" if instruction else self._encoder.default_system()
        self._note_peculiarities()

    @property
    def boundary_merges(self) -> int:
        """Number of answers so far whose start the tokenizer merges with the end of the context."""
        return self._encoder.merges

    @property
    def chat_template(self) -> str:
        """The jinja text to save with the model; thinking is on by default if all answers have reasoning."""
        return self._encoder.saved(0 < self._reasoning_count == self._answer_count)

    def context_row(
        self, messages: Sequence[Message], tools: Tools = (), thinking: bool | None = False
    ) -> Row:
        """The prompt of evaluation and serving for these messages: ids with the answer's opening, weights 0.

        thinking: prompt for an answer with reasoning; `thinks(example)` is the value of an example's own row.
        None: the template's default.
        """
        mode = None if thinking is None else self._encoder.mode(thinking)
        ids = self._encoder.context(self._merged(messages), tools, mode)[1]
        return Row(ids, np.zeros(len(ids)))

    def answer_ids(
        self, messages: Sequence[Message], answer: str | Message, tools: Tools = ()
    ) -> tuple[int, ...]:
        """The ids that continue `context_row(messages)` for this answer, including its stop token.

        answer: a text, or a turn with all its fields, such as `turns.answer_turn(example)`.
        """
        turn = Message("assistant", answer) if isinstance(answer, str) else answer
        return tuple(self._encoder.split(self._merged(messages), turn, tools)[1])

    def answer_text(self, example: Example) -> str:
        """The example's answer as a model generates it: tool calls and reasoning as the template writes them.

        An answer without these, and plain text, is returned as it is. Raises DataError as `rows` does.
        """
        turn = turns.answer_turn(example)
        if not example.context or not (turns.tool_calls(turn) or turns.reasoning(turn)):
            return turn.content
        ids = self._encoder.split(self._merged(example.context), turn, example.tools)[1]
        return self.tokenizer.decode(ids[:-1]).strip()

    def thinks(self, example: Example) -> bool:
        """Whether the example's answer has reasoning, so that its context prompts for it."""
        return bool(turns.reasoning(turns.answer_turn(example)))

    def can_answer(self, answer: str) -> bool:
        """Whether this text can be an answer: not empty and without text of a special token."""
        return bool(answer.strip()) and not self.tokenizer.special_in(answer, self.stop_id)

    def special_text(self, example: Example) -> str:
        """The first text of a special token in the example's context, which is read as the token; else ""."""
        asked = "\0".join(f"{message.content}\0{message.more}" for message in example.context)
        return self.tokenizer.special_in(asked)

    def rows(self, example: Example) -> list[Row]:
        """One row per assistant turn with a weight above 0, which scales its weights; plain text is one row.

        `kept` counts the tokens that every context with this system message and tools has at its start (BOS,
        system) and end (the answer's opening; tools, if they come late); `fit_rows` never cuts them. With
        several rows, `#k` after the example's id is the number of the turn.

        Raises DataError, naming the example, if an answer cannot be scored as it is, or if the template
        leaves out part of it, tools or tool calls.
        """
        try:
            scored = turns.scored_turns(example)
            if not example.context:
                return [self._text_row(example, scored[0][2])]
            rows = []
            for number, context, turn in scored:
                messages, tools = self._merged(context), example.tools
                mode = self._encoder.mode(bool(turns.reasoning(turn)))
                context_ids, answer_ids = self._encoder.split(messages, turn, tools)
                head, tail = self._frame(context, tools, mode, context_ids)
                if tools:
                    tail = max(tail, self._encoder.tools_behind(messages, mode, context_ids, head))
                weight = [0.0] * len(context_ids) + [turn.weight] * len(answer_ids)
                id = example.id if len(scored) == 1 else f"{example.id}#{number}"
                ids = [*context_ids, *answer_ids]
                rows.append(Row(ids, weight, id=id, example_id=example.id, kept=(head, tail)))
            return rows
        except TemplateLimit:
            raise
        except DataError as error:
            raise DataError(f"Row {source_location(example)}: {error}") from error

    def pair(self, example: Example) -> list[Row]:
        """The chosen and the rejected answer, each after the context: two rows of one unit, the example's id.

        The signal `chosen` is 1 for the first, 0 for the second; no other turn is scored. Raises DataError,
        also for two answers that the template writes with the same tokens.
        """
        pair = []
        context = [replace(m, weight=0.0) if m.role == "assistant" else m for m in example.context]
        for role in ("chosen", "rejected"):
            answer = next((answer for answer in example.answers if answer.role == role), None)
            if answer is None:
                raise DataError(f"Row {source_location(example)}: there is no {role} answer.")
            target = replace(answer, role="target")
            row = self.rows(replace(example, context=tuple(context), answers=(target,)))[0]
            signals = {"chosen": float(role == "chosen")}
            pair.append(replace(row, signals=signals, unit=example.id, id=example.id))
        if np.array_equal(pair[0].tokens, pair[1].tokens):
            raise DataError(f"Row {source_location(example)}: {SAME_TOKENS}")
        return pair

    def training_rows(self, example: Example) -> list[Row]:
        """The example's rows, or both rows of its preference pair. Raises DataError as `rows` does."""
        pair = any(answer.role == "rejected" for answer in example.answers)
        return self.pair(example) if pair else self.rows(example)

    def render_all(self, examples: Sequence[Example], total: int = 0, pairs: bool = False) -> RenderedRows:
        """Rows of many examples; one that cannot be rendered is rejected with its reason.

        pairs: rows of chosen and rejected answers, see `pair`. Raises DataError if more than 1% of the
        examples, or of the `total` that they belong to, are rejected.
        """
        rows: list[Row] = []
        rejected: list[tuple[Example, str]] = []
        for example in examples:
            try:
                rows.extend(self.pair(example) if pairs else self.rows(example))
            except TemplateLimit:
                raise
            except DataError as error:
                rejected.append((example, str(error)))
                continue
            self.count_reasoning(example)
        if len(rejected) > MAX_UNUSABLE * max(total, len(examples)):
            reasons = "\n".join(f"  {reason}" for _, reason in rejected[:3])
            raise DataError(
                f"{len(rejected)} of {len(examples)} rows cannot be rendered, more than 1%. "
                f"The first:\n{reasons}"
            )
        return RenderedRows(rows, rejected)

    def count_reasoning(self, example: Example) -> None:
        """Update the note on how many scored answers have reasoning, if only some do, and `chat_template`."""
        previous = self._mixture()
        if previous in self.notes:
            self.notes.remove(previous)
        for _, _, turn in turns.scored_turns(example):
            self._reasoning_count += bool(turns.reasoning(turn))
            self._answer_count += 1
        if 0 < self._reasoning_count < self._answer_count:
            self.notes.append(self._mixture())

    def _mixture(self) -> str:
        how = "the template has no switch, so the model itself decides whether it thinks."
        if switch := self._encoder.template.switch:
            how = (
                f"in training they are asked with {switch}=true, the others not; evaluation, chat and "
                "predict ask without it. To get reasoning from a server, set it there."
            )
        return f"{self._reasoning_count} of {self._answer_count} answers begin with reasoning: {how}"

    def _text_row(self, example: Example, turn: Message) -> Row:
        """BOS (else EOS), the text, EOS; all but the first are scored."""
        tokenizer = self.tokenizer
        if example.tools or turn.more:
            raise DataError("plain text cannot have tools, tool calls or reasoning; use messages.")
        self._encoder.check_answer(turn)
        ends = [index for index in (tokenizer.bos_token_id, tokenizer.eos_token_id) if index is not None]
        start = [*tokenizer.prefix_ids] or ends[:1]
        if not start or tokenizer.eos_token_id is None:
            raise DataError("plain text needs an end-of-sequence token; the tokenizer has no eos_token.")
        ids = [*start, *tokenizer.encode(turn.content), tokenizer.eos_token_id]
        if start == [tokenizer.eos_token_id] != [tokenizer.bos_token_id] and NO_BOS not in self.notes:
            self.notes.append(NO_BOS)
        weight = [0.0] * len(start) + [turn.weight] * (len(ids) - len(start))
        return Row(ids, weight, id=example.id, kept=(len(start), 0))

    def _frame(
        self, context: Sequence[Message], tools: Tools, mode: bool | None, ids: list[int]
    ) -> tuple[int, int]:
        """Lengths of the parts of this context before the question (BOS, system, tools) and after it."""
        system = [message for message in context if message.role == "system"]
        key = json.dumps([mode, [message.content for message in system], [*tools]], default=str)
        if len(self._frames) > FRAME_CACHE:
            self._frames.clear()
        if key not in self._frames:
            self._frames[key] = [
                self._encoder.context(self._merged([*system, Message("user", probe)]), tools, mode)[1]
                for probe in (PROBE_QUESTION, PROBE_ANSWER)
            ]
        one, two = self._frames[key]  # contexts that differ only in the question
        head = min(common_prefix_length(one, two), common_prefix_length(one, ids))
        tail = min(common_prefix_length(one[::-1], two[::-1]), common_prefix_length(one[::-1], ids[::-1]))
        return head, tail

    def _merged(self, messages: Sequence[Message]) -> list[Message]:
        """The messages with the instruction in the system message, or both in the first user message."""
        own = [message.content for message in messages if message.role == "system"]
        rest = [message for message in messages if message.role != "system"]
        asked = [*own, *(message.content for message in rest[:1] if message.role == "user")]
        given = any(_begins_with(text, self.instruction) for text in asked)  # then it stands there once
        system = "\n\n".join(text for text in [*([] if given else [self.instruction]), *own] if text)
        if not system:
            return rest
        if self._encoder.takes_system:
            return [Message("system", system), *rest]
        if rest and rest[0].role == "user":
            return [replace(rest[0], content=f"{system}\n\n{rest[0].content}"), *rest[1:]]
        return [Message("user", system), *rest]

    def _note_peculiarities(self) -> None:
        if not self._encoder.takes_system:
            self.notes.append(
                f"{self._where} takes no system message: its text goes in front of the first question."
            )
        if self.added_system:
            self.notes.append(
                f"the template adds a system message: {json.dumps(self.added_system, ensure_ascii=False)}, "
                "where a row has none. It is part of every prompt; `instruction` replaces it."
            )
        if "strftime_now" in self.chat_template and self.kind in ("chat", "file"):
            self.notes.append(f"{self._where} may write today's date: contexts can differ from day to day.")
        prefix = list(self.tokenizer.prefix_ids)
        probe = self.context_row([Message("user", PROBE_QUESTION)]).tokens.tolist()
        text = self.tokenizer.decode(probe)
        unknown = sorted({mark for mark in MARKUP.findall(text) if self.tokenizer.id_of(mark) is None})
        if unknown and self.kind == "file":
            self.notes.append(
                f"{self._where} writes {', '.join(unknown)}, and this tokenizer has no such token: the model "
                "reads it as plain text."
            )
        if prefix and probe[: len(prefix)] != prefix:
            self.notes.append(
                f"{self._where} writes no BOS, though the tokenizer puts one in front of text: contexts have "
                "none, as other servers render them."
            )


def _begins_with(text: str, instruction: str) -> bool:
    """Whether a row says the instruction itself: it is its text, or its first paragraph."""
    given, wanted = text.strip(), instruction.strip()
    return bool(wanted) and (given == wanted or given.startswith((f"{wanted}\n", f"{wanted}\r\n")))
