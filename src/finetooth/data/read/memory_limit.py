"""Limits file sizes by the available memory, so that a file that is too large gives an error message."""

from __future__ import annotations

from pathlib import Path

from finetooth import machine
from finetooth.errors import DataError

BOMB, RATIO = (
    1 << 28,
    300,
)  # bytes, and times its size, beyond which a file is not unpacked: text gives 3 to 30
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
