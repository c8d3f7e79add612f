"""How torch's threads wait, and how many there are. Counts and settings in fresh processes; never a clock."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetooth.threads import SPINS, cpu_quota

SPIN, POLICY, THREADS = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS"
TOUCHED = ("OMP_", "GOMP_", "KMP_", "MKL_")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="GNU's libgomp, /proc and cgroups are of Linux")

TWO_CPUS = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="on one CPU torch has one thread")

# What a program can see of it: the settings, torch's threads, the threads of the process, the idle pool
LOOK = """
import json, os, sys, threading
torch = sys.modules.get("torch")
print(json.dumps({
    "environment": {name: value for name, value in os.environ.items() if name.startswith(("OMP_", "GOMP_"))},
    "torch": torch and torch.get_num_threads(),
    "native": len(os.listdir("/proc/self/task")),
    "pool": [thread.name for thread in threading.enumerate() if thread.name == "finetooth-openmp"],
}))
"""


def run(code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that runs the code with no other setting of OpenMP than these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(TOUCHED)}
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code],
        env=kept | settings,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done


def look(code: str, **settings: str) -> dict:
    """What LOOK sees after the code."""
    return json.loads(run(code + LOOK, **settings).stdout.splitlines()[-1])


def test_the_library_sets_it_before_torch_is_loaded() -> None:
    seen = look("import sys, finetooth; assert 'torch' not in sys.modules")
    assert seen["environment"][SPIN] == SPINS
    assert not seen["pool"]


@LINUX
def test_libgomp_reads_what_was_set(tmp_path: Path) -> None:
    """libgomp says itself, when torch loads it, how often it will spin."""
    done = run("import finetooth, torch", OMP_DISPLAY_ENV="VERBOSE")
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in done.stderr


@LINUX
def test_the_command_line_sets_it_before_torch_is_loaded() -> None:
    """A verb that loads torch, by the entry point; --help would not load it."""
    code = (
        "from finetooth.cli.app import invoke; import finetooth.model.api, sys; assert 'torch' in sys.modules"
    )
    done = run(code, OMP_DISPLAY_ENV="VERBOSE")
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in done.stderr


@pytest.mark.parametrize("first", ["", "import torch\n"])
@pytest.mark.parametrize("setting", [{POLICY: "ACTIVE"}, {SPIN: "300000"}, {"KMP_BLOCKTIME": "200"}])
def test_what_the_user_set_is_left_alone(setting: dict[str, str], first: str) -> None:
    seen = look(first + "import finetooth", **setting)
    name, value = next(iter(setting.items()))
    assert seen["environment"].get(SPIN) == (value if name == SPIN else None)
    assert seen["environment"].get(POLICY) == (value if name == POLICY else None)
    assert not seen["pool"]


@LINUX
@TWO_CPUS
def test_a_pool_is_parked_where_torch_was_loaded_first() -> None:
    """As many idle threads as CPUs and the one that owns them; torch keeps its number of threads."""
    before = look("import torch", OMP_NUM_THREADS="2")
    after = look("import torch, finetooth", OMP_NUM_THREADS="2")
    assert after["torch"] == before["torch"] == 2
    assert after["native"] - before["native"] == len(os.sched_getaffinity(0)) + 1
    assert len(after["pool"]) == 1
    assert after["environment"][SPIN] == SPINS  # for child processes


@LINUX
def test_one_thread_waits_for_nobody() -> None:
    assert not look("import torch, finetooth", OMP_NUM_THREADS="1")["pool"]


WITHOUT_LIBGOMP = """
import sys, types, warnings
sys.modules["torch"] = types.SimpleNamespace(get_num_threads=lambda: 2)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import finetooth
print([str(warning.message) for warning in caught])
"""


def test_another_library_than_libgomp_is_warned_of() -> None:
    said = run(WITHOUT_LIBGOMP).stdout
    assert said.count("torch was imported before finetooth") == 1
    assert "OMP_WAIT_POLICY=PASSIVE" in said


# The parent's pool does not exist in a forked child: torch starts its own, as it does without finetooth.
FORK = """
import os, torch, finetooth
child = os.fork()
if not child:
    os._exit(0 if torch.ones(300_000).add(1).sum() == 600_000 and torch.get_num_threads() == 2 else 1)
assert os.waitpid(child, 0)[1] == 0
"""
LOADER = """
import torch, finetooth
from torch.utils.data import DataLoader
torch.ones(300_000).add(1)
loader = DataLoader(torch.arange(64.0), batch_size=8, num_workers=2, multiprocessing_context="fork")
got = torch.cat(list(loader))
assert got.tolist() == list(range(64))
"""


@LINUX
@pytest.mark.parametrize("code", [FORK, LOADER], ids=["fork", "DataLoader"])
def test_the_parked_pool_survives_a_fork(code: str) -> None:
    run(code, OMP_NUM_THREADS="2")


STEP = """
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
changed = b"".join(model.hf.get_parameter(name).detach().numpy().tobytes() for name in sorted(
    name for name, weight in model.hf.named_parameters() if weight.requires_grad))
print(hashlib.sha256(changed).hexdigest())
"""


def test_two_steps_give_the_same_weights_however_threads_wait() -> None:
    digests = {
        run(first + STEP, OMP_NUM_THREADS="2", **settings).stdout.splitlines()[-1]
        for first, settings in [
            ("", {}),
            ("import torch\n", {}),
            ("", {POLICY: "PASSIVE"}),
            ("", {SPIN: "300000"}),
        ]
    }
    assert len(digests) == 1


# --- the quota of CPUs ---


def cgroups(root: Path, said: str, files: dict[str, str]) -> Path:
    """A root directory with /proc/self/cgroup and files under /sys/fs/cgroup."""
    for name, text in {"proc/self/cgroup": said} | {
        f"sys/fs/cgroup/{name}": text for name, text in files.items()
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("said", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {}, math.inf),
        # the group itself has no limit, one above it has
        ("0::/a/b/c\n", {"a/b/c/cpu.max": "max 100000\n", "a/cpu.max": "50000 50000\n"}, 1.0),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "200000 100000\n"}, 2.0),
        # a container that sees the name of its group on the host, and its own files at the top
        ("0::/kubepods/pod1\n", {"cpu.max": "250000 100000\n"}, 2.5),
        # version 1, mounted as cpu,cpuacct, beside other controllers whose name begins alike
        (
            "5:cpuset:/x\n4:cpu,cpuacct:/x\n0::/\n",
            {
                "cpu,cpuacct/x/cpu.cfs_quota_us": "300000\n",
                "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "cpuset/x/cpu.cfs_quota_us": "1\n",
                "cpuset/x/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "50000\n"}, math.inf),  # half of it cannot be read
    ],
)  # fmt: skip
def test_a_cpu_quota_is_read(tmp_path: Path, said: str, files: dict[str, str], quota: float) -> None:
    assert cpu_quota(cgroups(tmp_path, said, files)) == quota


def test_without_cgroups_there_is_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) == math.inf


QUOTA = """
import importlib.util
{first}
# the module alone, before the first import of finetooth calls it, with a made-up quota
folder = importlib.util.find_spec("finetooth").submodule_search_locations[0]
spec = importlib.util.spec_from_file_location("finetooth.threads", folder + "/threads.py")
threads = importlib.util.module_from_spec(spec)
spec.loader.exec_module(threads)
threads.cpu_quota = lambda: {quota}
threads.configure()
import torch
"""


def under_quota(quota: str, first: str = "", **settings: str) -> dict:
    return look(QUOTA.format(quota=quota, first=first), **settings)


@TWO_CPUS
@pytest.mark.parametrize("first", ["", "import torch"])
@pytest.mark.parametrize("quota", ["0.25", "1.0"])
def test_a_quota_below_the_cpus_sets_the_threads(quota: str, first: str) -> None:
    seen = under_quota(quota, first)
    assert seen["environment"][THREADS] == "1"
    assert seen["torch"] == 1


@pytest.mark.parametrize("quota", ["float('inf')", "100_000.0", "os.cpu_count() - 0.5"])
def test_a_quota_of_all_cpus_or_none_changes_nothing(quota: str) -> None:
    seen = under_quota(quota, "import os")
    assert THREADS not in seen["environment"]


@TWO_CPUS
@pytest.mark.parametrize("first", ["", "import torch"])
@pytest.mark.parametrize("name", [THREADS, "MKL_NUM_THREADS"])
def test_the_users_number_of_threads_stays(name: str, first: str) -> None:
    """By either variable."""
    seen = under_quota("1.0", first, **{name: "2"})
    assert seen["torch"] == 2
    assert seen["environment"].get(THREADS) == ("2" if name == THREADS else None)


@LINUX
def test_torch_respects_the_cpus_of_the_process() -> None:
    """So finetooth need not: one CPU is one thread."""
    seen = look("import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nimport finetooth, torch")
    assert seen["torch"] == 1
    assert THREADS not in seen["environment"]
