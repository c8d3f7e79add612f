"""A conversation with one or two models, each with its own history. Input and output: commands/chat.py."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.config.named_models import is_named
from finetooth.data.gguf_file import is_gguf
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import ConfigError, ModelError
from finetooth.evaluation.summary import TUNED
from finetooth.model.api import Model
from finetooth.runs import workspace
from finetooth.runs.context import RunContext, require_same_base, tokenizer_of
from finetooth.tree import Row
from finetooth.types import Message, Piece, Sampling

BASE = "base"


@dataclass
class Speaker:
    """A model and its history. without_adapter: its adapter is disabled while it generates."""

    name: str
    model: Model
    renderer: Renderer
    without_adapter: bool = False
    messages: list[Message] = field(default_factory=list)

    def context(self, system: str, question: str) -> Row:
        """The prompt: the conversation so far and the question, rendered with the run's template.

        Raises ModelError when it leaves no room for an answer; it is never truncated to fit.
        """
        own = [Message("system", system)] if system else []
        messages = [*own, *self.messages, Message("user", question)]
        row = self.renderer.context_row(messages, thinking=None)
        if len(row) >= self.model.max_tokens:
            subject = "The conversation with this question" if self.messages else "The question"
            raise ModelError(
                f"{subject} has {len(row):,} tokens; {self.name} takes {self.model.max_tokens:,}, the answer "
                "included. Nothing was generated: "
                + ("/reset starts a new conversation." if self.messages else "ask something shorter.")
            )
        return row

    def answer(self, row: Row, sampling: Sampling) -> Generator[Piece]:
        """The pieces of the answer as they are generated."""
        with self.model.without_adapter() if self.without_adapter else nullcontext():
            yield from self.model.stream([row], sampling)


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

    system: a system message for this conversation, after the run's instruction.
    """

    speakers: list[Speaker]
    sampling: Sampling
    system: str = ""

    def ask(self, question: str) -> Generator[tuple[Reply, str]]:
        """Ask all speakers in turn: yields the reply so far and its new text, a last time at its end.

        When closed early (Ctrl-C), partial answers stay in the history; a speaker without an answer forgets
        the question. Raises DataError or ModelError, before any answer, for a question that cannot be asked.
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
        """Clear the history; the system message stays."""
        for speaker in self.speakers:
            speaker.messages.clear()


def speakers(target: str, both: bool) -> list[Speaker]:
    """The speakers: the tuned model of a run, or a model by name; with `both`, its base before it.

    Raises ConfigError or ModelError when there is no such model, or no base for `both`.
    """
    path = Path(target)
    if not is_named(target) and (path / workspace.CONFIG).is_file():
        return _of_run(path, both)
    if not is_named(target) and path.is_file() and not is_gguf(path):
        raise ConfigError(
            f"{target} is a file. Expected a run directory or a model."
            + (f" First: finetooth run {target}" if path.suffix in (".yaml", ".yml", ".toml") else "")
        )
    try:
        model = Model.load(target)
    except ModelError as error:
        runs = ", ".join(workspace.known_runs(f"{path}/" if path.exists() else "runs/")[:8])
        raise ModelError(f"{error} Runs here: {runs}.") if runs else error from None
    renderer = Renderer(tokenizer_of(model, path))
    model.add_stop(renderer.stop_id)
    if both and model.peft is None:
        raise ConfigError(f"--both needs a run or an adapter; {target} is a model without an adapter.")
    base = [Speaker(BASE, model, renderer, without_adapter=True)] if both else []
    return [*base, Speaker(TUNED if model.peft is not None else path.resolve().name, model, renderer)]


def _of_run(path: Path, both: bool) -> list[Speaker]:
    task = workspace.load_config(path)
    if task.train.method == "reward_model":
        raise ConfigError(f"{path} is a reward model: it scores answers and cannot generate text.")
    context = RunContext(task, path, Console(quiet=True))
    tuned = context.tuned()
    renderer, saved = context.renderer, workspace.trained_path(path)
    if saved is not None and (saved / "tokenizer.json").is_file():
        tokenizer = Tokenizer.load(saved)
        if tokenizer.chat_template:  # the template saved beside the weights renders what training rendered
            renderer = Renderer(tokenizer, "chat", task.instruction)
    base = tuned
    if both and tuned.peft is None:  # two models in memory, since they answer in turn
        base = context.load()
        require_same_base(path, base)
    for model in (base, tuned):
        model.add_stop(renderer.stop_id)
    speakers = [Speaker(BASE, base, renderer, without_adapter=True)] if both else []
    return [*speakers, Speaker(TUNED, tuned, renderer)]


def to_json(question: str, replies: list[Reply]) -> dict[str, Any]:
    """One turn as plain JSON values."""
    return {"question": question, "answers": [asdict(reply) for reply in replies]}
