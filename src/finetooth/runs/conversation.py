"""A conversation with one or two models, each with its own history. Input and output: commands/chat.py."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rich.console import Console

from finetooth.errors import ConfigError, ModelError
from finetooth.evaluation.candidates import Context
from finetooth.model.api import Model
from finetooth.model.generation.sampling import check_sampling
from finetooth.runs import asking as asks
from finetooth.runs.asking import Asking
from finetooth.runs.context import require_same_base
from finetooth.types import Completion, Example, Message, Piece

BASE = "base"


@dataclass
class Speaker:
    """A model, how it is asked, and its history. without_adapter: its adapter is off while it answers."""

    name: str
    asking: Asking
    without_adapter: bool = False
    messages: list[Message] = field(default_factory=list)

    @property
    def model(self) -> Model:
        """The model that answers."""
        return self.asking.candidate.model

    def context(self, system: str, question: str) -> Context:
        """The prompt: the conversation so far and the question, as a row of the run's test would be asked.

        Raises ModelError when it leaves no room for an answer; it is never truncated to fit.
        """
        candidate = self.asking.candidate
        own = (Message("system", system),) if system else ()
        asked = self.asking.cleaned(Example("", (Message("user", question),), ()))
        messages = (*own, *self.messages, *asked.context)
        row = candidate.renderer.context_row(messages, thinking=candidate.thinks(asked))
        answers = (candidate.renderer.answer_ids(messages, label) for label in self.asking.labels)
        reserved = max(map(len, answers), default=1)
        if len(row) + reserved > self.model.max_tokens:
            subject = "The conversation with this question" if self.messages else "The question"
            raise ModelError(
                f"{subject} has {len(row):,} tokens; {self.name} takes {self.model.max_tokens:,}, the answer "
                "included. Nothing was generated: "
                + ("/reset starts a new conversation." if self.messages else "ask something shorter.")
            )
        return messages, row

    def answer(self, context: Context) -> Generator[Piece]:
        """The pieces of the answer as they are generated; a label is one piece."""
        candidate = self.asking.candidate
        with self.model.without_adapter() if self.without_adapter else nullcontext():
            if not candidate.labels:
                yield from self.model.stream([context[1]], candidate.sampling)
                return
            for chosen in candidate.answers([context]):
                tokens = candidate.renderer.answer_ids(context[0], chosen.text)
                yield Piece(0, chosen.text, 0, Completion(0, tokens, (), chosen.text, "stop"))


@dataclass
class Reply:
    """One speaker's answer. stop: that of the Completion, or `interrupted`."""

    name: str
    text: str = ""
    stop: str = "interrupted"
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass
class Conversation:
    """The same questions to one or two speakers, each of which sees its own earlier answers.

    system: the system message of this conversation, after the run's instruction.
    """

    speakers: list[Speaker]
    system: str = ""

    def ask(self, question: str) -> Generator[tuple[Reply, str]]:
        """Ask all speakers in turn: yields the reply so far and its new text, a last time at its end.

        When closed early (Ctrl-C), partial answers stay in the history; a speaker without an answer forgets
        the question. Raises DataError or ModelError, before any answer, for a question that cannot be asked.
        """
        contexts = [speaker.context(self.system, question) for speaker in self.speakers]
        for speaker, context in zip(self.speakers, contexts, strict=True):
            reply = Reply(speaker.name, prompt_tokens=len(context[1]))
            try:
                with closing(speaker.answer(context)) as pieces:
                    for piece in pieces:
                        reply.text += piece.text
                        if piece.completion is not None:
                            reply.stop = piece.completion.stop
                            reply.completion_tokens = len(piece.completion.tokens)
                        yield reply, piece.text
            finally:
                if reply.text or reply.stop != "interrupted":
                    speaker.messages += [context[0][-1], Message("assistant", reply.text)]

    def reset(self) -> None:
        """Clear the history; the system message stays."""
        for speaker in self.speakers:
            speaker.messages.clear()


def speakers(
    target: str,
    both: bool = False,
    free: bool = False,
    console: Console | None = None,
    **sampling: Any,
) -> list[Speaker]:
    """The speakers: the tuned model of a run, or a model by name; with `both`, its base before it.

    free: without a label set. console: for lines about the loading of the model. sampling: fields of Sampling
    in place of the run's. Raises ConfigError or ModelError when there is no such model, or no base for
    `both`.
    """
    asking, context = asks.of_target(target, console or Console(quiet=True))
    candidate = asking.candidate
    if both and context is None and candidate.model.peft is None:
        raise ConfigError(f"--both needs a run or an adapter; {target} is a model without an adapter.")
    changed = replace(candidate.sampling, **sampling)
    check_sampling(changed)
    labels = None if free else candidate.labels
    asking = replace(asking, candidate=replace(candidate, sampling=changed, labels=labels))
    if not both:
        return [Speaker(candidate.name, asking)]
    base = candidate.model
    if context is not None and base.peft is None:  # two models in memory, since they answer in turn
        base = context.load()
        require_same_base(context.path, base)
        base.add_stop(context.base_renderer.stop_id)
    renderer = candidate.renderer if context is None else context.base_renderer
    beside = replace(asking, candidate=replace(asking.candidate, model=base, renderer=renderer))
    return [Speaker(BASE, beside, without_adapter=True), Speaker(candidate.name, asking)]


def to_json(question: str, replies: list[Reply], error: str = "") -> dict[str, Any]:
    """One turn as plain JSON values; `error` only where the question could not be asked."""
    turn = {"question": question, "answers": [asdict(reply) for reply in replies]}
    return turn | ({"error": error} if error else {})
