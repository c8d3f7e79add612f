"""Processes of their own for what needs one: signals, terminals, audit hooks, a full disk.

They are forks of the process of the tests: importing torch takes longer than what most of them do. OpenMP has
one thread there (conftest.py), since a fork has no pool of threads and would wait for it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FORK = multiprocessing.get_context("fork")


class Launched:
    """A process with a program in it, which writes to files; `folder` is where it works.

    streams: paths of its standard input, output and error. A terminal among them becomes its own.
    """

    def __init__(
        self,
        program: Callable[..., Any],
        arguments: tuple[Any, ...],
        folder: Path,
        streams: tuple[str, str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._room = tempfile.TemporaryDirectory()
        out, err = (f"{self._room.name}/{name}" for name in ("out", "err"))
        self._written = (Path(out), Path(err))
        given = (program, arguments, str(folder), streams or (os.devnull, out, err))
        ready, tell = FORK.Pipe(duplex=False)
        environment = {**os.environ, **(environment or {})}
        self._process = FORK.Process(target=_start, args=(*given, environment, tell))
        self._process.start()
        ready.recv()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.exitcode is None

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def wait(self, seconds: float = 300.0) -> int:
        """Wait for its end and return its exit code; TimeoutError when it goes on for longer."""
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            self.kill()
            raise TimeoutError(f"still running after {seconds} s")
        return code

    def end(self, seconds: float = 300.0) -> tuple[int, str, str]:
        """Wait for its end: the exit code, and what it wrote to its output and its errors."""
        out, err = self._written
        return self.wait(seconds), out.read_text(), err.read_text()


def finetooth(folder: Path, *arguments: object, **options: Any) -> Launched:
    """`finetooth ARGUMENTS` in a process of its own."""
    return Launched(_finetooth, tuple(map(str, arguments)), folder, **options)


def python(folder: Path, code: str, *arguments: object) -> tuple[int, str, str]:
    """Run a program in a process of its own to its end; see `Launched.end`."""
    return Launched(_python, (code, *map(str, arguments)), folder).end()


def _finetooth(*arguments: str) -> None:
    from finetooth.cli.app import main

    main(arguments)


def _python(code: str, *arguments: str) -> None:
    sys.argv[1:] = arguments
    exec(compile(code, "<program>", "exec"), {"__name__": "__main__"})


def _start(
    program: Callable[..., Any],
    arguments: tuple[Any, ...],
    folder: str,
    streams: tuple[str, str, str],
    environment: dict[str, str],
    tell: Any,
) -> None:
    """What a new interpreter would find: streams, environment, folder, and Ctrl-C as an exception."""
    os.setsid()  # the first terminal that is opened then becomes the session's own
    for number, path in enumerate(streams):
        handle = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(handle, number)
        os.close(handle)
    tell.send(None)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", buffering=1 if os.isatty(1) else -1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    program(*arguments)


def kill_at_write(number: int) -> None:
    """This process is killed before its fsync, replace or rename of this number, counted together from 1."""
    calls = 0

    def counted(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    os.fsync, os.replace, os.rename = counted(os.fsync), counted(os.replace), counted(os.rename)
