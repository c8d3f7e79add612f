"""How torch's threads wait, and how many there are: settings and counts, never a clock."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from finetooth import threads
from finetooth.threads import COUNTS, SPINS, WAITING, configure, cpu_quota

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="libgomp's pools and /proc are of Linux")
TWO_CPUS = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="on one CPU torch has one thread")


def run(code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that runs the code, with no other setting of OpenMP than these."""
    ours = ("OMP_", "GOMP_", "KMP_", "MKL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code],
        env=kept | settings,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done


# --- torch is not loaded yet ---


@pytest.mark.parametrize("code", ["import finetooth", "import finetooth.cli.app"], ids=["library", "cli"])
def test_it_is_set_before_torch_can_be_loaded(code: str) -> None:
    run(f"{code}, os, sys\nassert 'torch' not in sys.modules and os.environ['GOMP_SPINCOUNT'] == '{SPINS}'")


@LINUX
def test_libgomp_reads_it() -> None:
    """libgomp says itself, when torch loads it, how often it will spin."""
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in run("import finetooth, torch", OMP_DISPLAY_ENV="VERBOSE").stderr


# --- torch is loaded ---

PARKED = """
import os, threading, torch
count, before = lambda: len(os.listdir("/proc/self/task")), torch.get_num_threads()
torch.ones(300_000).add(1)  # torch's own pool is there
native = count()
import finetooth
assert torch.get_num_threads() == before == 2
pool = [thread for thread in threading.enumerate() if thread.name == "finetooth-openmp"]
assert len(pool) == 1 and pool[0].daemon
assert count() - native == len(os.sched_getaffinity(0)) + 1  # a thread for each CPU, and their owner
assert "GOMP_SPINCOUNT" in os.environ  # for child processes
"""
# A forked child has not got the parent's pools; torch starts its own there, as it does without finetooth.
FORKED = """
import torch, finetooth
from torch.utils.data import DataLoader
child = os.fork()
if not child:
    os._exit(0 if torch.ones(300_000).add(1).sum() == 600_000 else 1)
assert os.waitpid(child, 0)[1] == 0
torch.ones(300_000).add(1)
loader = DataLoader(torch.arange(64.0), batch_size=8, num_workers=2, multiprocessing_context="fork")
assert torch.cat(list(loader)).tolist() == list(range(64))
"""
ONE_CPU = """
import os, threading
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import torch, finetooth
assert torch.get_num_threads() == 1  # libgomp knows the CPUs of the process
assert threading.active_count() == 1  # and one thread waits for nobody
"""


@LINUX
@TWO_CPUS
@pytest.mark.parametrize("code", [PARKED, "import os" + FORKED], ids=["parked", "forked"])
def test_an_idle_pool_is_parked(code: str) -> None:
    """The process ends as it should, too."""
    run(code)


@LINUX
def test_one_thread_needs_no_pool() -> None:
    run(ONE_CPU)


STEPS = """
import hashlib, numpy, torch
import finetooth as ft
from finetooth.config.task import TrainConfig
from finetooth.training import optimizer
from finetooth.training.objectives import supervised
from finetooth.training.step import train_step
model = ft.Model.load("milktooth")
model.add_lora(8, seed=0)
draw = numpy.random.default_rng(0)
rows = [ft.Row(draw.integers(10, 900, 40).tolist(), [0.0] * 30 + [1.0] * 10, id=str(n)) for n in range(6)]
update = optimizer.build(model, TrainConfig(adapter="lora", rank=8))
for group in update.param_groups:
    group["lr"] = 1e-3
for _ in range(2):
    train_step(model, supervised, rows, update, budget=4096, max_norm=1.0)
trained = [weight for _, weight in sorted(model.hf.named_parameters()) if weight.requires_grad]
digest = hashlib.sha256(b"".join(weight.detach().numpy().tobytes() for weight in trained))
print(torch.get_num_threads(), len(trained), digest.hexdigest())
"""


def test_steps_give_the_same_weights_however_threads_wait() -> None:
    default = run(STEPS, GOMP_SPINCOUNT="300000").stdout
    assert run(STEPS).stdout == default
    assert run("import torch\n" + STEPS).stdout == default


# --- what decides, with a torch that only counts ---


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
    monkeypatch.setattr(threads, "_read", lambda _: "")  # no libgomp in /proc/self/maps
    return fake


def settings() -> dict[str, str]:
    """The environment without what pytest puts there."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}


def test_another_library_than_libgomp_is_warned_of(torch: SimpleNamespace) -> None:
    with pytest.warns(RuntimeWarning, match="torch was imported before finetooth.*OMP_WAIT_POLICY=PASSIVE"):
        configure()


@pytest.mark.parametrize("name", WAITING)
def test_the_users_way_of_waiting_stays(torch: SimpleNamespace, name: str) -> None:
    os.environ[name] = "of the user"
    with warnings.catch_warnings(action="error"):
        configure()
    assert settings() == {name: "of the user"}


@pytest.mark.parametrize(("quota", "count"), [(0.2, 1), (1.0, 1), (2.5, 3), (6.9, 7)])
def test_a_quota_below_the_cpus_sets_the_threads(
    torch: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, quota: float, count: int
) -> None:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    torch.threads = 6
    configure()
    assert os.environ["OMP_NUM_THREADS"] == str(count)
    assert torch.threads == min(count, 6)  # never more than torch had


@pytest.mark.parametrize("quota", [7.1, 8.0, 64.0, math.inf])
def test_a_quota_of_all_cpus_or_none_changes_nothing(
    torch: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, quota: float
) -> None:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    configure()
    assert (torch.threads, settings()) == (2, {"OMP_WAIT_POLICY": "PASSIVE"})


@pytest.mark.parametrize("name", COUNTS)
def test_the_users_number_of_threads_stays(
    torch: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", name: "2"}
    monkeypatch.setattr(threads, "cpu_quota", lambda: 1.0)
    configure()
    assert (torch.threads, settings()) == (2, {"OMP_WAIT_POLICY": "PASSIVE", name: "2"})


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
