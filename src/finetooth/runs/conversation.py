"""Models in a conversation: who is asked, what they are sent, and what they remember of it.

Nothing is read or printed here: `chat.py` does that.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.config.task import EMBEDDED
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import ConfigError, ModelError
from finetooth.evaluation.summary import TUNED
from finetooth.model.api import Model
from finetooth.runs import workspace
from finetooth.runs.context import RunContext, require_same_base
from finetooth.tree import Row
from finetooth.types import Message, Piece, Sampling

BASE = "base"


@dataclass
class Speaker:
    """A model and its side of the conversation. bare: its adapter is switched off while it speaks."""

    name: str
    model: Model
    renderer: Renderer
    bare: bool = False
    messages: list[Message] = field(default_factory=list)

    def context(self, system: str, question: str) -> Row:
        """What the model is sent: the conversation so far and the question, through the run's template.

        Raises ModelError when that leaves no room for an answer; nothing is ever left out to make it fit.
        """
        own = [Message("system", system)] if system else []
        messages = [*own, *self.messages, Message("user", question)]
        row = self.renderer.context_row(messages, thinking=None)
        if len(row) >= self.model.max_tokens:
            what = "The conversation with this question" if self.messages else "The question"
            raise ModelError(
                f"{what} has {len(row):,} tokens; {self.name} takes {self.model.max_tokens:,}, the answer "
                "included. Nothing was left out and nothing was asked: "
                + ("/reset starts a new conversation." if self.messages else "ask something shorter.")
            )
        return row

    def answer(self, row: Row, sampling: Sampling) -> Generator[Piece]:
        """The pieces of the answer, while it is written."""
        with self.model.peft.disable_adapter() if self.bare and self.model.peft else nullcontext():
            yield from self.model.stream([row], sampling)


@dataclass
class Reply:
    """What one speaker said. stop: as of a Completion, or `interrupted`."""

    name: str
    text: str = ""
    stop: str = "interrupted"
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass
class Conversation:
    """The same questions to one or two speakers, each of whom goes on from its own answers.

    system: a system message of this conversation; the run's instruction stands before it.
    """

    speakers: list[Speaker]
    sampling: Sampling
    system: str = ""

    def ask(self, question: str) -> Generator[tuple[Reply, str]]:
        """Ask all speakers in turn: yields the reply so far and the new text, a last time when it has ended.

        Closed early (Ctrl-C), what was said stays in the conversation; a speaker that has said nothing
        was not asked. Raises DataError or ModelError, before anybody answers, when a question cannot be put.
        """
        rows = [speaker.context(self.system, question) for speaker in self.speakers]
        for speaker, row in zip(self.speakers, rows, strict=True):
            reply = Reply(speaker.name, prompt_tokens=len(row))
            try:
                with closing(speaker.answer(row, self.sampling)) as pieces:
                    for piece in pieces:
                        reply.text += piece.text
                        if piece.completion is not None:
                            reply.stop = piece.completion.stop
                            reply.completion_tokens = len(piece.completion.tokens)
                        yield reply, piece.text
            finally:
                if reply.text or reply.stop != "interrupted":
                    speaker.messages += [Message("user", question), Message("assistant", reply.text)]

    def reset(self) -> None:
        """Forget all questions and answers; the system message stays."""
        for speaker in self.speakers:
            speaker.messages.clear()


def speakers(target: str, both: bool) -> list[Speaker]:
    """Who answers: the tuned model of a run, or a model by name; with `both`, its base before it.

    Raises ConfigError or ModelError when there is no such model, or no base beside it.
    """
    path = Path(target)
    if target not in EMBEDDED and (path / workspace.CONFIG).is_file():
        return _of_run(path, both)
    if target not in EMBEDDED and path.is_file():
        raise ConfigError(
            f"{target}: a file. Expected a run directory or a model. First: finetooth run {target}"
            if path.suffix in (".yaml", ".yml", ".toml")
            else f"{target}: a file. Expected a run directory or a model."
        )
    try:
        model = Model.load(target)
    except ModelError as error:
        runs = ", ".join(workspace.known_runs(f"{path}/" if path.exists() else "runs/")[:8])
        raise ModelError(f"{error} Runs here: {runs}.") if runs else error from None
    own = model.peft is not None and (path / "tokenizer.json").is_file()
    tokenizer = Tokenizer.load(path) if own else model.tokenizer  # an adapter brings its template along
    assert tokenizer is not None
    renderer = Renderer(tokenizer)
    model.add_stop(renderer.stop_id)
    if both and model.peft is None:
        raise ConfigError(f"--both needs a run or an adapter, and {target} is a model without one.")
    base = [Speaker(BASE, model, renderer, bare=True)] if both else []
    return [*base, Speaker(TUNED if model.peft is not None else path.resolve().name, model, renderer)]


def _of_run(path: Path, both: bool) -> list[Speaker]:
    task = workspace.load_config(path)
    if task.train.method == "reward_model":
        raise ConfigError(f"{path} is a reward model: it scores answers and writes none.")
    context = RunContext(task, path, Console(quiet=True))
    tuned = context.tuned()
    renderer = _saved_renderer(context)
    base = tuned
    if both and tuned.peft is None:  # both in memory, since they answer in turn
        base = context.load()
        require_same_base(path, base)
    for model in (base, tuned):
        model.add_stop(renderer.stop_id)
    there = [Speaker(BASE, base, renderer, bare=True)] if both else []
    return [*there, Speaker(TUNED, tuned, renderer)]


def _saved_renderer(context: RunContext) -> Renderer:
    """The run's rendering with the template saved beside its weights, which asks as its rows were asked."""
    saved = workspace.trained_path(context.path)
    if saved is None or not (saved / "tokenizer.json").is_file():
        return context.renderer
    tokenizer = Tokenizer.load(saved)
    if not tokenizer.chat_template:
        return context.renderer
    return Renderer(tokenizer, "chat", context.task.instruction)


def to_json(question: str, replies: list[Reply]) -> dict[str, Any]:
    """One turn as plain JSON values."""
    return {"question": question, "answers": [asdict(reply) for reply in replies]}
