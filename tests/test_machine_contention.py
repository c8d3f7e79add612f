"""Threads spin on a quiet machine and sleep on one that is shared: counts, never a clock."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from finetooth import machine
from finetooth.machine import (
    MIN_ACTIVE_NS,
    UNCONTENDED_SAMPLES,
    WAIT_VARIABLES,
    ContentionMonitor,
    ThreadTimes,
)

COUNTED = pytest.mark.skipif(not machine.thread_times(), reason="the kernel does not count waiting times")


def run(code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that runs the code, with no other setting of OpenMP than these."""
    ours = ("OMP_", "GOMP_", "KMP_", "MKL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | settings, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done


# --- the decision ---


class Pool:
    """In the place of an idle pool."""

    started = True

    def end(self) -> None:
        pass


def pools(monkeypatch: pytest.MonkeyPatch, shares: list[float | None]) -> list[bool]:
    """Whether there is a pool after each sample, when a thread waited this share of the time between samples.

    None: it hardly ran, and waited for as long as it ran.
    """
    monkeypatch.setattr(machine, "IdlePool", Pool)
    ran, waited = 5_000, 7_000
    monitor, found = ContentionMonitor({"1": (ran, waited)}), []
    for share in shares:
        length, share = (MIN_ACTIVE_NS - 2, 0.5) if share is None else (5 * MIN_ACTIVE_NS, share)
        ran, waited = ran + round(length * (1 - share)), waited + round(length * share)
        monitor.update({"1": (ran, waited)})
        found.append(monitor.pool is not None)
    return found


def test_threads_of_a_quiet_machine_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any(pools(monkeypatch, [0.0, 0.02, 0.09, None, None, 0.05, 0.09, 0.0]))


def test_the_pool_is_there_while_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    calm = [0.01] * UNCONTENDED_SAMPLES
    shares = [0.5, 0.3, 0.05, *calm[1:], 0.2, *[None] * UNCONTENDED_SAMPLES, *calm[1:]]
    assert all(pools(monkeypatch, shares))
    assert pools(monkeypatch, [*shares, None, 0.01, None, 0.5])[-4:] == [True, False, False, True]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"1": (10, 10)}, {"1": (40, 20)}, (30, 10)),
        ({"1": (10, 10), "2": (0, 0)}, {"1": (40, 20), "2": (0, 10)}, (30, 20)),
        ({}, {"9": (30, 10)}, (0, 0)),  # a thread that started between the samples, or the first was empty
        ({"9": (500, 5)}, {"9": (30, 10)}, (0, 5)),  # another one with the id of one that ended
        ({"1": (10, 10), "2": (7, 7)}, {"1": (10, 10)}, (0, 0)),  # one that ended
    ],
)
def test_run_and_wait_ns(before: ThreadTimes, after: ThreadTimes, found: tuple[int, int]) -> None:
    assert machine.run_and_wait_ns(before, after) == found


@COUNTED
def test_times_are_read(tmp_path: Path) -> None:
    found = machine.thread_times()
    assert str(threading.get_native_id()) in found
    assert all(ran >= 0 and waited >= 0 for ran, waited in found.values())
    assert machine.thread_times(tmp_path) == {}  # no such files


# --- the real thing ---

# A forked child has neither monitor nor pool; torch starts its own threads there.
FORKED = """
import os, threading, torch, finetooth
from finetooth import machine
from torch.utils.data import DataLoader
machine.start_contention_monitor()
pool = machine.IdlePool()
child = os.fork()
if not child:
    machine.start_contention_monitor()
    names = [thread.name for thread in threading.enumerate()]
    right = "finetooth-contention-monitor" in names and torch.ones(300_000).add(1).sum() == 600_000
    os._exit(0 if right else 1)
assert os.waitpid(child, 0)[1] == 0
torch.ones(300_000).add(1)
loader = DataLoader(torch.arange(64.0), batch_size=8, num_workers=2, multiprocessing_context="fork")
assert torch.cat(list(loader)).tolist() == list(range(64))
"""


@COUNTED
@pytest.mark.full
def test_a_fork_has_no_pool_and_starts_its_own_monitor() -> None:
    run(FORKED)


@pytest.mark.parametrize("name", [*WAIT_VARIABLES, ""])
def test_the_users_way_of_waiting_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    import_module("torch")  # with its libgomp
    for other in WAIT_VARIABLES:
        monkeypatch.delenv(other, raising=False)
    if name:
        monkeypatch.setenv(name, "PASSIVE")
    monitors: dict[int, threading.Thread] = {}
    monkeypatch.setattr(machine, "_monitors", monitors)
    monkeypatch.setattr(machine, "ContentionMonitor", lambda times: SimpleNamespace(run=lambda: None))
    for _ in range(2):
        machine.start_contention_monitor()
    assert len(monitors) == (0 if name or not machine.thread_times() else 1)


@COUNTED
@pytest.mark.parametrize("path", ["libgomp.so.1 (deleted)", "libgomp-notes.txt"])
def test_a_pool_that_cannot_be_started_ends_the_monitor_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
) -> None:
    (tmp_path / "libgomp-notes.txt").write_text("no library")
    monkeypatch.setattr(machine, "loaded_libgomps", lambda: {str(tmp_path / path)})
    monitor = ContentionMonitor({"1": (0, 0)})
    monitor.update({"1": (MIN_ACTIVE_NS, MIN_ACTIVE_NS)})
    assert monitor.pool is not None and not monitor.pool.started
    monitor.run()  # returns


@COUNTED
def test_no_pool_where_threads_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """libgomp ends the process when it cannot start a thread."""
    import_module("torch")
    threads = threading.active_count()

    def start(thread: threading.Thread) -> None:
        if thread.name != "finetooth-idle-pool" and threading.active_count() > threads + 2:
            raise RuntimeError("can't start new thread")
        really(thread)

    really = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    assert not machine.IdlePool().started
    assert threading.active_count() <= threads + 1


SPINNING = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start()
while True:
    pass
"""
COMPETING = f"""
import os, subprocess, sys, threading, time
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
import torch
from finetooth import machine
machine.start_contention_monitor()
spinning = [sys.executable, "-c", {SPINNING!r}]
others = [subprocess.Popen(spinning, stdin=subprocess.PIPE) for _ in range(3)]
deadline = time.monotonic() + 120
while not any(thread.name == "finetooth-idle-pool" for thread in threading.enumerate()):
    assert time.monotonic() < deadline
    sum(range(100_000))
"""


@pytest.mark.full
@COUNTED
def test_a_process_that_competes_for_its_cpu_starts_a_pool() -> None:
    """Three real competitors on one CPU with this one. They end when it does, however it ends."""
    run(COMPETING)


STEPS = """
import os, threading, time, numpy, torch
import finetooth as ft
from finetooth import machine
from finetooth.config.task import TrainConfig
from finetooth.training import optimizer
from finetooth.training.objectives import supervised
from finetooth.training.step import train_step

def train():
    model = ft.Model.load("milktooth")
    model.add_lora(8, seed=0)
    draw = numpy.random.default_rng(0)
    rows = [ft.Row(draw.integers(10, 900, 40).tolist(), [0.0] * 30 + [1.0] * 10, id=str(n)) for n in range(6)]
    update = optimizer.build(model, TrainConfig(adapter="lora", rank=8))
    for group in update.param_groups:
        group["lr"] = 1e-3
    for _ in range(2):
        train_step(model, supervised, rows, update, budget=4096, max_norm=1.0)
    return model.digest()

count, before = lambda: len(os.listdir("/proc/self/task")), torch.get_num_threads()
machine.CONTENDED = 2.0  # the monitor starts no pool
spinning = train()
names = [thread.name for thread in threading.enumerate()]
assert names.count("finetooth-contention-monitor") == 1
native = count()
pool = machine.IdlePool()
assert pool.started
team = len(os.sched_getaffinity(0)) + 1  # a thread for each CPU, and in the first one their owner
assert count() - native == team + (len(machine.loaded_libgomps()) - 1) * (team - 1)
assert train() == spinning and torch.get_num_threads() == before
pool.end()
deadline = time.monotonic() + 60
while count() > native:  # its threads end a moment after their owner
    assert time.monotonic() < deadline
"""


@COUNTED
@pytest.mark.full
def test_a_pool_comes_and_goes_and_changes_no_weight() -> None:
    """The process ends as it should, too."""
    run(STEPS)
