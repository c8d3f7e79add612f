"""Limits of the time and the memory that a chat template may take: it comes with the model, from anybody.

A timer of processor time looks, ten times a second, whether one rendering goes on and how much the process
has grown since; it stops by itself when nothing is rendered. So an ordinary rendering pays for two
assignments and no system call. Time is watched in the main thread, where Python handles signals.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import jinja2

from finetooth.errors import DataError

SECONDS = 5.0  # processor time of one conversation; the templates of models take less than 0.01
MEMORY = 1 << 30  # bytes by which the process may grow
TICK = 0.1
MAX_CHARACTERS = 20_000_000  # of one text: far beyond any model's context, well within memory
WIDTH = 1_000_000  # of padding, indentation and the like
MAX_VALUES = 250_000  # in one JSON


class TemplateLimit(DataError):
    """A template exceeded a limit. Not the fault of one row, so rendering ends."""


class _Watch:
    """What the timer knows. where: the template in rendering, "" for none. rendering: counts them."""

    armed = False
    where = ""
    rendering = 0
    seen, ticks, resident = -1, 0, 0  # the rendering of the last tick, its ticks, the memory at the first


def _disarm() -> None:
    if _Watch.armed and hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    _Watch.armed = False


atexit.register(_disarm)  # the interpreter takes the handler away before it ends
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disarm)  # timers are not inherited


def _tick(number: int, frame: FrameType | None) -> None:
    if _Watch.rendering == _Watch.seen and not _Watch.where:
        _disarm()
    elif _Watch.rendering != _Watch.seen:
        _Watch.seen, _Watch.ticks, _Watch.resident = _Watch.rendering, 0, _resident()
    elif _Watch.where:
        _Watch.ticks += 1
        if _Watch.ticks * TICK > SECONDS:
            raise TemplateLimit(
                f"{_Watch.where}: took more than {SECONDS:g} seconds to render one conversation. Mend the "
                "template, or choose another one: `template: instruction`."
            )
        if _resident() - _Watch.resident > MEMORY:
            raise _too_much_memory(_Watch.where)


def _resident() -> int:
    """The memory of this process in bytes, 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _too_much_memory(where: str) -> TemplateLimit:
    return TemplateLimit(
        f"{where}: took more than {MEMORY >> 30} GiB of memory to render one conversation. Mend the "
        "template, or choose another one: `template: instruction`."
    )


class limited:
    """Raise TemplateLimit when what runs in this context takes too long or too much memory.

    where: the template, for the message.
    """

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        if not _Watch.armed and threading.current_thread() is threading.main_thread():
            _Watch.armed = True
            signal.signal(signal.SIGVTALRM, _tick)
            signal.setitimer(signal.ITIMER_VIRTUAL, TICK, TICK)
        _Watch.rendering += 1
        _Watch.where = self.where

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _Watch.where = ""
        if kind is MemoryError:
            raise _too_much_memory(self.where) from None


def refuse_large(function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Raise SecurityError before a call of one step whose result would be too large to compute.

    function: a method of a text, or a filter with the text as its first argument.
    """
    for value in (*arguments, *named.values()):
        if isinstance(value, int) and abs(value) > WIDTH:
            raise jinja2.exceptions.SecurityError(f"{value:.3g} is too large an argument")
    name, own = getattr(function, "__name__", ""), getattr(function, "__self__", None)
    values = (own, *arguments) if isinstance(own, str) else arguments
    if name in ("replace", "do_replace"):
        text, old, new = (*map(str, values[-3 if name == "replace" else 0 :]), "", "", "")[:3]
        if text.count(old) * len(new) > MAX_CHARACTERS:
            raise jinja2.exceptions.SecurityError("a replacement of the template is too large")
    elif name == "format" and isinstance(own, str) and re.search(r"\d{6}", own):
        raise jinja2.exceptions.SecurityError("a format of the template is too wide")
    elif name == "join" and len(values) == 2 and isinstance(values[1], list | tuple):
        size = sum(len(part) for part in values[1] if isinstance(part, str)) + len(values[0]) * len(values[1])
        if size > MAX_CHARACTERS:
            raise jinja2.exceptions.SecurityError("a join of the template is too large")


def refuse_large_json(value: Any) -> None:
    """Raise SecurityError for a value that is too large as JSON, such as a list that holds one list often."""
    parts, size, count = [value], 0, 0
    while parts:
        one = parts.pop()
        if isinstance(one, dict):
            parts += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple):
            parts += one
        size += len(one) if isinstance(one, str) else 1
        count += 1
        if size > MAX_CHARACTERS or count + len(parts) > MAX_VALUES:
            raise jinja2.exceptions.SecurityError("a value of the template is too large as JSON")
