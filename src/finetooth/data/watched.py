"""A watched process for what a file could make us compute for ever: the user's own code, regular expressions.

One worker process answers calls in turn. Its calls have a deadline; a call that exceeds it, or that ends the
process, becomes a `Failed`, and the next call starts a new worker. Nothing that comes back is unpickled.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from multiprocessing.connection import Connection, Pipe
from typing import Any

from finetooth.errors import printable

START_SECONDS = 120.0  # a new interpreter on a busy machine
CHILD = """
import json, sys
sys.path[:] = json.loads(sys.argv[3])
from importlib import import_module
from finetooth.data.watched import serve
serve(int(sys.argv[1]), int(sys.argv[4]), import_module(sys.argv[2]).ANSWERS)
"""
Answers = Mapping[str, Callable[..., Any]]  # name of a call -> its function, whose result is plain JSON


class Failed(Exception):
    """The call was not answered. `str(error)` says why, as the end of a sentence."""


class Worker:
    """A process with the functions of a module's ANSWERS. module: its dotted name.

    restarts: how many processes there have been; what a call has left in one is not in the next.
    """

    def __init__(self, module: str) -> None:
        self.module, self.restarts = module, 0
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._owner = 0  # a fork of this process must not talk to its parent's worker
        atexit.register(self.stop)

    def start(self) -> int:
        """A running worker's number, starting one if there is none."""
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            if self._owner == os.getpid():
                self.stop()
            self._pipe, other = Pipe()
            arguments = [str(other.fileno()), self.module, json.dumps(sys.path), str(os.getpid())]
            self._process = subprocess.Popen(
                [sys.executable, "-c", CHILD, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=sys.__stderr__.fileno() if sys.__stderr__ else subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,  # Ctrl-C is for the parent; what the worker started ends with it
            )
            other.close()
            self._owner = os.getpid()
            self.restarts += 1
            self._receive(START_SECONDS)
        return self.restarts

    def ask(self, name: str, *arguments: Any, seconds: float) -> Any:
        """The answer of a call; what it printed goes to stderr. Raises Failed after `seconds`, or at the
        process's end.
        """
        return next(self.ask_each(name, [arguments], seconds))

    def ask_each(self, name: str, calls: Sequence[tuple[Any, ...]], seconds: float) -> Iterator[Any]:
        """The answers of several calls, sent as one message; `seconds` is the limit of each. See `ask`."""
        self.start()
        left = len(calls)
        try:
            assert self._pipe is not None
            self._pipe.send((name, calls, seconds))
            while left:
                answer, printed = self._receive(seconds)
                left -= 1
                if printed:
                    sys.stderr.write(printable(printed))
                yield answer
        finally:
            if left:  # the rest of its answers is nobody's
                self.stop()

    def _receive(self, seconds: float) -> Any:
        assert self._pipe is not None and self._process is not None
        try:
            if not self._pipe.poll(min(seconds, 1e6)):
                raise Failed(f"took longer than {seconds:g} seconds")
            return json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            raise Failed(f"ended its process ({_ending(self._process.returncode)})") from None

    def stop(self) -> None:
        """End the worker, and what it has started, if there is one."""
        process, self._process = self._process, None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if process is not None and self._owner == os.getpid():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _ending(code: int | None) -> str:
    if code is None:
        return "it no longer answers"
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def serve(handle: int, parent: int, answers: Answers) -> None:
    """The worker's side: answer calls until the parent is gone."""
    os.dup2(2, 1)
    pipe = Connection(handle)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    pipe.send_bytes(b"null")
    while True:
        try:
            name, calls, seconds = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)
        for arguments in calls:
            # A library that hangs without letting other threads run must not outlive a killed parent.
            signal.setitimer(signal.ITIMER_PROF, min((seconds + 5) * (os.cpu_count() or 1), 1e6))
            printed = _Printed()
            with redirect_stdout(printed), redirect_stderr(printed):
                answer = answers[name](*arguments)
            signal.setitimer(signal.ITIMER_PROF, 0)
            with suppress(OSError):
                pipe.send_bytes(json.dumps([answer, printed.getvalue()]).encode())


class _Printed(StringIO):
    """What a call printed, as far as anybody would read it."""

    def write(self, text: str) -> int:
        return super().write(text) if self.tell() < 1 << 20 else len(text)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def _match_all(patterns: list[str], names: list[str]) -> str:
    """The first pattern that is not a regular expression, with the reason; "" when all are tried on all."""
    for pattern in patterns:
        try:
            compiled = re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            return f"{pattern[:80]!r} is not a regular expression: {error}"
        for name in names:
            compiled.fullmatch(name)
            re.match(rf"(.*\.)?({pattern})$", name)
    return ""


ANSWERS: Answers = {"match": _match_all}
_MATCHER = Worker(__name__)


def problem_of_patterns(patterns: Iterable[str], names: Iterable[str], seconds: float = 10.0) -> str:
    """Why these regular expressions cannot be matched against the names within `seconds`; "" if they can.

    Plain names are not tried.
    """
    odd = [pattern for pattern in patterns if not re.fullmatch(r"[\w.\-]*", pattern)]
    if not odd:
        return ""
    try:
        return str(_MATCHER.ask("match", odd, list(names), seconds=seconds))
    except Failed as failed:
        return f"{odd[0][:80]!r} {failed}"
