"""How torch's threads wait, and how many there are: settings and counts, never a clock."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from finetooth import threads
from finetooth.threads import COUNTS, LEAST, QUIET_LOOKS, WAITING, Times, Watcher, cpu_quota, limit_to_quota

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="libgomp's pools and /proc are of Linux")
TWO_CPUS = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="on one CPU torch has one thread")


def run(code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that runs the code, with no other setting of OpenMP than these."""
    ours = ("OMP_", "GOMP_", "KMP_", "MKL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run([sys.executable, "-c", code], env=kept | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


# --- the decision ---


class Pool:
    """In the place of an idle pool."""

    def __init__(self, libraries: set[str]) -> None:
        self.ended = False

    def end(self) -> None:
        self.ended = True


def watched(monkeypatch: pytest.MonkeyPatch, shares: list[float | None]) -> list[bool]:
    """Whether there is a pool after each look, when a thread waited this share of each time between looks.

    None: it hardly ran, and waited for as long as it ran.
    """
    monkeypatch.setattr(threads, "IdlePool", Pool)
    ran, waited = 5_000, 7_000
    watcher, found = Watcher({"libgomp"}, {"1": (ran, waited)}), []
    for share in shares:
        length, share = (LEAST - 2, 0.5) if share is None else (5 * LEAST, share)
        ran, waited = ran + round(length * (1 - share)), waited + round(length * share)
        watcher.look({"1": (ran, waited)})
        found.append(watcher.pool is not None)
    return found


def test_threads_of_a_quiet_machine_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any(watched(monkeypatch, [0.0, 0.02, 0.09, None, None, 0.05, 0.09, 0.0]))


def test_the_pool_is_there_while_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    calm = [0.01] * QUIET_LOOKS
    shares = [0.5, 0.3, 0.05, *calm[1:], 0.2, *[None] * QUIET_LOOKS, *calm[1:]]
    assert all(watched(monkeypatch, shares))
    assert watched(monkeypatch, [*shares, None, 0.01, None, 0.5])[-4:] == [True, False, False, True]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"1": (10, 10)}, {"1": (40, 20)}, (30, 10)),
        ({"1": (10, 10), "2": (0, 0)}, {"1": (40, 20), "2": (0, 10)}, (30, 20)),
        ({}, {"9": (30, 10)}, (30, 10)),  # a thread that started between the looks
        ({"9": (500, 5)}, {"9": (30, 10)}, (0, 5)),  # another one with the id of one that ended
        ({"1": (10, 10), "2": (7, 7)}, {"1": (10, 10)}, (0, 0)),  # one that ended
    ],
)
def test_used_time(before: Times, after: Times, found: tuple[int, int]) -> None:
    assert threads.used(before, after) == found


@LINUX
def test_times_are_read(tmp_path: Path) -> None:
    found = threads.thread_times()
    assert str(threading.get_native_id()) in found
    assert all(ran >= 0 and waited >= 0 for ran, waited in found.values())
    assert threads.thread_times(tmp_path) == {}  # no such files


# --- the real thing ---

# A forked child has neither watcher nor pool; torch starts its own threads there, as without finetooth.
FORKED = """
import os, threading, torch, finetooth
from finetooth import threads
from torch.utils.data import DataLoader
libraries = {line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line}
threads.watch()
pool = threads.IdlePool(libraries)
child = os.fork()
if not child:
    threads.watch()
    watched = any(thread.name == "finetooth-watcher" for thread in threading.enumerate())
    os._exit(0 if watched and torch.ones(300_000).add(1).sum() == 600_000 else 1)
assert os.waitpid(child, 0)[1] == 0
torch.ones(300_000).add(1)
loader = DataLoader(torch.arange(64.0), batch_size=8, num_workers=2, multiprocessing_context="fork")
assert torch.cat(list(loader)).tolist() == list(range(64))
"""


@LINUX
@TWO_CPUS
def test_a_fork_has_no_pool_and_starts_its_own_watcher() -> None:
    run(FORKED)


@pytest.mark.parametrize("name", [*WAITING, ""])
def test_the_users_way_of_waiting_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    import_module("torch")  # with its libgomp
    for other in WAITING:
        monkeypatch.delenv(other, raising=False)
    if name:
        monkeypatch.setenv(name, "PASSIVE")
    started: list[str] = []
    monkeypatch.setattr(threads, "_thread", None)
    monkeypatch.setattr(
        threads, "Watcher", lambda libraries, times: SimpleNamespace(run=lambda: started.append(""))
    )
    threads.watch()
    if threads._thread is not None:
        threads._thread.join()
    assert len(started) == (0 if name or sys.platform != "linux" else 1)


@LINUX
def test_a_process_that_gets_no_cpu_starts_a_pool() -> None:
    """Against real others: as many spinning processes as it takes, all on one CPU with this one."""
    code = """
import os, subprocess, sys, threading, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import torch
from finetooth import threads
threads.watch()
others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
try:
    deadline = time.monotonic() + 120
    while not any(thread.name == "finetooth-idle-pool" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        sum(range(100_000))
finally:
    for other in others:
        other.kill()
"""
    run(code)


STEPS = """
import os, threading, numpy, torch
import finetooth as ft
from finetooth import threads
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
threads.BUSY = 2.0  # the watcher starts no pool
spinning = train()
assert [thread.name for thread in threading.enumerate()].count("finetooth-watcher") == 1
native = count()
pool = threads.IdlePool({line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line})
assert count() - native == len(os.sched_getaffinity(0)) + 1  # a thread for each CPU, and their owner
assert train() == spinning and torch.get_num_threads() == before > 1
pool.end()
while count() > native:
    pass  # its threads end a moment after their owner; the test fails if they never do
"""


@LINUX
@TWO_CPUS
def test_a_pool_comes_and_goes_and_changes_no_weight() -> None:
    """The process ends as it should, too."""
    run(STEPS)


# --- the number of threads, with a torch that only counts ---


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A torch of two threads that was loaded before; nothing of OpenMP is set, and the process has 8 CPUs."""
    fake = SimpleNamespace(threads=2)
    fake.get_num_threads = lambda: fake.threads
    fake.set_num_threads = lambda count: setattr(fake, "threads", count)
    monkeypatch.setitem(sys.modules, "torch", fake)
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "cpu_quota", lambda: math.inf)
    return fake


def settings() -> dict[str, str]:
    """The environment without what pytest puts there."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}


@pytest.mark.parametrize(("quota", "count"), [(0.2, 1), (1.0, 1), (2.5, 3), (6.9, 7)])
def test_a_quota_below_the_cpus_sets_the_threads(
    torch: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, quota: float, count: int
) -> None:
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    torch.threads = 6
    limit_to_quota()
    assert os.environ["OMP_NUM_THREADS"] == str(count)
    assert torch.threads == min(count, 6)  # never more than torch had


@pytest.mark.parametrize("quota", [7.1, 8.0, 64.0, math.inf])
def test_a_quota_of_all_cpus_or_none_changes_nothing(
    torch: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, quota: float
) -> None:
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    limit_to_quota()
    assert (torch.threads, settings()) == (2, {})


@pytest.mark.parametrize("name", COUNTS)
def test_the_users_number_of_threads_stays(
    torch: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    os.environ[name] = "2"
    monkeypatch.setattr(threads, "cpu_quota", lambda: 1.0)
    limit_to_quota()
    assert (torch.threads, settings()) == (2, {name: "2"})


# --- the quota ---


@pytest.mark.parametrize(
    ("group", "files", "quota"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, math.inf),
        ("0::/", {}, math.inf),
        # the group has no limit, one above it has; or the one above has the lower limit
        ("0::/a/b/c", {"a/b/c/cpu.max": "max 100000", "a/cpu.max": "50000 50000"}, 1.0),
        ("0::/a/b", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "200000 100000"}, 2.0),
        # a container that is told its group's name on the host, and sees its own files at the top
        ("0::/pods/pod1", {"cpu.max": "250000 100000"}, 2.5),
        # version 1, beside a controller whose name begins alike and the empty group of version 2
        (
            "5:cpuset:/x\n4:cpu,cpuacct:/x\n0::/",
            {
                "cpuset/x/cpu.cfs_quota_us": "1",
                "cpuset/x/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/x/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/x/cpu.cfs_period_us": "100000",
            },
            3.0,
        ),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "50000"}, math.inf),  # the period cannot be read
    ],
)
def test_a_cpu_quota_is_read(tmp_path: Path, group: str, files: dict[str, str], quota: float) -> None:
    for name, text in {
        "proc/self/cgroup": group,
        **{f"sys/fs/cgroup/{at}": files[at] for at in files},
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")
    assert cpu_quota(tmp_path) == quota


def test_without_cgroups_there_is_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) == math.inf
