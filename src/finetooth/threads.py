"""How many threads torch has, and how they wait for each other on a machine that is shared with other work.

A thread that waits for another one spins before it sleeps: 300,000 times in GNU's libgomp, the OpenMP
library of torch on Linux. On an idle machine that is right, as it saves waking threads up. Beside other work
it is a disaster: a thread that others wait for gets no CPU, because they are spinning on it, and a training
step takes ten times as long or more (docs/log.md, "A machine shared with other work";
benchmarks/shared_machine.py). No fixed number is right for both, so it follows the machine:

* Linux counts, for each thread, how long it was ready to run and had no CPU. A watcher reads these times
  twice a second. A large share says that the process competes for the CPUs.
* libgomp spins only 100 times while it manages more threads than there are CPUs. So the watcher then starts
  a pool of idle threads, one for each CPU, and ends it when the process has had the CPUs to itself for a
  while. The pool never computes, and the number of torch's threads stays: results do not change by a bit.

Nothing of this has to happen before torch is loaded, so the order of imports does not matter.

The number of threads does: a CPU quota of the cgroup (the limit of a container) that is less than the number
of CPUs becomes the number of threads, when finetooth is imported. libgomp respects the set of CPUs that the
process may run on (taskset, cpuset), but not the quota.

What the user has set is left alone: OMP_NUM_THREADS and MKL_NUM_THREADS for the number; OMP_WAIT_POLICY,
GOMP_SPINCOUNT and KMP_BLOCKTIME for the waiting. Other OpenMP libraries than libgomp wait as they do.

Sources: GCC, libgomp/env.c (gomp_spin_count_var, gomp_throttled_spin_count_var), config/linux/wait.h
(do_spin) and team.c (gomp_managed_threads); Linux, Documentation/scheduler/sched-stats.rst
(/proc/<pid>/schedstat), Documentation/admin-guide/cgroup-v2.rst (cpu.max) and
Documentation/scheduler/sched-bwc.rst (cpu.cfs_quota_us).
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from pathlib import Path

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
LOOK_EVERY = 0.5  # seconds
# Of the time that its threads were running or ready to run, the share that a process waited for a CPU.
BUSY, QUIET = 0.10, 0.03
QUIET_LOOKS = 6  # so many in a row before threads spin again
LEAST = 100_000_000  # nanoseconds that threads must have run or waited between two looks, to say anything

Times = dict[str, tuple[int, int]]  # thread id -> nanoseconds that it ran, and that it waited for a CPU


def limit_to_quota() -> None:
    """Make the cgroup's CPU quota the number of torch's threads, unless the user has set it.

    Never imports torch.
    """
    torch = sys.modules.get("torch")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = math.ceil(min(cpu_quota(), available))
    if allowed < available and not any(name in os.environ for name in COUNTS):
        os.environ["OMP_NUM_THREADS"] = str(allowed)
        if torch is not None and torch.get_num_threads() > allowed:
            torch.set_num_threads(allowed)


def cpu_quota(root: Path = Path("/")) -> float:
    """How many CPUs' time the cgroup of this process and those above it allow; infinity without a limit."""
    lowest, groups = math.inf, root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)  # "0::/a/b" (version 2) or "4:cpu,cpuacct:/a/b" (version 1)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = groups / controllers
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
        group = mount / path.strip("/")
        for folder in (
            group,
            *group.parents,
        ):  # a container may see the names of its host: then none exists but mount
            values = " ".join(_read(folder / name) for name in files).split()
            if len(values) == 2 and values[0] not in ("max", "-1"):
                lowest = min(lowest, int(values[0]) / int(values[1]))
            if folder == mount:
                break
    return lowest


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


class IdlePool:
    """Threads that do nothing, one for each CPU, in every libgomp of this process: it hardly spins meanwhile.

    A pool belongs to the thread that starts it and ends with it. All that its threads ever run is
    omp_get_thread_num, once each.
    """

    def __init__(self, libraries: set[str]) -> None:
        self._started, self._ended = threading.Event(), threading.Event()
        self._owner = threading.Thread(
            target=self._keep, args=(libraries,), name="finetooth-idle-pool", daemon=True
        )
        self._owner.start()
        self._started.wait()

    def end(self) -> None:
        """End the threads; they are gone a moment later."""
        self._ended.set()
        self._owner.join()

    def _keep(self, libraries: set[str]) -> None:
        import ctypes  # only here: it takes longer to import than all the rest of this module

        for path in libraries:
            gomp = ctypes.CDLL(path)
            nothing = ctypes.cast(gomp.omp_get_thread_num, ctypes.c_void_p)
            team = gomp.omp_get_num_procs() + 1  # of which one is this thread
            gomp.GOMP_parallel(nothing, None, ctypes.c_uint(team), ctypes.c_uint(0))
        self._started.set()
        self._ended.wait()


class Watcher:
    """Keeps an idle pool as long as this process competes for the CPUs. See the module."""

    def __init__(self, libraries: set[str], times: Times) -> None:
        self.pool: IdlePool | None = None
        self._libraries, self._times, self._quiet = libraries, times, 0

    def look(self, times: Times) -> None:
        """Start or end the pool by what has been counted since the last look."""
        ran, waited = used(self._times, times)
        self._times = times
        if ran + waited < LEAST:
            return  # it does not compute
        share = waited / (ran + waited)
        self._quiet = self._quiet + 1 if share < QUIET else 0
        if self.pool is None and share > BUSY:
            self.pool = IdlePool(self._libraries)
        elif self.pool is not None and self._quiet >= QUIET_LOOKS:
            self.pool.end()
            self.pool = None

    def run(self) -> None:
        """Look for as long as the process lives."""
        while True:
            time.sleep(LOOK_EVERY)
            self.look(thread_times())


_thread: threading.Thread | None = None


def watch() -> None:
    """Start this process's watcher, once, if there is something to watch. Call it when torch is loaded."""
    global _thread
    if (_thread is not None and _thread.is_alive()) or any(name in os.environ for name in WAITING):
        return  # a forked child has no watcher, and `is_alive` knows
    lines = _read(Path("/proc/self/maps")).splitlines()
    libraries = {line.split(maxsplit=5)[-1] for line in lines if "libgomp" in line}
    times = thread_times()
    if libraries and times:
        watcher = Watcher(libraries, times)
        _thread = threading.Thread(target=watcher.run, name="finetooth-watcher", daemon=True)
        _thread.start()


def thread_times(root: Path = Path("/")) -> Times:
    """The threads' times so far; empty where the kernel does not count them."""
    found: Times = {}
    try:
        for task in (root / "proc/self/task").iterdir():
            fields = _read(task / "schedstat").split()
            if fields:  # else it has just ended
                found[task.name] = (int(fields[0]), int(fields[1]))
    except OSError:  # another system than Linux
        pass
    return found


def used(before: Times, after: Times) -> tuple[int, int]:
    """Nanoseconds that this process's threads ran, and waited for a CPU, between two looks."""
    ran = waited = 0
    for name, (now_ran, now_waited) in after.items():
        then_ran, then_waited = before.get(name, (0, 0))
        ran += max(0, now_ran - then_ran)  # an id may belong to another thread by now
        waited += max(0, now_waited - then_waited)
    return ran, waited
