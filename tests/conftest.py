"""What all tests share: no network, and the public data sets where they are present.

Tests that need the data sets carry the marker `data`. FINETOOTH_DATA names their folder; the default is
../shared/data beside the checkout. Tests that need an NVIDIA GPU carry the marker `gpu`; `pytest -m gpu`
runs them, and otherwise a GPU is hidden, since all other tests are about the CPU. What is not there is
skipped by name, and the summary counts it.
"""

from __future__ import annotations

import gc
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from public_data import DATA, ROOT

os.environ["HF_HUB_OFFLINE"] = "1"  # before any test imports transformers: a test never downloads
# Where tests marked `models` look, "-" for the usual place; kept in the environment for workers of xdist.
USERS_CACHE = os.environ.setdefault("FINETOOTH_TESTS_CACHE", os.environ.get("FINETOOTH_CACHE", "-"))
os.environ["FINETOOTH_STATE"] = ""  # no look is recorded among the user's; `_looks_are_forgotten` has ours
os.environ["FINETOOTH_CACHE"] = ""  # no proof of the user's is believed; `_proofs_are_kept` keeps our own
os.environ["OMP_NUM_THREADS"] = (
    "1"  # tiny models: a second thread costs more than it helps; and see processes.py
)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two workers share the machine: no spinning

NEEDS = {
    "data": "needs the public data sets: set FINETOOTH_DATA to their folder",
    "gpu": "needs an NVIDIA GPU and pytest -m gpu",
    "models": "needs real models in the cache: finetooth models get NAME",
}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files of `full` tests alone are not imported where no such test is wanted: it takes seconds."""
    wanted = "not full" not in config.option.markexpr
    if wanted or collection_path.suffix != ".py":
        return None
    return True if "\npytestmark = pytest.mark.full\n" in collection_path.read_text("utf-8") else None


def pytest_configure(config: pytest.Config) -> None:
    memory = Path("/dev/shm")  # a tenth of the gate's time is making and deleting files on a disk
    if memory.is_dir() and shutil.disk_usage(memory).free > 2 << 30:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))
    if "gpu" not in config.option.markexpr:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def missing(marker: str) -> bool:
    """Whether what tests of this marker need is not there. torch is asked only when there are such tests."""
    if marker == "data":
        return not DATA.is_dir()
    import torch

    return not torch.cuda.is_available()


def absent_model(names: tuple[str, ...]) -> str | None:
    """The first of these named models that is not on this machine."""
    from finetooth.config.named_models import named_models
    from finetooth.data import fetch

    with pytest.MonkeyPatch.context() as patch:
        use_users_cache(patch)
        return next((name for name in names if fetch.local(named_models()[name]) is None), None)


def use_users_cache(patch: pytest.MonkeyPatch) -> None:
    """Look for models where the user's own are."""
    if USERS_CACHE == "-":
        patch.delenv("FINETOOTH_CACHE", raising=False)
    else:
        patch.setenv("FINETOOTH_CACHE", USERS_CACHE)


@pytest.fixture(autouse=True)
def _real_models_are_the_users(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("models"):
        use_users_cache(monkeypatch)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        named = item.get_closest_marker("models")
        if named and (name := absent_model(named.args)):
            item.add_marker(pytest.mark.skip(reason=f"{NEEDS['models']} ({name})"))
    for marker, reason in NEEDS.items():
        if marker == "models":
            continue
        # not item.keywords: that holds folder names too
        needing = [item for item in items if item.get_closest_marker(marker)]
        if needing and missing(marker):
            for item in needing:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason in NEEDS.values():
        skipped = [
            report for report in terminalreporter.stats.get("skipped", []) if reason in str(report.longrepr)
        ]
        if skipped:
            terminalreporter.write_line(f"{len(skipped)} skipped, each {reason}:")
            for report in skipped:
                terminalreporter.write_line(f"  {report.nodeid}")


@pytest.fixture(scope="session", autouse=True)
def _files_of_tests_survive_no_power_cut() -> Iterator[None]:
    """fsync waits for the disk, a tenth of the time of the gate. Tests kill processes and count calls of
    fsync (processes of their own have the real one); none cuts the power.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def _modules_are_no_garbage() -> Iterator[None]:
    """Every load of a model collects garbage first. Without this, most of that time goes into looking
    through the modules of torch, transformers and the tests, which stay for good.
    """
    gc.collect()
    gc.freeze()
    yield


@pytest.fixture(scope="module", autouse=True)
def _proofs_are_kept(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """An architecture is proven once for all workers, and anew where bugs are planted in what it proves."""
    if request.path.relative_to(ROOT / "tests").parts[0] in ("laws", "model"):
        yield
        return
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETOOTH_CACHE", str(shared / "cache"))
        yield


@pytest.fixture(scope="module", autouse=True)
def _looks_of_a_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A user's state directory for what a module makes once. It is made by the first look in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETOOTH_STATE", str(tmp_path_factory.getbasetemp() / f"state-{uuid.uuid4()}"))
        yield


@pytest.fixture(autouse=True)
def _looks_are_forgotten(
    _looks_of_a_module: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every test is a new user: many tests seal the same few rows."""
    monkeypatch.setenv("FINETOOTH_STATE", str(tmp_path_factory.getbasetemp() / f"state-{uuid.uuid4()}"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the public data sets; only for tests with the marker `data`."""
    return DATA
