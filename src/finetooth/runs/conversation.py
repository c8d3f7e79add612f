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
from finetooth.runs.confidence import DIGITS, UNSURE
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

    def answer(self, context: Context) -> Generator[tuple[Piece, float | None]]:
        """The pieces of the answer as they are generated; a label is one piece, with its confidence."""
        candidate = self.asking.candidate
        with self.model.without_adapter() if self.without_adapter else nullcontext():
            if not candidate.labels:
                yield from ((piece, None) for piece in self.model.stream([context[1]], candidate.sampling))
                return
            for chosen in candidate.answers([context], confidence=True):
                tokens = candidate.renderer.answer_ids(context[0], chosen.text)
                found = None if chosen.confidence is None else round(chosen.confidence, DIGITS)
                yield Piece(0, chosen.text, 0, Completion(0, tokens, (), chosen.text, "stop")), found


@dataclass
class Reply:
    """One speaker's answer. stop: that of the Completion, or `interrupted`.

    confidence: in a chosen label. unsure: it is below the run's threshold, which says to hand the row over.
    """

    name: str
    text: str = ""
    stop: str = "interrupted"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    confidence: float | None = None
    unsure: bool = False


@dataclass
class Conversation:
    """The same questions to one or two speakers, each of which sees its own earlier answers.

    system: the system message of this conversation, after the run's instruction.
    """

    speakers: list[Speaker]
    system: str = ""

    def ask(self, question: str) -> Generator[tuple[Reply, str]]:
        """Ask all speakers in turn: yields the reply so far and its new text, a last time at its end.

        A label that the run would hand over is `unsure` in the new text, and itself in the reply.

        When closed early (Ctrl-C), partial answers stay in the history; a speaker without an answer forgets
        the question. Raises DataError or ModelError, before any answer, for a question that cannot be asked.
        """
        contexts = [speaker.context(self.system, question) for speaker in self.speakers]
        for speaker, context in zip(self.speakers, contexts, strict=True):
            reply = Reply(speaker.name, prompt_tokens=len(context[1]))
            try:
                with closing(speaker.answer(context)) as pieces:
                    for piece, confidence in pieces:
                        reply.text += piece.text
                        reply.confidence, threshold = confidence, speaker.asking.unsure_below
                        reply.unsure = (confidence or 1.0) < (threshold or 0.0)
                        if piece.completion is not None:
                            reply.stop = piece.completion.stop
                            reply.completion_tokens = len(piece.completion.tokens)
                        yield reply, UNSURE if reply.unsure else piece.text
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
    alone = replace(asking.candidate, model=base, renderer=renderer, temperature=1.0)
    beside = replace(asking, candidate=alone, unsure_below=None)
    return [Speaker(BASE, beside, without_adapter=True), Speaker(candidate.name, asking)]


def to_json(question: str, replies: list[Reply], error: str = "") -> dict[str, Any]:
    """One turn as plain JSON values; `error` only where the question could not be asked, `confidence` and
    `unsure` only where a label was chosen.
    """
    answers = [asdict(reply) for reply in replies]
    for answer in answers:
        if answer["confidence"] is None:
            del answer["confidence"], answer["unsure"]
    turn = {"question": question, "answers": answers}
    return turn | ({"error": error} if error else {})
