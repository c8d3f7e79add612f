"""The child's side of the line protocol: one JSON object a line, over stdin and stdout. Nothing to install.

The harness starts `python run_X.py SPEC.json`, reads one line that says what was loaded, and then sends
{"do": "step", ...} whenever it is this child's turn. The child answers each with what it found and the
seconds it took; {"do": "stop"} is answered with the peak memory. Between turns the child blocks on stdin, so
only one system computes at a time.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

Facts = dict[str, Any]


class Channel:
    """The lines to and from the harness. What a library prints goes to stderr, never between the lines."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._begun = self._used = 0.0

    def ready(self, *packages: str) -> None:
        """Say that everything is loaded, with the versions of these packages."""
        self.tell({"versions": {name: version(name) for name in packages}})

    def wait(self) -> Facts | None:
        """Block until it is this child's turn; None when the harness wants no more. The clock starts here."""
        line = sys.stdin.readline()
        message = json.loads(line) if line else {"do": "stop"}
        self._begun, self._used = time.perf_counter(), time.process_time()
        return message if message["do"] == "step" else None

    def answer(self, facts: Facts) -> None:
        """What this turn found; the clocks stop here: that on the wall and that of the processors."""
        seconds = {"wall": time.perf_counter() - self._begun, "processor": time.process_time() - self._used}
        self.tell(seconds | facts)

    def close(self) -> None:
        """Say how much memory the process had at its peak, in bytes (Linux counts ru_maxrss in KiB)."""
        unit = 1 if sys.platform == "darwin" else 1024
        self.tell({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit})

    def tell(self, facts: Facts) -> None:
        """One line to the harness."""
        self._out.write(json.dumps(facts) + "\n")
        self._out.flush()


def read_spec() -> Facts:
    """What this child is to do, from the file that the command line names."""
    spec: Facts = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    return spec


def read_rows(spec: Facts) -> list[Facts]:
    """The rows of the case: {"tokens": ids, "scored": 0 or 1 for each}."""
    rows: list[Facts] = json.loads(Path(spec["rows"]).read_text(encoding="utf-8"))
    return rows


def labels(row: Facts) -> list[int]:
    """The tokens of a row with -100 where a token is not scored, as most trainers take them."""
    return [token if scored else -100 for token, scored in zip(row["tokens"], row["scored"], strict=True)]


def even_share(text: str) -> float:
    """A reward of a text of words like w17: the share of even numbers."""
    words = text.split()
    return sum(int(word[1:]) % 2 == 0 for word in words if word[1:].isdigit()) / max(1, len(words))


def in_parts(rows: list[Facts], size: int) -> list[list[Facts]]:
    """Micro-batches of at most `size` rows, in order."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def serve(channel: Channel, turn: Callable[[Facts], Facts], *packages: str) -> None:
    """Answer every turn with `turn(message)` until the harness wants no more."""
    channel.ready(*packages)
    while (message := channel.wait()) is not None:
        channel.answer(turn(message))
    channel.close()
