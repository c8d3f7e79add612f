"""One template on one tokenizer: contexts and answers as ids, and the proof that it can be trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from finetooth.data.render import turns
from finetooth.data.render.boundary import common_prefix_length, continuation
from finetooth.data.render.chat_template import ChatTemplate, TemplateRefusal
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import DataError
from finetooth.types import Message

Tools = Sequence[Mapping[str, Any]]

PROBE_SYSTEM = "Reply briefly to finetooth."
PROBE_QUESTION = "Which way?"
PROBE_ANSWER = "Left, then right."
PROBE_THOUGHT = "They want directions."
OWN_COPY = "`template: file.jinja`"
CALLS_HINT = "Use a template that writes thoughts and calls of tools, or a copy that does"


class TemplateEncoder:
    """Writes conversations as ids; nothing of them is left out silently.

    stop_id: the token that ends an answer. takes_system: whether it writes a system message. notes: what the
    user should know. merges: answers so far whose start the tokenizer joins with the end of the context.
    plain_mode: how the template's switch for thinking is set for answers without a thought; None: not at all.
    Raises DataError when the template writes no stop token.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.where = template.where
        self.notes: list[str] = []
        self.merges = 0
        self.plain_mode: bool | None = None
        self.takes_system = self._takes_system()
        self.stop_id = self._find_stop()

    def prove(self, question: Sequence[Message]) -> None:
        """Raise DataError for a template that cannot be trained on, whatever its switch for thinking."""
        answer = Message("assistant", PROBE_ANSWER)
        refusal = self._refusal(question, [answer])
        if refusal is not None and self.template.switch:
            self.plain_mode = False
            if not self._refusal(question, [answer, Message("assistant", PROBE_QUESTION)]):
                self._note(
                    f"is asked for answers without a thought with {self.template.switch}=false: only then do "
                    "contexts end with the empty thought that it writes in front of such an answer."
                )
                refusal = None
            else:
                self.plain_mode = None
        if refusal is not None:
            thoughtful = Message("assistant", PROBE_ANSWER, more={"reasoning_content": PROBE_THOUGHT})
            if self._refusal(question, [thoughtful]):
                raise refusal
            self._note("opens every answer with a thought: rows without one cannot be used.")
        self.merges = 0

    def mode(self, thinking: bool) -> bool | None:
        """How the template's switch is set for an answer with or without a thought; None: not at all."""
        return True if thinking and self.template.switch else self.plain_mode

    def saved(self, thinking: bool) -> str:
        """The jinja text that, for a caller who says nothing, opens answers as those with(out) a thought."""
        mode, probe = self.mode(thinking), [Message("user", PROBE_QUESTION)]
        if mode is None or self.template.render(probe, True) == self.template.render(probe, True, (), mode):
            return self.template.source
        return self.template.by_default(mode)

    def context(self, messages: Sequence[Message], tools: Tools, mode: bool | None) -> tuple[str, list[int]]:
        """The rendered context with the opening of the answer, and its ids, encoded in one piece."""
        text = self.template.render(messages, True, tools, mode)
        ids = self.tokenizer.encode(text)
        bos = self.tokenizer.bos_token_id
        if bos is not None and ids[:2] == [bos, bos]:
            raise DataError(
                f"{self.where}: the context starts with {self.tokenizer.text_of(bos)!r} twice. "
                "Take it out of the text or of the template."
            )
        if not ids:
            raise DataError(f"{self.where}: the context is empty, so nothing predicts the answer.")
        self._check_context(messages, tools, mode, text)
        if self.template.text_arguments:
            self._note("takes the arguments of calls as JSON text only: send them so to a server.")
        return text, ids

    def split(
        self, messages: Sequence[Message], turn: Message, tools: Tools = ()
    ) -> tuple[list[int], list[int]]:
        """Ids of the context, and ids of the continuation up to and including the first stop token."""
        self.check_answer(turn)
        mode = self.mode(bool(turns.thought(turn)))
        context, context_ids = self.context(messages, tools, mode)
        full = self.template.render([*messages, turn], False, tools, mode)
        if not full.startswith(context):
            opened = context.rstrip().endswith("<think>")
            thoughtful = bool(turns.thought(turn))
            raise DataError(
                f"{self.where}: with the answer it does not continue what it renders without.\n"
                f"  without: {_end(context)}\n  with:    {_end(full)}\n"
                + ("It opens a thought for the answer, and writes none in front of it. " if opened else "")
                + (
                    "Take the thoughts out of these rows, or use"
                    if thoughtful
                    else "Use `template: instruction`, or"
                )
                + f" a corrected copy of the template: {OWN_COPY}."
            )
        stop = self.tokenizer.text_of(self.stop_id)
        written, found, _ = full[len(context) :].partition(stop)
        if not found:
            raise DataError(f"{self.where}: no stop token {stop!r} after the answer.")
        self._check_written(turn, written, context)
        if any(self._same([*messages, one], tools, mode, full, False) for one in turns.renamed_calls(turn)):
            raise DataError(f"{self.where} leaves out one of several calls. {CALLS_HINT}: {OWN_COPY}.")
        added, merged = continuation(self.tokenizer, context, context_ids, full)
        self.merges += merged
        if self.stop_id not in added[1:]:
            raise DataError(f"{self.where}: the answer has no tokens, or no stop token {stop!r}.")
        return context_ids, added[: added.index(self.stop_id) + 1]

    def tools_behind(self, messages: Sequence[Message], mode: bool | None, ids: list[int], head: int) -> int:
        """How many ids at the end of a context hold its tools and all behind them; 0 when its head does."""
        try:
            bare = self.tokenizer.encode(self.template.render(messages, True, (), mode))
        except TemplateRefusal:
            return len(ids) - head
        start = common_prefix_length(bare, ids)
        return len(ids) - start if start >= head else 0

    def check_answer(self, turn: Message) -> None:
        """Raise DataError for an answer with nothing to score, or with the text of a special token."""
        if not turn.content.strip() and not turns.calls(turn):
            raise DataError("the answer is empty: there is nothing to score.")
        text = turns.all_text(turn)
        found = next((special for special in self.tokenizer.special_texts if special in text), None)
        if found is not None:
            raise DataError(f"the answer contains the text of a special token, {found!r}.")

    def _check_written(self, turn: Message, written: str, context: str) -> None:
        missing = turns.missing_part(turn, written, context.rstrip().endswith("</think>"))
        if not missing:
            return
        hint = "Use `template: instruction`, or a copy that opens the answer with that text"
        if turns.calls(turn) or turns.thought(turn):
            hint = CALLS_HINT
        if missing == turns.NO_THOUGHT and not turns.calls(turn):
            own = turn.more.get("reasoning_content") in turns.EMPTY
            what = "does not cut answers at </think>" if own else "writes `message.reasoning_content`"
            hint = f"Take the thoughts out of these rows, or use a copy of the template that {what}"
        raise DataError(
            f"{self.where}: what it adds for an answer is not the answer: it {missing}.\n"
            f"  answer: {_end(turn.content)}\n  added:  {_end(written)}\n{hint}: {OWN_COPY}."
        )

    def _check_context(self, messages: Sequence[Message], tools: Tools, mode: bool | None, text: str) -> None:
        """Nothing may be lost on the way into the context but earlier thoughts, and these are noted."""
        lost = ""
        called = [call for message in messages for call in turns.calls(message)]
        if tools and (not self._names(tools, text) or self._same(messages, (), mode, text)):
            lost = "the tools"
        elif called and (
            not all(turns.contains_call(call, text) for call in called)
            or self._same(turns.without(messages, "tool_calls"), tools, mode, text)
            or self._loses_calls(messages, tools, mode, text)
        ):
            lost = "calls of tools"
        elif not all(turns.contains_value(m.content.strip(), text) for m in messages if m.role == "tool"):
            lost = "what a tool returned"
        elif self._drops(messages, tools, mode, text):
            lost = "what a message says"
        if lost:
            raise DataError(f"{self.where} leaves out {lost}. Use a copy that writes them: {OWN_COPY}.")
        if not all(turns.thought(message) in text for message in messages):
            self._note("leaves thoughts of earlier turns out of a context, as for any other caller.")
        named = [message for message in messages if message.role != "tool"]
        if not all(str(message.more.get("name") or "") in text for message in named):
            self._note("does not write the `name` of a message.")

    def _names(self, tools: Tools, text: str) -> bool:
        functions = [tool.get("function", tool) for tool in tools]
        return all(turns.contains_value(function.get("name", ""), text) for function in functions)

    def _drops(self, messages: Sequence[Message], tools: Tools, mode: bool | None, text: str) -> bool:
        """Whether a message of the user or the system can say anything without a difference."""
        spoken = [m for m in messages if m.role in ("user", "system") and m.content.strip() not in text]
        others = [replace(m, content=PROBE_THOUGHT) if m in spoken else m for m in messages]
        return bool(spoken) and self._same(others, tools, mode, text)

    def _loses_calls(self, messages: Sequence[Message], tools: Tools, mode: bool | None, text: str) -> bool:
        """Whether the first or the last of several calls of a turn may be any other."""
        for place in (0, -1):
            others = [(turns.renamed_calls(message) or [message])[place] for message in messages]
            if others != list(messages) and self._same(others, tools, mode, text):
                return True
        return False

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
        except DataError as error:
            return error
        return None

    def _note(self, text: str) -> None:
        note = f"{self.where} {text}"
        if note not in self.notes:
            self.notes.append(note)

    def _takes_system(self) -> bool:
        """Whether the template accepts a system message and writes it, with the answer as without it."""
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

    def _find_stop(self) -> int:
        """The first special token that the template writes after an answer."""
        probe = [Message("user", PROBE_QUESTION), Message("assistant", PROBE_ANSWER)]
        after = self.template.render(probe, generation=False).rpartition(PROBE_ANSWER)[2]
        for index in self.tokenizer.encode(after):
            if index in self.tokenizer.special_ids:
                return index
        raise DataError(
            f"{self.where}: writes no special token after an answer ({after!r}), so a model could never "
            "learn to stop. Use `template: instruction`, or a copy that ends an answer with {{ eos_token }}: "
            f"{OWN_COPY}."
        )


def _end(text: str) -> str:
    return repr(text[-160:])
