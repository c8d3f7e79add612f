"""`finetooth chat RUN|MODEL`: chat with a model, asked as its run's test was.

Questions are typed or pasted at a terminal, or piped in, one per line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from finetooth.errors import ConfigError, FinetoothError, printable
from finetooth.evaluation.verdict_words import percent
from finetooth.report.console import terminal
from finetooth.report.row_text import VISIBLE
from finetooth.runs.conversation import Conversation, Reply, speakers, to_json

HELP = """\
/reset         start a new conversation
/system TEXT   set the system message, after the run's instruction; without TEXT, remove it
/paste         a question of several lines, which ends with a line /end
/quit          end the chat, like Ctrl-D. Ctrl-C stops an answer.
To ask a question that begins with /, type a space first."""
PASTE, END = "/paste", "/end"
SHOWN_PROBLEMS = 3
NARROW = 60  # columns; in a narrower terminal two answers are printed one after the other


@dataclass(frozen=True, slots=True)
class Options:
    """The flags of `chat`; None stands for the run's own value.

    both: the base model answers, too. conversation: piped lines are turns of one conversation. free: without
    the run's label set.
    """

    both: bool = False
    conversation: bool = False
    system: str | None = None
    free: bool = False
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    seed: int | None = None

    def sampling(self) -> dict[str, Any]:
        """The sampling values that were given."""
        given = {name: getattr(self, name) for name in ("temperature", "max_tokens", "top_p", "seed")}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ChatReport:
    """The questions and answers. They have been shown already, unless they are printed as JSON.

    asked: instruction, system message and label set. problems: what to say of lines that could not be asked.
    """

    target: str
    asked: dict[str, Any]
    turns: list[dict[str, Any]] = field(default_factory=list)
    problems: str = ""
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The model, how it was asked, and the question and answers of each turn."""
        return {"model": self.target, "asked": self.asked, "turns": self.turns}

    def print(self, console: Console) -> None:
        """Nothing: every answer was shown as it was generated."""


def run(target: str, options: Options, as_json: bool, console: Console) -> ChatReport:
    """Chat until the input ends. console: for everything that is not an answer.

    Raises FinetoothError for an unusable model or sampling value, and for an empty pipe. A piped line that
    cannot be asked is in the report's problems.
    """
    asked = speakers(target, options.both, options.free, console, **options.sampling())
    asking = asked[-1].asking
    if options.system is not None:
        asking = replace(asking, system=options.system, systems=())
    conversation = Conversation(asked, asking.system)
    for note in (*asked[-1].model.notes, *asking.candidate.renderer.notes):
        console.print(f"model: {note}", style="dim")
    typed = sys.stdin.isatty()
    screen = Screen(conversation, console, typed, silent=as_json)
    if typed:
        screen.greet(target)
    console.print(asking.describe(), style="dim", soft_wrap=True)
    if typed:
        turns, problems = _typed(screen), ""
    else:
        turns, problems = _piped(screen, options.conversation)
        if not turns and not problems:
            raise ConfigError(f'No question was piped in. Try: echo "..." | finetooth chat {target}')
    return ChatReport(target, asking.to_json(), turns, problems)


def _typed(screen: Screen) -> list[dict[str, Any]]:
    """The turns of a conversation at a terminal."""
    turns = []
    for line in screen.typed():
        try:
            replies = screen.take(line)
        except EOFError:
            break
        except FinetoothError as error:
            _print_error(str(error))
            continue
        if replies is not None:
            turns.append(to_json(line.strip(), replies))
    return turns


def _piped(screen: Screen, conversation: bool) -> tuple[list[dict[str, Any]], str]:
    """The turns of piped lines, and what to say of those that could not be asked.

    Each line is a question of its own, so others are still answered; a conversation ends with such a line.
    """
    turns: list[dict[str, Any]] = []
    problems: list[str] = []
    for number, line in enumerate(sys.stdin.buffer, 1):
        text, replies, problem = line.decode("utf-8", "replace"), None, ""
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            replies = screen.take(text)
        except EOFError:
            break
        except UnicodeDecodeError as error:
            problem = f"Line {number} of the questions is not UTF-8: {error.reason}."
        except FinetoothError as error:
            problem = f"Line {number}: {error}"
        if problem:
            problems.append(problem)
            turns.append(to_json(text.strip(), [], problem))
            if conversation:
                break
        if replies is not None:
            turns.append(to_json(text.strip(), replies))
            if not conversation:
                screen.forget()
    if len(problems) > 1:
        problems = [*problems[:SHOWN_PROBLEMS], f"{len(problems)} lines could not be asked; others were."]
    return turns, "\n".join(problems)


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
        self._log.print(f"{' and '.join(self._names)}: {target}. /help lists commands, Ctrl-D ends the chat.")

    def typed(self) -> Iterator[str]:
        """The questions and commands until Ctrl-D. A text that is pasted, or stands after /paste, is one."""
        with suppress(ImportError):
            import readline  # line editing and history for input()

            if not self._out.is_dumb_terminal:
                readline.parse_and_bind("set enable-bracketed-paste on")
        while True:
            try:
                line = self._line()
                yield self._pasted() if line.strip() == PASTE else line
            except KeyboardInterrupt:
                self._log.print("\nCtrl-D or /quit ends the chat.", style="dim")
            except EOFError:
                self._log.print()
                return

    def _pasted(self) -> str:
        """The lines up to /end, or Ctrl-D."""
        self._log.print(f"Paste the text; a line {END} ends it.", style="dim")
        lines: list[str] = []
        with suppress(EOFError):
            while (line := self._line("")).strip() != END:
                lines.append(line.removesuffix("\n"))
        return f" {text}" if (text := "\n".join(lines).strip()).startswith("/") else text

    def _line(self, prompt: str = "you: ") -> str:
        if sys.stdout.isatty() and not self._silent:
            if prompt:
                self._out.print()
            return input(prompt)
        self._log.print(f"\n{prompt}" if prompt else "", end="")
        if not (line := sys.stdin.readline()):
            raise EOFError
        return line

    def forget(self) -> None:
        """Start a new conversation."""
        self._conversation.reset()

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
            if reply.confidence is not None:
                unsure = f", below the run's threshold, in {reply.text!r}" if reply.unsure else ""
                self._log.print(
                    f"({reply.name}: confidence {percent(reply.confidence)}{unsure})", style="dim"
                )
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
