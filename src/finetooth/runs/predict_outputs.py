"""Output files of `predict`: where one goes, and which are whole already.

A record of a whole one is kept in the user's cache: a folder of results has nothing else in it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.config.values import DATA_FILES
from finetooth.data.cache import cache_directory
from finetooth.data.write.sheet import Sheet
from finetooth.errors import ConfigError, DataError
from finetooth.rundir import read_json, sha256_file, write_json
from finetooth.runs.predictions import log_path


def output_path(source: Path, out: Path | None, sheet: Sheet, force: bool) -> Path:
    """The output file. Raises ConfigError for one that exists, is the input, or is of another format."""
    if out is None:
        stem = (
            source.name[: -len(sheet.extension)]
            if source.name.lower().endswith(sheet.extension)
            else source.stem
        )
        out = source.with_name(f"{stem}.predicted{sheet.extension}")
    if out.is_dir():
        raise ConfigError(f"{out} is a folder. Name a file: --out {out / f'answers{sheet.extension}'}")
    if out.exists() and source.exists() and out.samefile(source):
        raise ConfigError(f"{out} is the input, which is never overwritten. Choose another --out.")
    if out.exists() and not (force or log_path(out).exists()):  # with a log: killed just before its removal
        raise exists(out)
    if out.name.lower().endswith((*DATA_FILES, ".gz")) and not out.name.lower().endswith(sheet.extension):
        raise ConfigError(
            f"{out}: the rows are written in the format of the input, {sheet.extension}. Name it so."
        )
    return out


def exists(out: Path) -> ConfigError:
    """The error for an output that would be overwritten."""
    return ConfigError(f"{out} exists. To replace it: --force. To keep it: --out FILE")


@dataclass(frozen=True, slots=True)
class FinishedReport:
    """An output that the same command has finished before. result: what it said then."""

    result: dict[str, Any]
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """That result, marked as `finished_before`."""
        return {**self.result, "finished_before": True}

    def print(self, console: Console) -> None:
        """The name of the output."""
        console.print(f"answered before by the same command, and kept: {self.result['out']}", soft_wrap=True)


def remember(out: Path, work: str, result: dict[str, Any]) -> None:
    """Keep that `out` is whole. work: a digest of all that decides its content. result: what was printed."""
    record = _record(out)
    if record is not None:
        record.parent.mkdir(parents=True, exist_ok=True)
        write_json(record, {"work": work, "digest": sha256_file(out), "result": result})


def recall(out: Path, work: str) -> dict[str, Any] | None:
    """The result of the same work, if `out` is still what it wrote; else None."""
    record = _record(out)
    if record is None or not (record.is_file() and out.is_file()):
        return None
    try:
        kept = read_json(record)
        same = (kept["work"], kept["digest"]) == (work, sha256_file(out))
        return dict(kept["result"]) if same else None
    except (DataError, KeyError, TypeError):
        return None  # a damaged record is none


def _record(out: Path) -> Path | None:
    folder = cache_directory("outputs")
    return folder and folder / f"{hashlib.sha256(str(out.absolute()).encode()).hexdigest()[:32]}.json"
