"""How much of a file may be taken into memory, so that one that is too large ends in a message."""

from __future__ import annotations

import os
from pathlib import Path

from finetooth.errors import DataError

# Rows take a few times the memory of the text that they are read from.
SHARE = 4
# Where a container says how much memory its processes may take, in the two layouts of Linux.
CONTAINER = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def max_file_bytes() -> int:
    """The most bytes that one file may hold: a quarter of the memory of this machine or container."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in CONTAINER:
        try:
            sizes.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return min(sizes) // SHARE


def require_memory(path: Path, size: int, what: str) -> None:
    """Raise DataError when `size` bytes of a file are too many. what: what has that size, for the message."""
    limit = max_file_bytes()
    if size > limit:
        raise DataError(
            f"{path}: {what} more than {limit / 1e9:,.1f} GB, a quarter of the memory here, and rows take "
            "a few times as much. Use a part of it, or a machine with more memory."
        )
