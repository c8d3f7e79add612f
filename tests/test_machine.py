"""The limits of a container: CPUs and memory."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from finetooth import machine
from finetooth.machine import COUNT_VARIABLES, cpu_quota, limit_threads_to_quota

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
    monkeypatch.setattr(machine, "cpu_quota", lambda: math.inf)
    return fake


def settings() -> dict[str, str]:
    """The environment without what pytest puts there."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}


@pytest.mark.parametrize(("quota", "count"), [(0.2, 1), (1.0, 1), (2.5, 3), (6.9, 7)])
def test_a_quota_below_the_cpus_sets_the_threads(
    torch: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, quota: float, count: int
) -> None:
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    torch.threads = 6
    limit_threads_to_quota()
    assert os.environ["OMP_NUM_THREADS"] == str(count)
    assert torch.threads == min(count, 6)  # never more than torch had


@pytest.mark.parametrize("quota", [7.1, 8.0, 64.0, math.inf])
def test_a_quota_of_all_cpus_or_none_changes_nothing(
    torch: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, quota: float
) -> None:
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    limit_threads_to_quota()
    assert (torch.threads, settings()) == (2, {})


@pytest.mark.parametrize("name", COUNT_VARIABLES)
def test_the_users_number_of_threads_stays(
    torch: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    os.environ[name] = "2"
    monkeypatch.setattr(machine, "cpu_quota", lambda: 1.0)
    limit_threads_to_quota()
    assert (torch.threads, settings()) == (2, {name: "2"})


# --- limits of a cgroup ---


def write_cgroup(root: Path, group: str, files: dict[str, str]) -> None:
    """The files that Linux has for a process in this cgroup."""
    shown = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in {"proc/self/cgroup": group, **shown}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8", errors="surrogateescape")


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
        ("nonsense\n0::/\udcff", {"cpu.max": "150000 100000"}, 1.5),
    ],
)
def test_a_cpu_quota_is_read(tmp_path: Path, group: str, files: dict[str, str], quota: float) -> None:
    write_cgroup(tmp_path, group, files)
    assert cpu_quota(tmp_path) == quota


def test_without_cgroups_there_is_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) == math.inf


@pytest.mark.parametrize(
    ("group", "files", "limit"),
    [
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "4096", "memory.max": "8192"}, 4096),
        ("5:memory:/x", {"memory/x/memory.limit_in_bytes": "1000"}, 1000),
        ("0::/", {"memory.max": "max"}, None),
        ("0::/", {"memory.max": str(2**63)}, None),
        ("", {}, None),
    ],
)
def test_memory_is_the_containers_where_it_is_less(
    tmp_path: Path, group: str, files: dict[str, str], limit: int | None
) -> None:
    write_cgroup(tmp_path, group, files)
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert machine.memory(tmp_path) == (limit or whole)


@pytest.mark.parametrize(
    ("group", "files", "usable"),
    [
        ("", {}, 1000),  # what is free on the machine, beside what is held
        ("0::/a", {"a/memory.max": "max", "a/memory.current": "5"}, 1000),
        ("0::/a", {"a/memory.max": "800000", "a/memory.current": "300000"}, 588),
        # pages of files can be dropped
        (
            "0::/a",
            {
                "a/memory.max": "800000",
                "a/memory.current": "300000",
                "a/memory.stat": "anon 1\ninactive_file 100000\nactive_file 2400",
            },
            688,
        ),
        (
            "3:memory:/a",
            {"memory/a/memory.limit_in_bytes": "800000", "memory/a/memory.usage_in_bytes": "300000"},
            588,
        ),
        ("0::/a", {"a/memory.max": "800000"}, 781),  # the limit itself
    ],
)
def test_usable_memory_is_what_is_held_and_what_is_free(
    tmp_path: Path, group: str, files: dict[str, str], usable: int
) -> None:
    write_cgroup(tmp_path, group, files)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9999 kB\nMemAvailable:     900 kB\n")
    (tmp_path / "proc" / "self" / "status").write_text(
        "VmHWM:\t 170 kB\nVmRSS:\t 150 kB\nRssAnon:\t 100 kB\n"
    )
    assert machine.usable_memory(tmp_path) // 1024 == usable
    assert machine.memory_of_process("VmHWM", tmp_path) == 170 * 1024


def test_this_process_holds_memory_and_may_use_more() -> None:
    held, most = machine.memory_of_process(), machine.memory_of_process("VmHWM")
    assert 0 < held <= most and held < machine.usable_memory() <= machine.memory()


def test_the_processor_is_named_by_what_decides_its_kernels(tmp_path: Path) -> None:
    assert machine.processor(tmp_path) == ""  # a system that does not say
    (tmp_path / "proc").mkdir()
    one = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2\n"
    (tmp_path / "proc/cpuinfo").write_text(f"{one}\n{one.replace('17', '1')}")
    assert machine.processor(tmp_path) == "AMD EPYC, family 25, model 17"
