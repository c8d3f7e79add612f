"""What a person types in a review: single keys at a terminal, or lines from a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TextIO

TYPED = "ct/"  # commands that a text follows
NEXT, BACK = " ", "b"
_ARROWS = {"A": BACK, "D": BACK, "B": NEXT, "C": NEXT}


class Keys(Protocol):
    """Where the commands of a review come from."""

    @property
    def typed(self) -> bool:
        """Whether a person types, who sees prompts and can be asked again."""

    def key(self) -> str:
        """The next command, one character; "" at the end of the input."""

    def line(self, prompt: str, given: str = "") -> str | None:
        """The text that belongs to the last command; None if there is none. given: what to begin with."""


class LineKeys:
    """Commands from lines: `y`, `1y`, `c TEXT`; an empty line goes on to the next row."""

    typed = False

    def __init__(self, lines: TextIO) -> None:
        self._lines = lines
        self._waiting: list[str] = []
        self._text: str | None = None

    def key(self) -> str:
        """The next command of this line, or the first of the next line."""
        if self._waiting:
            return self._waiting.pop(0)
        if not (line := self._lines.readline()):
            return ""
        words = line.strip()
        if words[:1] in TYPED and words:
            self._text = words[1:].strip()
            return words[0]
        self._waiting = list(words.replace(" ", "")) or [NEXT]
        return self._waiting.pop(0)

    def line(self, prompt: str, given: str = "") -> str | None:
        """What stood behind the command; None when that was taken already, or nothing stood there."""
        text, self._text = self._text, None
        return text or None


class TerminalKeys:
    """Single keys of a terminal, read without Enter. To be used inside `raw`."""

    typed = True

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._cooked: list[int | list[bytes | int]] | None = None

    @contextmanager
    def raw(self) -> Iterator[None]:
        """Keys come one by one and are not shown; afterwards the terminal is as it was."""
        import termios
        import tty

        self._cooked = termios.tcgetattr(self._handle)
        tty.setcbreak(self._handle, termios.TCSADRAIN)
        try:
            yield
        finally:
            termios.tcsetattr(self._handle, termios.TCSADRAIN, self._cooked)

    def key(self) -> str:
        """The next key; arrows are `b` and space. "" for Ctrl-D, and when the terminal was closed."""
        first = self._byte()
        if first == b"\x1b":
            return self._escape()
        size = 4 if first >= b"\xf0" else 3 if first >= b"\xe0" else 2 if first >= b"\xc0" else 1
        key = (first + b"".join(self._byte() for _ in range(size - 1))).decode("utf-8", "replace")
        return {"\n": NEXT, "\r": NEXT, "\x04": ""}.get(key, key)

    def _byte(self) -> bytes:
        with suppress(OSError):  # closed
            return os.read(self._handle, 1)
        return b""

    def _escape(self) -> str:
        """The command of an arrow key; another escape sequence, or Esc itself, is no command."""
        import select

        if not select.select([self._handle], [], [], 0.05)[0] or self._byte() not in (b"[", b"O"):
            return "\x1b"
        while (end := self._byte()) and not b"@" <= end <= b"~":
            pass
        return _ARROWS.get(end.decode("ascii", "replace"), "\x1b")

    def line(self, prompt: str, given: str = "") -> str | None:
        """A line that is typed and edited as usual; None for an empty one, Ctrl-C and Ctrl-D."""
        import termios
        import tty

        assert self._cooked is not None
        termios.tcsetattr(self._handle, termios.TCSADRAIN, self._cooked)
        try:
            return _edited(prompt, given).strip() or None
        except (EOFError, KeyboardInterrupt):
            sys.stdout.write("\n")
            return None
        finally:
            tty.setcbreak(self._handle, termios.TCSADRAIN)


def _edited(prompt: str, given: str) -> str:
    """`input` with line editing, where Python has it, that begins with a text."""
    try:
        import readline
    except ImportError:
        return input(prompt)
    readline.set_startup_hook(lambda: readline.insert_text(given))
    try:
        return input(prompt)
    finally:
        readline.set_startup_hook(None)


@contextmanager
def standard_keys() -> Iterator[Keys]:
    """Keys of the terminal if standard input is one, else lines of it."""
    if sys.stdin.isatty():
        keys = TerminalKeys(sys.stdin.fileno())
        with keys.raw():
            yield keys
    else:
        yield LineKeys(sys.stdin)
