"""A chat template with a tokenizer: contexts and answers as ids, and the check that it can be trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from finetooth.data.render import turns
from finetooth.data.render.chat_template import ChatTemplate, TemplateRefusal
from finetooth.data.render.limits import TemplateLimit
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import DataError
from finetooth.types import Message

Tools = Sequence[Mapping[str, Any]]

PROBE_SYSTEM = "Reply briefly to finetooth."
PROBE_QUESTION = "Which way?"
PROBE_ANSWER = "Left, then right."
PROBE_REASONING = "They want directions."
OWN_COPY = "`template: file.jinja`"
CALLS_HINT = "Use a template that writes reasoning and tool calls, or a copy that does"


class TemplateEncoder:
    """Encodes conversations as ids; nothing of them is dropped silently.

    stop_id: the token that ends an answer. takes_system: whether the template writes a system message.
    notes: for the user. merges: number of answers so far whose start the tokenizer merges with the end of the
    context. plain_mode: value of the template's thinking switch for answers without reasoning; None leaves it
    unset. Raises DataError if the template writes no stop token.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.where = template.where
        self.notes: list[str] = []
        self.merges = 0
        self.plain_mode: bool | None = None
        self.takes_system = self._takes_system()
        probe = [Message("user", PROBE_QUESTION), Message("assistant", PROBE_ANSWER)]
        after = template.render(probe, generation=False).rpartition(PROBE_ANSWER)[2]
        stop_id = next((index for index in tokenizer.encode(after) if index in tokenizer.special_ids), None)
        if stop_id is None:
            raise DataError(
                f"{self.where}: writes no special token after an answer ({after!r}), so a model could never "
                "learn to stop. Use `template: instruction`, or a copy that ends an answer with "
                f"{{{{ eos_token }}}}: {OWN_COPY}."
            )
        self.stop_id = stop_id

    def check_trainable(self, question: Sequence[Message]) -> None:
        """Raise DataError for a template that cannot be trained on with any value of its thinking switch."""
        answer = Message("assistant", PROBE_ANSWER)
        refusal = self._refusal(question, [answer])
        if refusal is not None and self.template.switch:
            self.plain_mode = False
            if not self._refusal(question, [answer, Message("assistant", PROBE_QUESTION)]):
                self._note(
                    f"is asked for answers without reasoning with {self.template.switch}=false: only then do "
                    "contexts end with the empty reasoning that it writes in front of such an answer."
                )
                refusal = None
            else:
                self.plain_mode = None
        if refusal is not None:
            with_reasoning = Message("assistant", PROBE_ANSWER, more={"reasoning_content": PROBE_REASONING})
            if self._refusal(question, [with_reasoning]):
                raise refusal
            self._note("opens every answer with reasoning: rows without it cannot be used.")
        self.merges = 0

    def default_system(self) -> str:
        """The system message that the template writes where a conversation has none; "" if it writes none.

        It is what stands where a given system message would stand.
        """
        if not self.takes_system:
            return ""
        question = Message("user", PROBE_QUESTION)
        given = self.template.render([Message("system", PROBE_SYSTEM), question], True, (), self.plain_mode)
        try:
            text = self.template.render([question], True, (), self.plain_mode)
        except TemplateRefusal:  # it insists on a system message
            return ""
        before, _, after = given.partition(PROBE_SYSTEM)
        fits = text.startswith(before) and text.endswith(after)
        return text[len(before) : len(text) - len(after)].strip() if fits else ""

    def mode(self, thinking: bool) -> bool | None:
        """Value of the template's thinking switch for an answer with or without reasoning; None: unset."""
        return True if thinking and self.template.switch else self.plain_mode

    def saved(self, thinking: bool) -> str:
        """The jinja text whose default for `thinking` opens answers as those with, or without, reasoning."""
        mode, probe = self.mode(thinking), [Message("user", PROBE_QUESTION)]
        if mode is None or self.template.render(probe, True) == self.template.render(probe, True, (), mode):
            return self.template.source
        return self.template.with_default(mode)

    def context(self, messages: Sequence[Message], tools: Tools, mode: bool | None) -> tuple[str, list[int]]:
        """The rendered context including the answer's opening, and its ids, encoded as a whole."""
        text = self.template.render(messages, True, tools, mode)
        ids = self.tokenizer.encode(text)
        bos = self.tokenizer.bos_token_id
        if bos is not None and ids[:2] == [bos, bos]:
            raise DataError(
                f"{self.where}: the context starts with {self.tokenizer.text_of(bos)!r} twice. "
                "Remove it from the text or from the template."
            )
        if not ids:
            raise DataError(f"{self.where}: the context is empty, so nothing predicts the answer.")
        self._check_context(messages, tools, mode, text)
        if self.template.text_arguments:
            self._note("takes the arguments of calls as JSON text only: send them to a server in that form.")
        return text, ids

    def split(
        self, messages: Sequence[Message], turn: Message, tools: Tools = ()
    ) -> tuple[list[int], list[int]]:
        """Ids of the context, and of the continuation up to and including the first stop token."""
        self.check_answer(turn)
        mode = self.mode(bool(turns.reasoning(turn)))
        context, context_ids = self.context(messages, tools, mode)
        full = self.template.render([*messages, turn], False, tools, mode)
        if not full.startswith(context):
            opened = context.rstrip().endswith("<think>")
            raise DataError(
                f"{self.where}: with the answer it does not continue what it renders without.\n"
                f"  without: {_end(context)}\n  with:    {_end(full)}\n"
                + ("It opens reasoning for the answer, and writes none in front of it. " if opened else "")
                + (
                    "Remove the reasoning from these rows, or use"
                    if turns.reasoning(turn)
                    else "Use `template: instruction`, or"
                )
                + f" a corrected copy of the template: {OWN_COPY}."
            )
        stop = self.tokenizer.text_of(self.stop_id)
        written, found, _ = full[len(context) :].partition(stop)
        if not found:
            raise DataError(f"{self.where}: no stop token {stop!r} after the answer.")
        missing = turns.missing_part(turn, written, context.rstrip().endswith("</think>"))
        if missing:
            hint = "Use `template: instruction`, or a copy that opens the answer with that text"
            if turns.tool_calls(turn) or turns.reasoning(turn):
                hint = CALLS_HINT
            if missing == turns.NO_REASONING and not turns.tool_calls(turn):
                inline = turn.more.get("reasoning_content") in turns.EMPTY
                what = "does not cut answers at </think>" if inline else "writes `message.reasoning_content`"
                hint = f"Remove the reasoning from these rows, or use a copy of the template that {what}"
            raise DataError(
                f"{self.where}: what it adds for an answer is not the answer: it {missing}.\n"
                f"  answer: {_end(turn.content)}\n  added:  {_end(written)}\n{hint}: {OWN_COPY}."
            )
        if any(self._same([*messages, one], tools, mode, full, False) for one in turns.renamed_calls(turn)):
            raise DataError(f"{self.where} leaves out one of several calls. {CALLS_HINT}: {OWN_COPY}.")
        added, merged = _continuation(self.tokenizer, context, context_ids, full)
        self.merges += merged
        if self.stop_id not in added[1:]:
            raise DataError(f"{self.where}: the answer has no tokens, or no stop token {stop!r}.")
        return context_ids, added[: added.index(self.stop_id) + 1]

    def tools_behind(self, messages: Sequence[Message], mode: bool | None, ids: list[int], head: int) -> int:
        """Number of ids from the tools to the end of a context; 0 if they are within its first `head` ids."""
        try:
            bare = self.tokenizer.encode(self.template.render(messages, True, (), mode))
        except TemplateRefusal:
            return len(ids) - head
        start = common_prefix_length(bare, ids)
        return len(ids) - start if start >= head else 0

    def check_answer(self, turn: Message) -> None:
        """Raise DataError for an answer with nothing to score, or with the text of a special token."""
        if not turn.content.strip() and not turns.tool_calls(turn):
            raise DataError("the answer is empty: there is nothing to score.")
        text = turns.all_text(turn)
        found = self.tokenizer.special_in(text, self.stop_id)
        if found:
            apart = f"Write it in another way in the file, for example {f'{found[0]} {found[1:]}'!r}"
            raise DataError(
                f"the answer contains the text of a special token, {found!r}, which would end it or become a "
                f"turn. {apart if len(found) > 1 else 'Write the answer without it'}, or remove the row."
            )

    def _check_context(self, messages: Sequence[Message], tools: Tools, mode: bool | None, text: str) -> None:
        """Raise DataError if anything but earlier reasoning, which is noted, is missing from the context."""
        names = [tool.get("function", tool).get("name", "") for tool in tools]
        tool_calls = [call for message in messages for call in turns.tool_calls(message)]
        lost = ""
        if tools and (
            not all(turns.contains_value(name, text) for name in names)
            or self._same(messages, (), mode, text)
        ):
            lost = "the tools"
        elif tool_calls and (
            not all(turns.contains_call(call, text) for call in tool_calls)
            or self._same(turns.without(messages, "tool_calls"), tools, mode, text)
            or any(  # of several calls of a turn, the first or the last can change without a difference
                others != list(messages) and self._same(others, tools, mode, text)
                for place in (0, -1)
                for others in [[(turns.renamed_calls(m) or [m])[place] for m in messages]]
            )
        ):
            lost = "tool calls"
        elif not all(turns.contains_value(m.content.strip(), text) for m in messages if m.role == "tool"):
            lost = "what a tool returned"
        else:  # a user or system message that is missing can have any text without a difference
            absent = [m for m in messages if m.role in ("user", "system") and m.content.strip() not in text]
            others = [replace(m, content=PROBE_REASONING) if m in absent else m for m in messages]
            if absent and self._same(others, tools, mode, text):
                lost = "what a message says"
        if lost:
            raise DataError(f"{self.where} leaves out {lost}. Use a copy that writes them: {OWN_COPY}.")
        if not all(turns.reasoning(message) in text for message in messages):
            self._note("leaves the reasoning of earlier turns out of a context, as for any other caller.")
        named = [message for message in messages if message.role != "tool"]
        if not all(str(message.more.get("name") or "") in text for message in named):
            self._note("does not write the `name` of a message.")

    def _same(
        self,
        messages: Sequence[Message],
        tools: Tools,
        mode: bool | None,
        text: str,
        generation: bool = True,
    ) -> bool:
        try:
            return self.template.render(messages, generation, tools, mode) == text
        except TemplateRefusal:
            return False

    def _refusal(self, question: Sequence[Message], answers: Sequence[Message]) -> DataError | None:
        try:
            for answer in answers:
                self.split(question, answer)
        except TemplateLimit:
            raise
        except DataError as error:
            return error
        return None

    def _note(self, text: str) -> None:
        note = f"{self.where} {text}"
        if note not in self.notes:
            self.notes.append(note)

    def _takes_system(self) -> bool:
        """Whether the template accepts and writes a system message, both with and without an answer."""
        question, answer = Message("user", PROBE_QUESTION), Message("assistant", PROBE_ANSWER)
        system = Message("system", PROBE_SYSTEM)
        try:
            if PROBE_SYSTEM not in self.template.render([system, question], True):
                return False
            alone = self._continues([question], answer)
            return not alone or self._continues([system, question], answer)
        except TemplateRefusal:
            return False

    def _continues(self, messages: Sequence[Message], answer: Message) -> bool:
        context = self.template.render(messages, True)
        return self.template.render([*messages, answer], False).startswith(context)


def common_prefix_length(left: list[int], right: list[int]) -> int:
    """Length of the common prefix of two lists of ids."""
    pairs = zip(left, right, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def _continuation(
    tokenizer: Tokenizer, context: str, context_ids: list[int], full: str
) -> tuple[list[int], bool]:
    """The ids that `full` adds to its prefix `context`, and whether a token that spans both was split.

    Raises DataError if the tokenizer merges them inseparably.
    """
    ids = tokenizer.encode(full)
    if ids[: len(context_ids)] == context_ids:
        return ids[len(context_ids) :], False
    ids, offsets = tokenizer.encode_with_offsets(full)
    boundary = len(context)
    # Ends are compared, not starts: byte-level tokenizers exclude the leading space from a token's start.
    first = next(index for index, (_, end) in enumerate(offsets) if end > boundary)
    end = offsets[first][1]
    if first and offsets[first - 1][1] >= boundary:
        added = ids[first:]
    else:
        after = next((index for index, pair in enumerate(offsets) if pair[1] > end), len(ids))
        added = tokenizer.encode(full[boundary:end]) + ids[after:]
    if tokenizer.decode([*context_ids, *added]) != tokenizer.decode(ids):
        raise DataError(
            "the tokenizer merges the end of the context with the start of the answer, inseparably."
        )
    return added, True


def _end(text: str) -> str:
    return repr(text[-160:])
