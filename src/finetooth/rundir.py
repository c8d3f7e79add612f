"""Run directories: who may write into one, atomic writes, JSON; the only module that writes into them.

A file is written under a temporary name in the same directory, fsynced and renamed, so that a reader or a
crash sees the old file or the new one, never a partial one. Logs are appended line by line.

    RUN/.finetooth/manifest.jsonl   names of what finetooth has written there, each recorded before the write
    RUN/.finetooth/lock             locked by the one process that writes; holds its pid, command and start

Nothing is replaced or deleted in a run directory that its manifest does not name.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from finetooth.errors import ConfigError, DataError

OWN = ".finetooth"  # the directory of the manifest and the lock
_MANIFEST, _LOCK = f"{OWN}/manifest.jsonl", f"{OWN}/lock"
_TEMPORARY = re.compile(r"\.(.+)\.(?:\d+|[0-9a-f]{32})\.tmp")  # the second form: of older versions
_HELD: dict[Path, tuple[int, int]] = {}  # run directory -> its lock's file descriptor and thread


# The manifest -----------------------------------------------------------------------------------------------


def has_manifest(root: Path) -> bool:
    """Whether finetooth has made this directory."""
    return (root / _MANIFEST).is_file()


def start_manifest(root: Path, names: Iterable[str] = ()) -> None:
    """Begin the manifest of a directory. names: relative paths of files and directories that are ours."""
    (root / OWN).mkdir(exist_ok=True)
    write_jsonl(root / _MANIFEST, names)


def is_ours(root: Path, name: str) -> bool:
    """Whether the manifest of `root` names this relative path, or a directory around it."""
    known = {OWN, *(read_jsonl(root / _MANIFEST) if has_manifest(root) else ())}
    path = Path(name)
    return any(part.as_posix() in known for part in (path, *path.parents))


def claim(path: Path) -> None:
    """Record in the manifest of the run directory around `path`, if there is one, that `path` is ours.

    Raises ConfigError when something is there that finetooth has not written.
    """
    root = next((parent for parent in path.parents if has_manifest(parent)), None)
    if root is None:
        return
    name = path.relative_to(root).as_posix()
    if any(_TEMPORARY.fullmatch(part) for part in name.split("/")) or is_ours(root, name):
        return
    if os.path.lexists(path):
        raise ConfigError(
            f"{path} exists and was not written by finetooth, which never overwrites your files. Move it "
            "elsewhere, then run the same command again."
        )
    with (root / _MANIFEST).open("ab") as file:
        file.write(f"{json.dumps(name)}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def remove_leftovers(root: Path) -> None:
    """Delete temporary files of ours that a killed process left. The lock must be held."""
    for folder, directories, files in os.walk(root, topdown=False):
        for entry in [*directories, *files]:
            match, path = _TEMPORARY.fullmatch(entry), Path(folder, entry)
            if match is None or not is_ours(root, (path.parent / match[1]).relative_to(root).as_posix()):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


# The lock ---------------------------------------------------------------------------------------------------


@contextmanager
def locked(root: Path) -> Iterator[bool]:
    """Be the only process that writes into `root`; the lock ends with the process, however that ends.

    May be nested in one thread; yields whether this is the outermost one. Raises ConfigError, naming the
    process that holds it.
    """
    key = root.resolve()
    if key in _HELD and _HELD[key][1] == threading.get_ident():
        yield False
        return
    (root / OWN).mkdir(exist_ok=True)
    handle = _acquire(root)
    _HELD[key] = handle, threading.get_ident()
    try:
        yield True
    finally:
        if _HELD.pop(key, None):  # else this is a forked child, which has closed it
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_UN)  # a child forked a moment ago may have it open still
            os.close(handle)


def _acquire(root: Path) -> int:
    """The file descriptor of the locked lock file, which then names this process."""
    path = root / _LOCK
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 4096, 0).decode("utf-8", "replace")
            os.close(handle)
            raise ConfigError(
                f"{root} is in use by another finetooth process ({holder or 'it has just started'}). Wait "
                "until it has ended, or choose another --out, if this command has it."
            ) from None
        except OSError:  # a file system without locks
            return handle
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(handle)):
                break
        os.close(handle)  # its last holder has removed the file
    program = Path(sys.argv[0]).name.replace("__main__.py", "finetooth")
    command = " ".join([program, *sys.argv[1:]])[:500]
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"pid {os.getpid()}, since {since}: {command}".encode("utf-8", "replace"), 0)
    return handle


def _forget_locks() -> None:
    """In a forked child: a lock belongs to the parent, and must not outlive it in here."""
    for handle, _ in _HELD.values():
        os.close(handle)
    _HELD.clear()


os.register_at_fork(after_in_child=_forget_locks)


# Writing ----------------------------------------------------------------------------------------------------


def fsync_path(path: Path) -> None:
    """Flush a file, or the entries of a directory (renames, new files), to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def temporary_path(path: Path) -> Path:
    """A name beside `path` for what becomes it; what a crash leaves there is removed at the next start."""
    claim(path)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; it then replaces `path` durably. Creates parent directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        yield temporary
        fsync_path(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a path where to make a directory, its files fsynced; it then replaces `path` durably."""
    temporary = temporary_path(path)
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process with the same number
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync_path(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` atomically and durably, creating parent directories."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by UTF-8 `text` atomically."""
    write_bytes(path, text.encode("utf-8"))


def json_bytes(value: Any) -> bytes:
    """Indented JSON as UTF-8. Raises ValueError for NaN and infinity, which are not JSON."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def jsonl_bytes(rows: Iterable[Any]) -> bytes:
    """One JSON value per line, as UTF-8. Raises ValueError for NaN and infinity."""
    return b"".join(f"{json.dumps(row, ensure_ascii=False, allow_nan=False)}\n".encode() for row in rows)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `json_bytes`."""
    write_bytes(path, json_bytes(value))


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Replace `path` by `jsonl_bytes`."""
    write_bytes(path, jsonl_bytes(rows))


def append_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Append lines to a log and flush them to the operating system."""
    if content := jsonl_bytes(rows):
        path.parent.mkdir(parents=True, exist_ok=True)
        claim(path)
        with path.open("ab") as file:
            file.write(content)


def mend_jsonl(path: Path) -> None:
    """End the last line of a log, if a killed process left it open, so that the next one is not glued to it.

    A last line that was not written whole is dropped, as `read_jsonl` does.
    """
    if not path.is_file():
        return
    content = path.read_bytes()
    start = content.rfind(b"\n") + 1
    if start == len(content):
        return
    claim(path)
    try:
        json.loads(content[start:])
    except (ValueError, RecursionError):
        os.truncate(path, start)
    else:
        with path.open("ab") as file:
            file.write(b"\n")


# Reading ----------------------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """The parsed file. Raises DataError if it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}).") from error


def read_jsonl(path: Path) -> Iterator[Any]:
    """The parsed lines, in order. Skips a truncated last line (a crash while appending).

    Raises DataError for any other line that is not JSON.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                if not line.endswith(b"\n"):
                    return
                raise DataError(f"{path}, line {number}: not valid JSON ({error}).") from error


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
