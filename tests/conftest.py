"""What all tests share: no network, and the public data sets where they are present.

Tests that need the data sets carry the marker `data`. FINETOOTH_DATA names their folder; the default is
../shared/data beside the checkout. Without it they are skipped by name, and the summary counts them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before any test imports transformers: a test never downloads
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: a second thread costs more than it helps

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FINETOOTH_DATA") or ROOT.parent / "shared" / "data")
NO_DATA = "needs the public data sets: set FINETOOTH_DATA to their folder"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not DATA.is_dir():
        for item in items:
            if item.get_closest_marker("data"):  # not item.keywords: that holds folder names too
                item.add_marker(pytest.mark.skip(reason=NO_DATA))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [
        report for report in terminalreporter.stats.get("skipped", []) if NO_DATA in str(report.longrepr)
    ]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} skipped, they need FINETOOTH_DATA:")
        for report in skipped:
            terminalreporter.write_line(f"  {report.nodeid}")


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the public data sets; only for tests with the marker `data`."""
    return DATA
