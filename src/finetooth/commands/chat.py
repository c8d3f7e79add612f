"""`finetooth chat RUN|MODEL`: chat with a model, rendered with the template it was trained with.

Questions are typed at a terminal, or piped in, one per line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from finetooth.errors import ConfigError, DataError, FinetoothError, printable
from finetooth.model.generation.sampling import check_sampling
from finetooth.report.console import terminal
from finetooth.report.row_text import VISIBLE
from finetooth.runs.conversation import Conversation, Reply, speakers, to_json
from finetooth.types import Sampling

HELP = """\
/reset         start a new conversation
/system TEXT   set a system message, after the run's instruction; without TEXT, remove it
/quit          end the chat, like Ctrl-D. Ctrl-C stops an answer.
To ask a question that begins with /, type a space first."""
NARROW = 60  # columns; in a narrower terminal two answers are printed one after the other


@dataclass(frozen=True, slots=True)
class ChatReport:
    """The questions and answers. They have been shown already, unless they are printed as JSON."""

    target: str
    turns: list[dict[str, Any]] = field(default_factory=list)
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The model, and the question and answers of each turn."""
        return {"model": self.target, "turns": self.turns}

    def print(self, console: Console) -> None:
        """Nothing: every answer was shown as it was generated."""


def run(target: str, both: bool, sampling: Sampling, as_json: bool, console: Console) -> ChatReport:
    """Chat until the input ends. console: for everything that is not an answer.

    Raises FinetoothError for an unusable model, sampling value or (from a pipe) line.
    """
    check_sampling(sampling)
    conversation = Conversation(speakers(target, both), sampling)
    for speaker in conversation.speakers[-1:]:
        for note in (*speaker.model.notes, *speaker.renderer.notes):
            console.print(f"model: {note}", style="dim")
    report = ChatReport(target)
    typed = sys.stdin.isatty()
    screen = Screen(conversation, console, typed, silent=as_json)
    if typed:
        screen.greet(target)
    for line in screen.typed() if typed else _piped():
        try:
            replies = screen.take(line)
        except EOFError:
            break
        except FinetoothError as error:
            if not typed:
                raise
            _print_error(str(error))
            continue
        if replies is not None:
            report.turns.append(to_json(line.strip(), replies))
    if not typed and not report.turns:
        raise ConfigError(f'No question was piped in. Try: echo "..." | finetooth chat {target}')
    return report


def _piped() -> Iterator[str]:
    """The lines of stdin. DataError for bytes that are not UTF-8."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"Line {number} of the questions is not UTF-8: {error.reason}.") from None


def _print_error(text: str) -> None:
    """Print to stderr, also with --quiet."""
    print(printable(text), file=sys.stderr, flush=True)


class Screen:
    """Input and output of the chat. typed: questions come from a terminal; silent: answers are not shown."""

    def __init__(self, conversation: Conversation, console: Console, typed: bool, silent: bool):
        self._conversation, self._log, self._typed, self._silent = conversation, console, typed, silent
        self._out = terminal()
        self._names = [speaker.name for speaker in conversation.speakers]
        wide = self._out.is_terminal and not self._out.is_dumb_terminal and self._out.width >= NARROW
        self._columns = len(self._names) > 1 and wide

    def greet(self, target: str) -> None:
        """Name the models, and say how to leave."""
        instruction = self._conversation.speakers[0].renderer.instruction
        self._log.print(f"{' and '.join(self._names)}: {target}. /help lists commands, Ctrl-D ends the chat.")
        if instruction:
            self._log.print(f"Instruction: {instruction}", style="dim")

    def typed(self) -> Iterator[str]:
        """The lines typed until Ctrl-D."""
        with suppress(ImportError):
            import readline  # noqa: F401  # line editing and history for input()
        while True:
            try:
                yield self._line()
            except KeyboardInterrupt:
                self._log.print("\nCtrl-D or /quit ends the chat.", style="dim")
            except EOFError:
                self._log.print()
                return

    def _line(self) -> str:
        if sys.stdout.isatty() and not self._silent:
            self._out.print()
            return input("you: ")
        self._log.print("\nyou: ", end="")
        if not (line := sys.stdin.readline()):
            raise EOFError
        return line

    def take(self, line: str) -> list[Reply] | None:
        """Process a line: the replies to a question, None for a command or an empty line."""
        question = line.strip()
        if line.startswith("/"):
            self._execute(question)
            return None
        return self._ask(question) if question else None

    def _execute(self, line: str) -> None:
        word, _, text = line.partition(" ")
        if word == "/quit":
            raise EOFError
        if word == "/help":
            _print_error(HELP)
        elif word == "/reset":
            self._conversation.reset()
            self._log.print("A new conversation.", style="dim")
        elif word == "/system":
            self._conversation.system = text.strip()
            message = f"System message: {text.strip()}" if text.strip() else "System message removed."
            self._log.print(message, style="dim")
        else:
            raise ConfigError(f"{word} is not a command.\n{HELP}")

    def _ask(self, question: str) -> list[Reply]:
        replies: list[Reply] = []
        stopped = False
        with closing(self._conversation.ask(question)) as pieces:
            try:
                if self._columns and not self._silent:
                    self._side_by_side(pieces, replies)
                else:
                    self._one_by_one(pieces, replies)
            except KeyboardInterrupt:
                if not self._typed:
                    raise
                stopped = True
        if stopped:
            kept = "; the text above stays in the conversation" if replies else ""
            self._log.print(f"\n(stopped{kept})", style="dim")
        limit = self._conversation.speakers[0].model.max_tokens
        for reply in replies:
            if reply.stop == "length":
                full = reply.prompt_tokens + reply.completion_tokens >= limit
                why = (
                    f"the context of {limit:,} tokens is full; /reset starts a new conversation"
                    if full
                    else f"after {reply.completion_tokens} tokens; --max-tokens allows more"
                )
                self._log.print(f"({reply.name} was truncated: {why})", style="dim")
        return replies

    def _one_by_one(self, pieces: Iterator[tuple[Reply, str]], replies: list[Reply]) -> None:
        for reply, text in pieces:
            if not replies or replies[-1] is not reply:
                replies.append(reply)
                self._write(f"{reply.name}: " if self._typed or len(self._names) > 1 else "")
            self._write(text)
            if reply.stop != "interrupted":
                self._write("\n")

    def _side_by_side(self, pieces: Iterator[tuple[Reply, str]], replies: list[Reply]) -> None:
        try:
            with Live(console=self._out, transient=True, refresh_per_second=12) as live:
                for reply, _ in pieces:
                    if not replies or replies[-1] is not reply:
                        replies.append(reply)
                    live.update(self._table(replies))
        finally:
            self._out.print(self._table(replies))

    def _table(self, replies: Sequence[Reply]) -> Table:
        table = Table(box=None, expand=True, padding=(0, 2, 0, 0), header_style="bold")
        for name in self._names:
            table.add_column(Text(name), ratio=1, overflow="fold")
        texts = [reply.text.translate(VISIBLE) for reply in replies]
        table.add_row(*map(Text, texts + [""] * (len(self._names) - len(texts))))
        return table

    def _write(self, text: str) -> None:
        if text and not self._silent:
            self._out.out(text.translate(VISIBLE) if self._out.is_terminal else text, end="")
