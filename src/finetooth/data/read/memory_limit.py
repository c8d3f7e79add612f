"""Limits file sizes by the available memory, so that a file that is too large gives an error message."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetooth import machine
from finetooth.errors import DataError

BOMB, RATIO = (
    1 << 28,
    300,
)  # bytes, and times its size, beyond which a file is not unpacked: text gives 3 to 30
ARENAS = 2 << 30  # bytes of address space that a library may reserve without using them
SHARE = 4  # rows take several times the memory of the text that they are read from


def max_file_bytes() -> int:
    """Maximum size of one file in bytes: a quarter of the memory of this machine or container."""
    return machine.memory() // SHARE


def require_memory(path: Path, size: int, what: str) -> None:
    """Raise DataError if `size` bytes of a file are too many. what: verb for the message, such as "has"."""
    limit = max_file_bytes()
    if size > limit:
        raise DataError(
            f"{path}: {what} more than {limit / 1e9:,.1f} GB, a quarter of the memory here, and rows "
            "need several times that. Use part of the data, or a machine with more memory."
        )


def require_plausible(path: Path, unpacked: int, packed: int) -> None:
    """Raise DataError for a file that unpacks to far more than data would, so that it is not unpacked whole.

    unpacked: bytes so far; packed: size of the file.
    """
    require_memory(path, unpacked, "unpacks to")
    if unpacked > BOMB and unpacked > RATIO * packed:
        raise DataError(
            f"{path}: unpacks to more than {RATIO} times its size, which no data does. Unpack it "
            "yourself if you trust it."
        )


@contextmanager
def limited_memory(path: Path) -> Iterator[None]:
    """Within it, a library that needs too much memory to read the file fails, and that is a DataError.

    For what a file does not say beforehand, such as the sizes of compressed buffers; on Linux only, where the
    address space of the process can be limited.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + max_file_bytes() + ARENAS
    limits = [one for one in (limit, soft, hard) if one != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    except MemoryError:
        require_memory(path, limit, "needs")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
