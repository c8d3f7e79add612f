"""The table of other tools' keys is read lazily, and is part of the wheel."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "finetooth"


def test_the_table_is_read_when_a_key_is_unknown_and_not_before() -> None:
    code = (
        "from finetooth.cli.app import invoke\nfrom finetooth.config import other_tools\n"
        "assert invoke(['run', '--help']) == 0 and not other_tools._table.cache_info().misses\n"
        "assert invoke(['run', 'task.yaml', '--lora_r', '8']) == 2\n"
        "assert invoke(['run', 'task.yaml', '--max_length', '8']) == 2\n"
        "assert other_tools._table.cache_info().misses == 1\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_file_that_is_not_python_is_in_the_wheel() -> None:
    """setuptools takes data files of packages only by these patterns, relative to the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["finetooth"]
    files = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*") if path.is_file()]
    data = [name for name in files if not name.endswith(".py") and "__pycache__" not in name]
    assert "config/other_tools.yaml" in data
    assert not [name for name in data if not any(fnmatch(name, pattern) for pattern in patterns)]
