"""The harness's side of the line protocol: one child process for each system, one at work at a time."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

PEERS = Path(__file__).resolve().parents[1] / "peers"
SOURCE = Path(__file__).resolve().parents[2] / "src"


class ChildDied(RuntimeError):
    """A child ended without an answer; the message has the last lines of its log."""


def surroundings(threads: int, ours: bool) -> dict[str, str]:
    """The environment of a child: the same threads for all, which wait for each other as they do for users.

    A child that waits for its turn reads a line, and its threads sleep soon after their last work.
    """
    own = {"PYTHONPATH", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}
    kept = {name: value for name, value in os.environ.items() if name not in own}
    fixed = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore",
    }
    return kept | fixed | ({"PYTHONPATH": str(SOURCE)} if ours else {})


class Child:
    """One system in its own process. name: what the tables call it. versions: of what it loaded."""

    def __init__(self, name: str, python: Path, script: str, spec: Mapping[str, Any], room: Path) -> None:
        self.name = name
        self.versions: dict[str, str] = {}
        self._clock = spec.get("clock", "wall")
        path, self._log_path = room / f"{name}.json", room / f"{name}.log"
        path.write_text(json.dumps(spec), encoding="utf-8")
        self._log: TextIO = self._log_path.open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            [str(python), str(PEERS / script), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=surroundings(spec["threads"], ours=script == "run_finetooth.py"),
        )

    def ready(self) -> None:
        """Block until everything is loaded."""
        self.versions = self._read()["versions"]

    def turn(self, **message: Any) -> dict[str, Any]:
        """Let it compute once; what it found, with `seconds` by the clock of the spec."""
        self._write({"do": "step"} | message)
        found = self._read()
        clocks = {name: found.pop(name) for name in ("wall", "processor")}
        return found | {"seconds": clocks[self._clock]}

    def stop(self) -> int:
        """End it; its peak memory in bytes."""
        self._write({"do": "stop"})
        peak = int(self._read()["peak"])
        self._process.wait()
        self._log.close()
        return peak

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()
        self._process.wait()

    def _write(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        found: dict[str, Any] = json.loads(line)
        return found

    def _died(self) -> ChildDied:
        self._log.flush()
        tail = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        return ChildDied(f"{self.name} ended without an answer:\n" + "\n".join(tail))


class Quiet:
    """Keeps other work away while something is measured, by an exclusive lock on a file that it waits for.

    `with quiet:` around every round. Between rounds the lock is given up only when it was held for `longest`
    seconds, and at `release`. Without a file it does nothing.
    """

    def __init__(self, path: Path | None, longest: float = 160.0) -> None:
        self._path, self._longest = path, longest
        self._file: TextIO | None = None
        self._since = 0.0

    def __enter__(self) -> None:
        if self._path is not None and self._file is None:
            self._file = self._path.open("a")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        if time.monotonic() - self._since > self._longest:
            self.release()

    def release(self) -> None:
        """Let others work."""
        if self._file is not None:
            self._file.close()
            self._file = None
