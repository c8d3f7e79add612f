"""How torch's OpenMP threads wait for each other, and how many there are: set when finetooth is imported.

A thread that waits for another one spins before it sleeps: 300,000 times in GNU's libgomp, which torch
brings along on Linux. On an idle machine that saves waking threads up. Beside other work it is a disaster:
a thread that others wait for gets no CPU, because they are spinning on it, and a training step takes ten
times as long or more (docs/log.md, "A machine shared with other work"; benchmarks/shared_machine.py).

* torch is not loaded yet: GOMP_SPINCOUNT goes into the environment, where libgomp reads it when it is
  loaded.
* torch is loaded, so that this comes too late: libgomp spins only 100 times while it manages more threads
  than there are CPUs. So a pool of idle threads, one for each CPU, is started and kept. It never computes.
* A CPU quota of the cgroup (the limit of a container) that is less than the number of CPUs becomes the
  number of threads. libgomp respects the set of CPUs that the process may run on (taskset, cpuset), but not
  the quota.

What the user has set is left alone: OMP_WAIT_POLICY, GOMP_SPINCOUNT and KMP_BLOCKTIME for the first two
(with GOMP_SPINCOUNT=300000 libgomp waits as it does by itself), OMP_NUM_THREADS and MKL_NUM_THREADS for the
third.

Sources: GCC, libgomp/env.c (gomp_spin_count_var, gomp_throttled_spin_count_var), config/linux/wait.h
(do_spin) and team.c (gomp_managed_threads), and OMP_WAIT_POLICY and GOMP_SPINCOUNT in its manual; Linux,
Documentation/admin-guide/cgroup-v2.rst (cpu.max) and Documentation/scheduler/sched-bwc.rst
(cpu.cfs_quota_us).
"""

from __future__ import annotations

import math
import os
import sys
import threading
import warnings
from pathlib import Path

SPINS = "3000"
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def configure() -> None:
    """Set how threads wait and how many there are, each unless the user has. Never imports torch.

    Warns where torch was imported before and its OpenMP library is not libgomp.
    """
    torch = sys.modules.get("torch")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = math.ceil(min(cpu_quota(), available))
    if allowed < available and not any(name in os.environ for name in COUNTS):
        os.environ["OMP_NUM_THREADS"] = str(allowed)
        if torch is not None and torch.get_num_threads() > allowed:
            torch.set_num_threads(allowed)
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPINS  # for child processes too, whatever is loaded here
        if torch is not None and torch.get_num_threads() > 1:
            _throttle_spinning()


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


def _throttle_spinning() -> None:
    """Make every libgomp in this process manage more threads than there are CPUs, for as long as it lives.

    A pool belongs to the thread that starts it, so that one has to stay alive too. All that the pool
    ever runs is omp_get_thread_num, once a thread.
    """
    import ctypes  # only here: it takes longer to import than all the rest of this module

    mapped = {
        line.split(maxsplit=5)[-1]
        for line in _read(Path("/proc/self/maps")).splitlines()
        if "libgomp" in line
    }
    if not mapped:
        warnings.warn(
            "torch was imported before finetooth, so its threads spin while they wait, which is slow beside "
            "other work: import finetooth first, or set OMP_WAIT_POLICY=PASSIVE.",
            RuntimeWarning,
            stacklevel=4,
        )
        return
    started = threading.Event()

    def keep_pools() -> None:
        for path in mapped:
            gomp = ctypes.CDLL(path)
            nothing = ctypes.cast(gomp.omp_get_thread_num, ctypes.c_void_p)
            team = gomp.omp_get_num_procs() + 1  # of which one is this thread
            gomp.GOMP_parallel(nothing, None, ctypes.c_uint(team), ctypes.c_uint(0))
        started.set()
        threading.Event().wait()

    threading.Thread(target=keep_pools, name="finetooth-openmp", daemon=True).start()
    started.wait()
