"""The user's cache directory: what finetooth keeps between runs and can make or fetch again."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from finetooth.errors import ModelError

Say = Callable[[str], None]  # shows a line of progress
CACHE = "FINETOOTH_CACHE"  # environment variable: the directory; empty: nothing is kept


def silent(line: str) -> None:
    """A `Say` that shows nothing."""


def cache_directory(part: str) -> Path | None:
    """The cache's directory of this name, which may not exist yet; None when FINETOOTH_CACHE is empty."""
    chosen = os.environ.get(CACHE)
    if chosen is not None:
        return Path(chosen) / part if chosen else None
    usual = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(usual) if usual else Path.home() / ".cache") / "finetooth" / part
    except RuntimeError:  # a user without a home directory
        return None


def required_directory(part: str) -> Path:
    """As cache_directory, for what cannot be done without. Raises ModelError."""
    directory = cache_directory(part)
    if directory is None:
        raise ModelError(
            f"Models need a cache directory: set {CACHE} to one (it is empty, which means none)."
        )
    return directory


@contextmanager
def exclusive(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Be the only process that makes `path`; another one is waited for, after `waiting` was called.

    The lock is a file beside `path` and ends with the process, however that ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def disk_full(path: Path, needed: int) -> ModelError:
    """The error for a disk without room for so many bytes at `path`."""
    return ModelError(
        f"The disk of {path} is full: {needed / 1e6:,.0f} MB are needed there. Free some space, or set "
        f"{CACHE} to a directory on another disk, then run the same command again."
    )
