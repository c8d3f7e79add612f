"""Rendering: an example becomes Rows of token ids. The one function for training, evaluation and serving.

A row is a context, rendered exactly as a server would render it, and the continuation that the model has to
emit: the answer up to and including the first stop token, which is all that is scored. Spans come from the
two renderings, with and without the answer; nothing is searched for in text that a user wrote.
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
from finetooth.data.render.boundary import common_prefix_length
from finetooth.data.render.chat_template import ChatTemplate, Clock, select_template
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.data.render.writer import PROBE_ANSWER, PROBE_QUESTION, TemplateEncoder, Tools
from finetooth.errors import DataError
from finetooth.tree import Row
from finetooth.types import Example, Message

NO_BOS = "The tokenizer has no BOS: rows of plain text start with its EOS."
MOST_UNUSABLE = 0.01
FRAMES = 1000  # of so many system messages and tools the ends are remembered
MARKUP = re.compile(r"<[|｜][^<>|｜\s]+[|｜]>|<(?:start|end)_of_turn>|\[/?INST\]")


@dataclass(frozen=True, slots=True)
class Rendered:
    """Examples as rows. rejected: (example, reason) of those set aside. rows are in the examples' order."""

    rows: list[Row]
    rejected: list[tuple[Example, str]]


class Renderer:
    """Turns messages into rows with one template.

    template: auto (the tokenizer's chat template, else instruction), chat, instruction, plain or a .jinja
    file. instruction: a system prompt for every context; an example's own system message follows it.
    clock: read once, for the date in templates. Raises DataError when a template cannot be trained on.

    kind: chat, instruction, plain or file. stop_id: the token that ends an answer. notes: what the user
    should know, complete after the rows are made.

    Answers that begin with a thought are asked with the template's switch for thinking on, others with it as
    the template has it, or off where only then the context ends as the template writes such an answer.
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
        now = clock()  # a context and its continuation, rendered seconds apart, are the same text
        self._writer = TemplateEncoder(
            tokenizer, ChatTemplate(source, tokenizer.special_tokens, where, lambda: now)
        )
        self.notes = self._writer.notes
        self.stop_id = self._writer.stop_id
        self._frames: dict[str, list[list[int]]] = {}
        self._thoughts = self._answers = 0
        self._writer.prove(self._merged([Message("user", PROBE_QUESTION)]))
        self._take_notes()

    @property
    def boundary_merges(self) -> int:
        """Answers so far whose start the tokenizer joins with the end of the context."""
        return self._writer.merges

    @property
    def chat_template(self) -> str:
        """The jinja text to save with the model: its switch for thinking is on if all rows so far think."""
        return self._writer.saved(0 < self._thoughts == self._answers)

    def context_row(
        self, messages: Sequence[Message], tools: Tools = (), thinking: bool | None = False
    ) -> Row:
        """What evaluation and serving send for these messages: ids with the answer's opening, no weights.

        thinking: ask for an answer that begins with a thought; `thinks(example)` says what its row asks for.
        None: as the template asks when nobody says.
        """
        mode = None if thinking is None else self._writer.mode(thinking)
        ids = self._writer.context(self._merged(messages), tools, mode)[1]
        return Row(ids, np.zeros(len(ids)))

    def answer_ids(
        self, messages: Sequence[Message], answer: str | Message, tools: Tools = ()
    ) -> tuple[int, ...]:
        """The ids that continue `context_row(messages)` for this answer, its stop token included.

        answer: a text, or a turn with all that it came with: `turns.answer_turn(example)`.
        """
        turn = Message("assistant", answer) if isinstance(answer, str) else answer
        return tuple(self._writer.split(self._merged(messages), turn, tools)[1])

    def answer_text(self, example: Example) -> str:
        """The example's answer as a model generates it: calls and thoughts as the template writes them.

        Of an answer without these, and of plain text, the text itself. Raises DataError as `rows` does.
        """
        turn = turns.answer_turn(example)
        if not example.context or not (turns.calls(turn) or turns.thought(turn)):
            return turn.content
        ids = self._writer.split(self._merged(example.context), turn, example.tools)[1]
        return self.tokenizer.decode(ids[:-1]).strip()

    def thinks(self, example: Example) -> bool:
        """Whether the example's answer begins with a thought, so that its context asks for one."""
        return bool(turns.thought(turns.answer_turn(example)))

    def can_answer(self, answer: str) -> bool:
        """Whether this text can be an answer: not empty, and without the text of a special token."""
        return bool(answer.strip()) and not any(text in answer for text in self.tokenizer.special_texts)

    def rows(self, example: Example) -> list[Row]:
        """One row per assistant turn of a weight above 0, which scales the row's. Plain text gives one row.

        `kept` says how many tokens in front (BOS, system) and behind (the answer's opening) every context of
        this kind has, tools and what stands behind them included: what `fit_rows` never cuts. Where there are
        several rows, `#k` after the example's id is the number of the turn.

        Raises DataError, naming the example, when an answer cannot be scored as it stands, or when the
        template leaves out a part of it, its tools or their calls.
        """
        try:
            scored = turns.scored_turns(example)
            if not example.context:
                return [self._text_row(example, scored[0][2])]
            rows = []
            for number, context, turn in scored:
                id = example.id if len(scored) == 1 else f"{example.id}#{number}"
                rows.append(replace(self._row(context, turn, example.tools), id=id, example_id=example.id))
            return rows
        except DataError as error:
            raise DataError(f"Row {source_location(example)}: {error}") from error

    def pair(self, example: Example) -> list[Row]:
        """The chosen and the rejected answer behind their context: two rows of one unit, the example's id.

        The signal `chosen` is 1 of the first and 0 of the second; no other turn is scored. Raises DataError.
        """
        found = []
        unlearned = [replace(m, weight=0.0) if m.role == "assistant" else m for m in example.context]
        for role in ("chosen", "rejected"):
            answers = [replace(answer, role="target") for answer in example.answers if answer.role == role][
                :1
            ]
            if not answers:
                raise DataError(f"Row {source_location(example)}: there is no {role} answer.")
            row = self.rows(replace(example, context=tuple(unlearned), answers=tuple(answers)))[0]
            signals = {"chosen": float(role == "chosen")}
            found.append(replace(row, signals=signals, unit=example.id, id=example.id))
        return found

    def training_rows(self, example: Example) -> list[Row]:
        """What an example trains: its rows, or both rows of its preference pair. DataError as `rows`."""
        pair = any(answer.role == "rejected" for answer in example.answers)
        return self.pair(example) if pair else self.rows(example)

    def render_all(self, examples: Sequence[Example], total: int = 0, pairs: bool = False) -> Rendered:
        """Rows of many examples; one whose answer cannot be scored is set aside with its reason.

        pairs: of chosen and rejected answers, see `pair`. Raises DataError when these are more than 1% of the
        examples, or of the `total` that they belong to.
        """
        rows: list[Row] = []
        rejected: list[tuple[Example, str]] = []
        for example in examples:
            try:
                rows.extend(self.pair(example) if pairs else self.rows(example))
            except DataError as error:
                rejected.append((example, str(error)))
                continue
            self.count_thoughts(example)
        if len(rejected) > MOST_UNUSABLE * max(total, len(examples)):
            reasons = "\n".join(f"  {reason}" for _, reason in rejected[:3])
            raise DataError(
                f"{len(rejected)} of {len(examples)} rows cannot be rendered, more than 1%. "
                f"The first:\n{reasons}"
            )
        return Rendered(rows, rejected)

    def count_thoughts(self, example: Example) -> None:
        """Note how many scored answers begin with a thought, where only some do; `chat_template` follows."""
        last = self._mixture()
        for _, _, turn in turns.scored_turns(example):
            self._thoughts += bool(turns.thought(turn))
            self._answers += 1
        if last in self.notes:
            self.notes.remove(last)
        if 0 < self._thoughts < self._answers:
            self.notes.append(self._mixture())

    def _mixture(self) -> str:
        asked = "the template has no switch, so the model itself decides whether it thinks."
        if self._writer.template.switch:
            asked = (
                f"they are asked with {self._writer.template.switch}=true, the others not. To get a "
                "thought from a server, ask it so too."
            )
        return f"{self._thoughts} of {self._answers} answers begin with a thought: {asked}"

    def _row(self, context: Sequence[Message], turn: Message, tools: Tools) -> Row:
        context_ids, answer_ids = self._writer.split(self._merged(context), turn, tools)
        weight = np.zeros(len(context_ids) + len(answer_ids))
        weight[len(context_ids) :] = turn.weight
        mode = self._writer.mode(bool(turns.thought(turn)))
        head, tail = self._frame(context, tools, mode, context_ids)
        if tools:
            tail = max(tail, self._writer.tools_behind(self._merged(context), mode, context_ids, head))
        return Row([*context_ids, *answer_ids], weight, kept=(head, tail))

    def _text_row(self, example: Example, turn: Message) -> Row:
        """BOS (else EOS), the text, EOS; all scored but the first."""
        tokenizer = self.tokenizer
        if example.tools or turn.more:
            raise DataError("plain text has no place for tools, calls or a thought; use messages.")
        self._writer.check_answer(turn)
        ends = [index for index in (tokenizer.bos_token_id, tokenizer.eos_token_id) if index is not None]
        start = [*tokenizer.prefix_ids] or ends[:1]
        if not start or tokenizer.eos_token_id is None:
            raise DataError("plain text needs an end-of-sequence token; the tokenizer names no eos_token.")
        ids = [*start, *tokenizer.encode(turn.content), tokenizer.eos_token_id]
        if start == [tokenizer.eos_token_id] != [tokenizer.bos_token_id] and NO_BOS not in self.notes:
            self.notes.append(NO_BOS)
        weight = [0.0] * len(start) + [turn.weight] * (len(ids) - len(start))
        return Row(ids, weight, id=example.id, kept=(len(start), 0))

    def _frame(
        self, context: Sequence[Message], tools: Tools, mode: bool | None, ids: list[int]
    ) -> tuple[int, int]:
        """How many tokens of this context any question has in front (BOS, system, tools) and behind it."""
        system = [message for message in context if message.role == "system"]
        key = json.dumps([mode, [message.content for message in system], [*tools]], default=str)
        if len(self._frames) > FRAMES:
            self._frames.clear()
        if key not in self._frames:
            self._frames[key] = [
                self._writer.context(self._merged([*system, Message("user", probe)]), tools, mode)[1]
                for probe in (PROBE_QUESTION, PROBE_ANSWER)
            ]
        one, two = self._frames[key]
        head = min(common_prefix_length(one, two), common_prefix_length(one, ids))
        tail = min(common_prefix_length(one[::-1], two[::-1]), common_prefix_length(one[::-1], ids[::-1]))
        return head, tail

    def _merged(self, messages: Sequence[Message]) -> list[Message]:
        """The messages with the instruction in the system message, or all of it in the first user message."""
        own = [message.content for message in messages if message.role == "system"]
        rest = [message for message in messages if message.role != "system"]
        system = "\n\n".join(text for text in [self.instruction, *own] if text)
        if not system:
            return rest
        if self._writer.takes_system:
            return [Message("system", system), *rest]
        if rest and rest[0].role == "user":
            return [replace(rest[0], content=f"{system}\n\n{rest[0].content}"), *rest[1:]]
        return [Message("user", system), *rest]

    def _take_notes(self) -> None:
        if not self._writer.takes_system:
            self.notes.append(
                f"{self._where} takes no system message: its text goes in front of the first question."
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
                "reads it as text."
            )
        if prefix and probe[: len(prefix)] != prefix:
            self.notes.append(
                f"{self._where} writes no BOS, though the tokenizer puts one in front of text: contexts have "
                "none, as other servers render them."
            )
