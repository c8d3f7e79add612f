"""A real pseudo-terminal with a program in it, typed at and read like a person would."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from processes import Launched, finetooth


class Terminal:
    """A program at a terminal of 100 columns. NO_COLOR and TERM=dumb, unless `environment` says otherwise.

    `finetooth` is forked from a process that has imported torch; other programs are started.
    """

    def __init__(
        self, command: Sequence[object], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        ours, theirs = pty.openpty()
        self._handle = ours
        self.text = ""
        self._read_to = 0
        given = {"COLUMNS": "100", "LINES": "40", "TERM": "dumb", "NO_COLOR": "1", **(environment or {})}
        self.process: Launched | subprocess.Popen[bytes]
        if command[0] == "finetooth":
            name = os.ttyname(theirs)
            self.process = finetooth(folder, *command[1:], streams=(name,) * 3, environment=given)
        else:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                cwd=folder,
                env={**os.environ, **given},
                start_new_session=True,
                preexec_fn=_take_terminal,
            )
        os.close(theirs)

    def type(self, text: str) -> None:
        """Press keys: \\n is Enter, \\x03 Ctrl-C, \\x04 Ctrl-D, \\t Tab."""
        os.write(self._handle, text.encode())

    def wait_for(self, words: str, seconds: float = 300.0) -> str:
        """Read on until these words appear behind what was waited for before; all text between."""
        deadline = time.monotonic() + seconds
        while words not in self.text[self._read_to :]:
            if not self._read(deadline):
                self.process.kill()
                raise AssertionError(f"{words!r} did not come. Shown:\n{self.text}")
        start, end = self._read_to, self.text.index(words, self._read_to) + len(words)
        self._read_to = end
        return self.text[start:end]

    def interrupt_prompt(self, seconds: float = 300.0) -> None:
        """Press Ctrl-C once the program sleeps until a key is pressed.

        Python shows a prompt a moment before it waits for keys, and a signal in between is not seen until
        the next key. Nobody is that quick, but a test is.
        """
        deadline, stat = time.monotonic() + seconds, Path(f"/proc/{self.process.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "S":
            assert time.monotonic() < deadline, f"It does not wait for keys. Shown:\n{self.text}"
            time.sleep(0.01)
        self.type("\x03")

    def wait_for_more(self, characters: int, seconds: float = 300.0) -> None:
        """Read until so many more characters have been shown."""
        deadline, enough = time.monotonic() + seconds, len(self.text) + characters
        while len(self.text) < enough:
            if not self._read(deadline):
                self.process.kill()
                raise AssertionError(f"Nothing more came. Shown:\n{self.text}")

    def end(self, seconds: float = 300.0) -> int:
        """Read until the program ends, and its exit code."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        code = self.process.wait(max(1.0, deadline - time.monotonic()))
        os.close(self._handle)
        return code

    def _read(self, deadline: float) -> bool:
        """Whether there was something to read before the deadline."""
        if not select.select([self._handle], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            found = os.read(self._handle, 1 << 16)
        except OSError:  # the other end is closed
            return False
        self.text += found.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(found)


def _take_terminal() -> None:
    """Make the terminal the session's own, so that Ctrl-C is a signal, also where it was to be ignored."""
    import fcntl
    import termios

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests in the background of a shell inherit SIG_IGN
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
