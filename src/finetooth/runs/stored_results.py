"""A result on the sealed test that another run has: the same weights and settings get it and spend no look.

Its records are copied from that run, where it lies in the same folder: without them nothing can be compared
row by row.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Any

from finetooth.errors import ConfigError, DataError
from finetooth.evaluation import ledger
from finetooth.rundir import json_bytes, read_json

RECORDS = "records.jsonl"


def take_over(path: Path, digest: str, summary: dict[str, Any]) -> None:
    """Store the result of the look with this digest here too, and its records where they are found."""
    known = ledger.stored_result(path, digest, here=True) is not None
    records = {} if (path / "evaluate" / "test" / RECORDS).is_file() else _records(path, digest, summary)
    if records or not known:
        ledger.store_files(path, "test", {**records, "summary.json": json_bytes(summary)}, time.time)
    if not known:
        ledger.store_result(path, digest, summary, time.time)


def _records(path: Path, digest: str, summary: dict[str, Any]) -> dict[str, bytes]:
    """The records behind a result, from a run in the same folder whose present result it is; else {}."""
    for other in sorted(path.resolve().parent.iterdir()):
        file = other / "evaluate" / "test" / RECORDS
        if other == path.resolve() or not file.is_file():
            continue
        with suppress(DataError, OSError):  # damaged: as if it were not there
            same = read_json(file.with_name("summary.json")) == summary
            if (
                same
                and ledger.stored_result(other, digest, here=True)
                and ledger.is_recorded(other, "test", file)
            ):
                return {RECORDS: file.read_bytes()}
    return {}


def no_records_error(path: Path, digest: str | None) -> ConfigError:
    """That the single answers behind a stored result are not here, and what to do."""
    name = digest and ledger.first_run(path, digest)
    whose = f"the run {name}" if name else "another run with the same weights"
    where = path.resolve().parent
    return ConfigError(
        f"{path} took its sealed result over from {whose}, without the records of its answers, so it cannot "
        f"be compared row by row. Put that run into {where}, and copy its records, at no further look: "
        f"finetooth evaluate {quote(str(path))} --sealed. Where it is lost, compare validation rows: leave "
        "--sealed out."
    )
