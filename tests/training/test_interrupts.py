"""Ctrl-C and SIGTERM: a flag first, an end at the second time, and the former handlers afterwards."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from finetooth.training.interrupts import stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_a_flag_and_the_second_is_at_once(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), stop_on_signals() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def test_outside_the_main_thread_nothing_is_caught() -> None:
    answers = []

    def body() -> None:
        with stop_on_signals() as stop:
            answers.append(stop())

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert answers == [False]
