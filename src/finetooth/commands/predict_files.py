"""`finetooth predict RUN FILE FILE...`: each file is answered by a process of its own, several at a time.

That process is `finetooth predict RUN FILE`: its output appears when whole, and it resumes after a kill.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from finetooth import machine
from finetooth.config.values import format_count
from finetooth.data.write.sheet import STDIN
from finetooth.errors import ConfigError


@dataclass(frozen=True, slots=True)
class PredictFilesReport:
    """What was answered. files: of each input, the result of `predict --json`, or {input, error}."""

    target: str
    files: list[dict[str, Any]]
    ok: bool = True

    @property
    def problems(self) -> str:
        """What to say of the files that could not be answered; "" if all were."""
        return "\n".join(f"{one['input']}: {one['error']}" for one in self.files if "error" in one)

    def to_json(self) -> dict[str, Any]:
        """The model, and the files in the order given."""
        return {"model": self.target, "files": self.files}

    def print(self, console: Console) -> None:
        """A line for each file that was answered."""
        for one in self.files:
            if "error" not in one:
                console.print(_line(one), soft_wrap=True)


def run(
    target: str, sources: Sequence[str], flags: Sequence[str], workers: int, console: Console
) -> PredictFilesReport:
    """Answer several files, at most `workers` at a time and one for each CPU, which share the CPUs.

    flags: of `predict`, for every file. A file that cannot be answered does not stop the others; one that the
    same command has answered, before it was killed, is left alone.
    """
    if STDIN in sources or len(set(sources)) < len(sources):
        raise ConfigError("Several files must be different ones, and none of them stdin (-).")
    cpus = machine.usable_cpus()
    workers = min(workers, len(sources), cpus)
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, cpus // workers))}
    running: set[subprocess.Popen[str]] = set()

    def answer(source: str) -> dict[str, Any]:
        words = [sys.executable, "-m", "finetooth", "predict", target, source, *flags, "--json", "--quiet"]
        words.append("--skip-finished")
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        options: Any = {**pipes, "text": True, "env": environment}
        with subprocess.Popen(words, **options) as process:
            running.add(process)
            out, said = process.communicate()
            running.discard(process)
        try:
            found: dict[str, Any] = json.loads(out)
        except ValueError:
            return {"input": source, "error": said.strip() or f"ended with {process.returncode}"}
        return found

    with ThreadPoolExecutor(workers) as pool:
        todo = {pool.submit(answer, source): source for source in sources}
        done: dict[str, dict[str, Any]] = {}
        try:
            for future in as_completed(todo):
                one = done[todo[future]] = future.result()
                said = one["error"] if "error" in one else _line(one)
                console.print(f"{len(done)} of {format_count(len(sources), 'file')}: {said}", soft_wrap=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()  # what it has answered is on its disk
            raise
    return PredictFilesReport(target, [done[source] for source in sources])


def _line(one: dict[str, Any]) -> str:
    if one.get("finished_before"):
        return f"answered before by the same command, and kept: {one['out']}"
    more = f", {format_count(one['errors'], 'row')} with an error" if one["errors"] else ""
    return f"{one['answered']:,} of {format_count(one['rows'], 'row')} answered{more}: {one['out']}"
