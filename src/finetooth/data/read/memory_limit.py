"""Limits file sizes by the available memory, so that a file that is too large gives an error message."""

from __future__ import annotations

import os
from pathlib import Path

from finetooth.errors import DataError

SHARE = 4  # rows take several times the memory of the text that they are read from
# The memory limit of a Linux container, in cgroup v2 and v1.
CONTAINER = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def memory_bytes() -> int:
    """The memory of this machine or container in bytes."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in CONTAINER:
        try:
            sizes.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return min(sizes)


def max_file_bytes() -> int:
    """Maximum size of one file in bytes: a quarter of the memory of this machine or container."""
    return memory_bytes() // SHARE


def require_memory(path: Path, size: int, what: str) -> None:
    """Raise DataError if `size` bytes of a file are too many. what: verb for the message, such as "has"."""
    limit = max_file_bytes()
    if size > limit:
        raise DataError(
            f"{path}: {what} more than {limit / 1e9:,.1f} GB, a quarter of the memory here, and rows "
            "need several times that. Use part of the data, or a machine with more memory."
        )
