"""What this process may use of the machine: CPUs, memory, and how its threads wait for each other.

A container's limits are those of its cgroup. A CPU quota below the number of CPUs becomes the number of
torch's threads when finetooth is imported: libgomp, GNU's OpenMP library, which torch uses on Linux, respects
the set of CPUs that a process may run on (taskset, cpuset), but not the quota.

A thread of libgomp that waits for another one spins 300,000 times before it sleeps. On an idle machine that
is right, since it saves waking threads up. On a machine shared with other work, a thread that others wait for
gets no CPU, because the waiting threads occupy the CPUs, and a training step takes ten times as long or more
(docs/log.md, "A machine shared with other work"; benchmarks/shared_machine.py). No fixed number of spins is
right for both, so a monitor follows the machine:

* Linux counts, for each thread, how long it was ready to run and had no CPU. The monitor reads these times
  twice a second. A large share of waiting says that the process competes for the CPUs.
* libgomp spins only 100 times while it manages more threads than there are CPUs. So the monitor then starts a
  pool of idle threads, one for each CPU, and ends it when the process has had the CPUs to itself for a while.
  The pool never computes, and the number of torch's threads stays: no result changes by a bit.

None of this needs to happen before torch is loaded, so the order of imports does not matter. What the user
has set is left alone: OMP_NUM_THREADS and MKL_NUM_THREADS for the number of threads; OMP_WAIT_POLICY,
GOMP_SPINCOUNT and KMP_BLOCKTIME for their waiting. Other OpenMP libraries are left as they are.

Sources: GCC, libgomp/env.c (gomp_spin_count_var, gomp_throttled_spin_count_var), config/linux/wait.h
(do_spin) and team.c (gomp_managed_threads); Linux, Documentation/scheduler/sched-stats.rst
(/proc/<pid>/schedstat), Documentation/admin-guide/cgroup-v2.rst (cpu.max, memory.max) and
Documentation/scheduler/sched-bwc.rst (cpu.cfs_quota_us).
"""

from __future__ import annotations

import math
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

WAIT_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
COUNT_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
INTERVAL_S = 0.5
# Of the time that its threads ran or were ready to run, the share that a process waited for a CPU.
CONTENDED, UNCONTENDED = 0.10, 0.03
UNCONTENDED_SAMPLES = 6  # so many in a row before threads spin again
MIN_ACTIVE_NS = 100_000_000  # time that threads ran or waited between two samples, for these to say anything

ROOT = Path("/")
ThreadTimes = dict[str, tuple[int, int]]  # thread id -> nanoseconds that it ran, and that it waited for a CPU


def limit_threads_to_quota() -> None:
    """Make the cgroup's CPU quota, rounded up, the number of torch's threads, unless the user has set one.

    Never imports torch. Child processes inherit the number, in OMP_NUM_THREADS.
    """
    allowed = usable_cpus()
    if allowed < _schedulable_cpus() and not any(name in os.environ for name in COUNT_VARIABLES):
        os.environ["OMP_NUM_THREADS"] = str(allowed)
        torch = sys.modules.get("torch")
        if torch is not None and torch.get_num_threads() > allowed:
            torch.set_num_threads(allowed)


def usable_cpus() -> int:
    """The CPUs that this process may run on, or the cgroup's quota, rounded up, where that is less."""
    return math.ceil(min(cpu_quota(), _schedulable_cpus()))


def _schedulable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(root: Path = ROOT) -> float:
    """How many CPUs' time the cgroup of this process and those above it allow; infinity without a limit."""
    lowest = math.inf
    for text in _cgroup_limits("cpu", ["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"], root):
        values = text.split()
        if len(values) == 2 and values[0] not in ("max", "-1"):
            lowest = min(lowest, int(values[0]) / int(values[1]))
    return lowest


def processor(root: Path = ROOT) -> str:
    """The CPU as Linux names it, with family and model: they decide which kernels compute, and so how results
    are rounded. "" where the system does not say.
    """
    text = _read(root / "proc/cpuinfo").partition("\n\n")[0]
    facts = dict(re.findall(r"^(.+?)\s*: (.*)$", text, re.MULTILINE))
    if "model name" not in facts:
        return ""
    return f"{facts['model name']}, family {facts.get('cpu family', '?')}, model {facts.get('model', '?')}"


def memory(root: Path = ROOT) -> int:
    """Bytes of memory of this machine, or of this container if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = _cgroup_limits("memory", ["memory.max"], ["memory.limit_in_bytes"], root)
    return min([total, *(int(text) for text in limits if text.isdigit())])


def usable_memory(root: Path = ROOT) -> int:
    """Bytes of memory that this process may use now: what it holds, and what is free here and in its
    container. Pages of files, which the kernel can drop, count as free. Where the kernel does not tell
    (other systems than Linux), it is all memory.
    """
    held = memory_of_process("RssAnon", root)
    free = [memory(root)]
    if available := re.search(r"^MemAvailable:\s+(\d+) kB", _read(root / "proc/meminfo"), re.MULTILINE):
        free.append(held + 1024 * int(available[1]))
    names = ("limit_in_bytes", "usage_in_bytes", "stat")
    groups = _cgroup_limits(
        "memory", ["memory.max", "memory.current", "memory.stat"], [f"memory.{name}" for name in names], root
    )
    for limit, used, *counts in (text.split() for text in groups if " " in text):
        if limit.isdigit() and used.isdigit():
            of_files = dict(zip(counts[::2], counts[1::2], strict=False))
            cached = sum(int(of_files.get(name, 0)) for name in ("inactive_file", "active_file"))
            free.append(held + int(limit) - int(used) + cached)
    return max(0, min(free))


def memory_of_process(kind: str = "VmRSS", root: Path = ROOT) -> int:
    """Bytes of memory that this process holds (VmRSS), has held at most (VmHWM), or holds other than as pages
    of files (RssAnon); 0 where the kernel does not tell.
    """
    found = re.search(rf"^{kind}:\s+(\d+) kB", _read(root / "proc/self/status"), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def release_free_memory() -> None:
    """Give memory that was freed, but is kept by the C library for later, back to the system (glibc only).

    Free pieces between small objects that live on are too short for the tensors of training, and would stay
    beside them.
    """
    import ctypes  # see IdlePool

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _cgroup_limits(controller: str, unified: list[str], legacy: list[str], root: Path) -> Iterator[str]:
    """The contents of these files, for the cgroup of this process and then for each one above it.

    unified, legacy: names of the files in version 2 and in version 1.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")  # of "0::/a/b" or "4:cpu,cpuacct:/a/b"
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        group = mount / path.strip("/")
        # A container may be told its group's name on the host: of these folders then only the mount exists.
        for folder in (group, *group.parents):
            yield " ".join(_read(folder / name) for name in (legacy if controllers else unified)).strip()
            if folder == mount:
                break


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


class IdlePool:
    """Threads that do nothing, one for each CPU, in every libgomp of this process: it hardly spins meanwhile.

    A pool belongs to the thread that starts it and ends with it. All that its threads ever run is
    omp_get_thread_num, once each. A process that is forked meanwhile has no pool, but goes on to spin little.

    started: whether it could be started.
    """

    def __init__(self) -> None:
        self.started = False
        self._ready, self._over = threading.Event(), threading.Event()
        self._owner = threading.Thread(target=self._keep, name="finetooth-idle-pool", daemon=True)
        self._owner.start()
        self._ready.wait()

    def end(self) -> None:
        """End the threads; they are gone a moment later."""
        self._over.set()
        self._owner.join()

    def _keep(self) -> None:
        import ctypes  # only here: it takes longer to import than all the rest of this module

        try:
            for path in loaded_libgomps():
                gomp = ctypes.CDLL(path)
                team = gomp.omp_get_num_procs() + 1  # of which one is this thread
                if not _can_start(2 * team):
                    return
                nothing = ctypes.cast(gomp.omp_get_thread_num, ctypes.c_void_p)
                gomp.GOMP_parallel(nothing, None, ctypes.c_uint(team), ctypes.c_uint(0))
            self.started = True
        except (OSError, AttributeError):  # a file that is gone or is no libgomp
            return
        finally:
            self._ready.set()
        self._over.wait()


def loaded_libgomps() -> set[str]:
    """The paths of the libgomp libraries that this process has loaded; scikit-learn brings one, too."""
    paths = (line.split(maxsplit=5)[-1] for line in _read(Path("/proc/self/maps")).splitlines())
    return {path for path in paths if Path(path).name.startswith("libgomp")}


def _can_start(count: int) -> bool:
    """Whether this process may have so many more threads. libgomp would end the process if it may not."""
    over = threading.Event()
    threads: list[threading.Thread] = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=over.wait, daemon=True)
            thread.start()
            threads.append(thread)
    except RuntimeError:  # "can't start new thread": a limit of processes or memory
        return False
    finally:
        over.set()
        for thread in threads:
            thread.join()
    return True


class ContentionMonitor:
    """Keeps an idle pool for as long as this process competes for the CPUs. See the module docstring.

    times: a first sample of `thread_times`.
    """

    def __init__(self, times: ThreadTimes) -> None:
        self.pool: IdlePool | None = None
        self._times, self._uncontended = times, 0

    def update(self, times: ThreadTimes) -> None:
        """Start or end the pool by what has been counted since the last sample."""
        ran, waited = run_and_wait_ns(self._times, times)
        self._times = times
        if ran + waited < MIN_ACTIVE_NS:
            return  # it does not compute
        share = waited / (ran + waited)
        self._uncontended = self._uncontended + 1 if share < UNCONTENDED else 0
        if self.pool is None and share > CONTENDED:
            self.pool = IdlePool()
        elif self.pool is not None and self._uncontended >= UNCONTENDED_SAMPLES:
            self.pool.end()
            self.pool = None

    def run(self) -> None:
        """Sample until the process ends, or until a pool cannot be started."""
        while self.pool is None or self.pool.started:
            time.sleep(INTERVAL_S)
            self.update(thread_times())


_monitors: dict[int, threading.Thread] = {}  # by process: a forked child needs one of its own


def start_contention_monitor() -> None:
    """Start this process's monitor, once, if it can tell and do anything. Call it when torch is loaded."""
    times = thread_times()
    if times and loaded_libgomps() and not any(name in os.environ for name in WAIT_VARIABLES):
        monitor = ContentionMonitor(times)
        thread = threading.Thread(target=monitor.run, name="finetooth-contention-monitor", daemon=True)
        if _monitors.setdefault(os.getpid(), thread) is thread:
            thread.start()


def thread_times(root: Path = ROOT) -> ThreadTimes:
    """The times of this process's threads so far; empty where the kernel does not count them."""
    times: ThreadTimes = {}
    try:
        for task in (root / "proc/self/task").iterdir():
            fields = _read(task / "schedstat").split()
            if fields:  # else it has just ended
                times[task.name] = (int(fields[0]), int(fields[1]))
    except OSError:  # another system than Linux
        pass
    return times


def run_and_wait_ns(before: ThreadTimes, after: ThreadTimes) -> tuple[int, int]:
    """Nanoseconds that the threads in both samples ran, and waited for a CPU, between the two."""
    ran = waited = 0
    for name in before.keys() & after.keys():
        ran += max(0, after[name][0] - before[name][0])  # an id may belong to another thread by now
        waited += max(0, after[name][1] - before[name][1])
    return ran, waited
