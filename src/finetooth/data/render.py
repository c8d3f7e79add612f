"""Rendering: an example becomes Rows of token ids. The one function for training, evaluation and serving.

A row is a context, rendered exactly as a server would render it, and the continuation that the model has to
emit: the answer up to and including the first stop token, which is all that is scored. Spans come from the
two renderings, with and without the answer; nothing is searched for in text that a user wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from finetooth.data.examples import place
from finetooth.data.template import THINKING_OFF, ChatTemplate, Clock, TemplateRefusal, choose
from finetooth.data.tokens import Tokenizer
from finetooth.errors import DataError
from finetooth.tree import Row
from finetooth.types import Example, Message

NO_BOS = "The tokenizer has no BOS: rows of plain text start with its EOS."
PROBE_SYSTEM = "Reply briefly to finetooth."
PROBE_QUESTION = "Which way?"
PROBE_ANSWER = "Left, then right."


@dataclass(frozen=True, slots=True)
class Rendered:
    """Examples as rows. rejected: (example, reason) of those set aside. rows are in the examples' order."""

    rows: list[Row]
    rejected: list[tuple[Example, str]]


class Renderer:
    """Turns messages into rows with one template.

    template: auto (the tokenizer's chat template, else instruction), chat, instruction, plain or a .jinja
    file. instruction: a system prompt for every context; an example's own system message follows it.
    clock: read by templates that write the date. Raises DataError when a template cannot be trained on.

    kind: chat, instruction, plain or file. chat_template: the jinja text in use, to be saved with the model.
    stop_id: the token that ends an answer. notes: what the user should know. boundary_merges: rows so far in
    which the tokenizer joins the end of the context with the start of the answer.
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
        self.notes: list[str] = []
        self.boundary_merges = 0
        self.kind, source, where = choose(tokenizer, template)
        self._template = ChatTemplate(source, tokenizer.special_tokens, where, clock)
        self._where = where
        self._frames: dict[str, tuple[int, int]] = {}
        self._bos = tokenizer.bos_token_id
        self._folds_system = not self._takes_system()
        self.stop_id = self._find_stop()
        self._stop_text = tokenizer.text_of(self.stop_id)
        self._probe()
        self.boundary_merges = 0
        self.chat_template = self._template.source
        self._take_notes()

    def context_row(self, messages: Sequence[Message]) -> Row:
        """What evaluation and serving send for these messages: ids with the answer's opening, no weights."""
        ids = self._context(self._merged(messages))[1]
        return Row(ids, np.zeros(len(ids)))

    def answer_ids(self, messages: Sequence[Message], answer: str) -> tuple[int, ...]:
        """The ids that continue `context_row(messages)` for this answer, its stop token included."""
        self._check_answer(answer)
        return tuple(self._split(self._merged(messages), answer)[1])

    def can_answer(self, answer: str) -> bool:
        """Whether this text can be an answer: not empty, and without the text of a special token."""
        return bool(answer.strip()) and not any(text in answer for text in self.tokenizer.special_texts)

    def rows(self, example: Example) -> list[Row]:
        """One row per assistant turn: earlier turns of the context are answers too. Plain text gives one row.

        The signals `head` and `tail` say how many tokens in front (BOS, system) and behind (the answer's
        opening) every context of this kind has: what `fit_rows` never cuts.

        Raises DataError, naming the example, when an answer cannot be scored as it stands.
        """
        try:
            if not example.context:
                return [self._text_row(example)]
            messages = [*example.context, Message("assistant", example.target)]
            turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
            ids = [example.id] if len(turns) == 1 else [f"{example.id}#{k}" for k in range(1, len(turns) + 1)]
            return [
                self._row(messages[:at], messages[at].content, id) for at, id in zip(turns, ids, strict=True)
            ]
        except DataError as error:
            raise DataError(f"Row {place(example)}: {error}") from error

    def render_all(self, examples: Sequence[Example]) -> Rendered:
        """Rows of many examples; one whose answer cannot be scored is set aside with its reason.

        Raises DataError when more than 1% are set aside.
        """
        rows: list[Row] = []
        rejected: list[tuple[Example, str]] = []
        for example in examples:
            try:
                rows.extend(self.rows(example))
            except DataError as error:
                rejected.append((example, str(error)))
        if len(rejected) > 0.01 * len(examples):
            reasons = "\n".join(f"  {reason}" for _, reason in rejected[:3])
            raise DataError(
                f"{len(rejected)} of {len(examples)} rows cannot be rendered, more than 1%. "
                f"The first:\n{reasons}"
            )
        return Rendered(rows, rejected)

    def _row(self, context: Sequence[Message], answer: str, id: str) -> Row:
        self._check_answer(answer)
        context_ids, answer_ids = self._split(self._merged(context), answer)
        weight = np.zeros(len(context_ids) + len(answer_ids))
        weight[len(context_ids) :] = 1.0
        head, tail = self._frame([message for message in context if message.role == "system"])
        return Row([*context_ids, *answer_ids], weight, {"head": head, "tail": tail}, id=id)

    def _text_row(self, example: Example) -> Row:
        """BOS (else EOS), the text, EOS; all scored but the first."""
        tokenizer = self.tokenizer
        self._check_answer(example.target)
        ends = [index for index in (self._bos, tokenizer.eos_token_id) if index is not None]
        start = [*tokenizer.prefix_ids] or ends[:1]
        if not start or tokenizer.eos_token_id is None:
            raise DataError("plain text needs an end-of-sequence token; the tokenizer names no eos_token.")
        ids = [*start, *tokenizer.encode(example.target), tokenizer.eos_token_id]
        if start == [tokenizer.eos_token_id] != [self._bos] and NO_BOS not in self.notes:
            self.notes.append(NO_BOS)
        weight = [0.0] * len(start) + [1.0] * (len(ids) - len(start))
        return Row(ids, weight, {"head": len(start), "tail": 0}, id=example.id)

    def _frame(self, system: list[Message]) -> tuple[int, int]:
        """How many tokens any question has in front (BOS, system) and behind it (the answer's opening)."""
        key = "\0".join(message.content for message in system)
        if key not in self._frames:
            one, two = (
                np.array(self._context(self._merged([*system, Message("user", probe)]))[1])
                for probe in (PROBE_QUESTION, PROBE_ANSWER)
            )
            size = min(one.size, two.size)
            head = int((one[:size] == two[:size]).cumprod().sum())
            tail = int((one[::-1][:size] == two[::-1][:size]).cumprod().sum())
            self._frames[key] = (head, tail)
        return self._frames[key]

    def _merged(self, messages: Sequence[Message]) -> list[Message]:
        """The messages with the instruction in the system message, or all of it in the first user message."""
        own = [message.content for message in messages if message.role == "system"]
        rest = [message for message in messages if message.role != "system"]
        system = "\n\n".join(text for text in [self.instruction, *own] if text)
        if not system:
            return rest
        if not self._folds_system:
            return [Message("system", system), *rest]
        if rest and rest[0].role == "user":
            return [Message("user", f"{system}\n\n{rest[0].content}"), *rest[1:]]
        return [Message("user", system), *rest]

    def _context(self, messages: Sequence[Message]) -> tuple[str, list[int]]:
        """The rendered context with the opening of the answer, and its ids, encoded in one piece."""
        text = self._template.render(messages, generation=True)
        ids = self.tokenizer.encode(text)
        if self._bos is not None and ids[:2] == [self._bos, self._bos]:
            raise DataError(
                f"{self._where}: the context starts with {self.tokenizer.text_of(self._bos)!r} twice. "
                "Take it out of the text or of the template."
            )
        if not ids:
            raise DataError(f"{self._where}: the context is empty, so nothing predicts the answer.")
        return text, ids

    def _split(self, messages: Sequence[Message], answer: str) -> tuple[list[int], list[int]]:
        """Ids of the context, and ids of the continuation up to and including the first stop token."""
        context, context_ids = self._context(messages)
        full = self._template.render([*messages, Message("assistant", answer)], generation=False)
        if not full.startswith(context):
            raise DataError(
                f"{self._where}: with the answer it does not continue what it renders without.\n"
                f"  without: {_end(context)}\n  with:    {_end(full)}\n"
                "Use `template: instruction`, or a corrected copy of the template: `template: file.jinja`."
            )
        written, stop, _ = full[len(context) :].partition(self._stop_text)
        if not stop:
            raise DataError(f"{self._where}: no stop token {self._stop_text!r} after the answer.")
        if written.strip() != answer.strip():
            raise DataError(
                f"{self._where}: what it adds for an answer is not the answer.\n"
                f"  answer: {_end(answer)}\n  added:  {_end(written)}\n"
                "Use `template: instruction`, or a copy that opens the answer with that text: "
                "`template: file.jinja`."
            )
        added = self._continuation(context, context_ids, full)
        if self.stop_id not in added[1:]:
            raise DataError(f"{self._where}: the answer has no tokens, or no stop token {self._stop_text!r}.")
        return context_ids, added[: added.index(self.stop_id) + 1]

    def _continuation(self, context: str, context_ids: list[int], full: str) -> list[int]:
        """The ids that `full` adds to its beginning `context`; where a token straddles the two, it is cut."""
        ids = self.tokenizer.encode(full)
        if ids[: len(context_ids)] == context_ids:
            return ids[len(context_ids) :]
        self.boundary_merges += 1
        ids, offsets = self.tokenizer.encode_with_offsets(full)
        boundary = len(context)
        # Ends are compared, not starts: byte-level tokenizers leave the leading space out of a token's start.
        first = next(index for index, (_, end) in enumerate(offsets) if end > boundary)
        end = offsets[first][1]
        if first and offsets[first - 1][1] >= boundary:
            added = ids[first:]
        else:
            after = next((index for index, pair in enumerate(offsets) if pair[1] > end), len(ids))
            added = self.tokenizer.encode(full[boundary:end]) + ids[after:]
        if self.tokenizer.decode([*context_ids, *added]) != self.tokenizer.decode(ids):
            raise DataError(
                "the tokenizer joins the end of the context with the start of the answer, inseparably."
            )
        return added

    def _check_answer(self, answer: str) -> None:
        if not answer.strip():
            raise DataError("the answer is empty: there is nothing to score.")
        found = next((text for text in self.tokenizer.special_texts if text in answer), None)
        if found is not None:
            raise DataError(f"the answer contains the text of a special token, {found!r}.")

    def _probe(self) -> None:
        """Refuse a template that cannot be trained on, neither as it is nor with thinking switched off."""
        question = self._merged([Message("user", PROBE_QUESTION)])
        try:
            self._split(question, PROBE_ANSWER)
        except DataError as refusal:
            switched = self._template.without_thinking()
            if switched is None:
                raise
            self._template = switched
            try:
                for answer in (PROBE_ANSWER, PROBE_QUESTION):
                    self._split(question, answer)
            except DataError:
                raise refusal from None
            self.notes.append(f"{self._where} {THINKING_OFF}")

    def _takes_system(self) -> bool:
        """Whether the template accepts a system message and writes it."""
        system, user = Message("system", PROBE_SYSTEM), Message("user", PROBE_QUESTION)
        try:
            return PROBE_SYSTEM in self._template.render([system, user], generation=True)
        except TemplateRefusal:
            return False

    def _find_stop(self) -> int:
        """The first special token that the template writes after an answer."""
        probe = [Message("user", PROBE_QUESTION), Message("assistant", PROBE_ANSWER)]
        after = self._template.render(probe, generation=False).rpartition(PROBE_ANSWER)[2]
        for index in self.tokenizer.encode(after):
            if index in self.tokenizer.special_ids:
                return index
        raise DataError(
            f"{self._where}: writes no special token after an answer ({after!r}), so a model could never "
            "learn to stop. Use `template: instruction`, or a copy that ends an answer with {{ eos_token }}: "
            "`template: file.jinja`."
        )

    def _take_notes(self) -> None:
        if self._folds_system:
            self.notes.append(
                f"{self._where} takes no system message: its text goes in front of the first question."
            )
        if "strftime_now" in self.chat_template and self.kind in ("chat", "file"):
            self.notes.append(f"{self._where} may write today's date: contexts can differ from day to day.")
        prefix = list(self.tokenizer.prefix_ids)
        probe = self._context(self._merged([Message("user", PROBE_QUESTION)]))[1]
        if prefix and probe[: len(prefix)] != prefix:
            self.notes.append(
                f"{self._where} writes no BOS, though the tokenizer puts one in front of text: contexts have "
                "none, as other servers render them."
            )


def _end(text: str) -> str:
    return repr(text[-160:])
