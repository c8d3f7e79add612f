"""Ctrl-C and SIGTERM: a flag that the training loop polls between steps, and an exception elsewhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_received: set[int] = set()  # signals since the command began


class Terminated(BaseException):
    """SIGTERM outside training. No KeyboardInterrupt, which ends only an answer in a chat."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise Terminated at a SIGTERM, so that files and locks are left as after Ctrl-C; main thread only."""
    _received.clear()

    def handle(number: int, frame: FrameType | None) -> None:
        _received.add(number)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def was_terminated() -> bool:
    """Whether the command got SIGTERM."""
    return signal.SIGTERM in _received


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a stop was requested; afterwards restore the previous handlers.

    The first SIGINT or SIGTERM sets the flag, so that the loop can save; a second one raises
    KeyboardInterrupt immediately. Outside the main thread handlers cannot be set, and the function always
    returns False.
    """
    requested = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        _received.add(number)
        if requested:
            raise KeyboardInterrupt
        requested = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: requested
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
