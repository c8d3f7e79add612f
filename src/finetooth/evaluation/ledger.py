"""A run's ledger, ledger.jsonl, and the only reader of data/sealed.jsonl.

A held-out test is evidence only while no choice is made on it. So every look is recorded before it happens,
with the rows (looks.py counts them over all runs) and here; the file is compared with what was sealed, and a
second look with the same digest returns the stored result. The lines of the event `evaluated` hold the
digests of results, so that an edited one is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetooth.data.examples import from_json, normalised_context
from finetooth.errors import DataError
from finetooth.evaluation import hash_chain
from finetooth.evaluation.hash_chain import Event
from finetooth.evaluation.looks import FOLDER, Look, LookLedger, SealedSet, place_of
from finetooth.rundir import read_json, sha256_file, write_bytes
from finetooth.types import Example

Clock = Callable[[], float]
LEDGER = "ledger.jsonl"
PACKAGE = Path(__file__).resolve().parents[1]
REMEDY = "Restore the file, or start a new run directory."


@dataclass(frozen=True, slots=True)
class Looks:
    """Looks at a run's sealed rows by all runs.

    count: of all. others: of other runs. last: the latest event of another run. declared: how many may prove
    something; None before the first. begun: whether this run has begun one.
    """

    count: int = 0
    others: int = 0
    last: Event | None = None
    declared: int | None = None
    begun: bool = False


def seal(
    run_path: Path, clock: Clock, start: Mapping[str, Any] | None = None, folder: Path | None = None
) -> None:
    """Record the sealed file's sha256, what its rows say and their number, once, when the split was written.

    clock: seconds since 1970. start: the run whose split is kept, {run, digest of its weights if they are
    continued}; where it has sealed one of these rows, its looks count here too. folder: that of the task
    file, beside which looks are recorded. DataError when another file was sealed before.
    """
    content = _read(run_path)
    digest = hashlib.sha256(content).hexdigest()
    known = _sealed(run_path)
    if known is not None:
        if known["sha256"] != digest:
            raise _changed(run_path)
        return
    examples = _examples(content)
    rows = SealedSet.of(examples)
    event = {"event": "sealed", "sha256": digest, "rows": len(examples), "time": _time(clock)}
    event |= {"set": rows.digest, "contents": sorted(rows.contents)}
    if folder is not None and PACKAGE not in folder.resolve().parents:  # an example's is not the user's
        event["folder"] = str(folder.resolve())
    if start:
        parent = Path(start["run"])
        prompts = {normalised_context(example) for example in examples}
        theirs = read_sealed(parent) if sealed_count(parent) else []
        shared = any(normalised_context(example) in prompts for example in theirs)
        event["start"] = {**start, "looks": look_count(parent) if shared else 0}
    _append(run_path, event)


def seal_copy(run_path: Path, source: Path, clock: Clock) -> None:
    """Seal the sealed rows of another run here too, for a model that was made from that run's.

    Its looks count here. DataError as open_sealed raises it.
    """
    read_sealed(source)
    write_bytes(run_path / "data" / "sealed.jsonl", _read(source))
    folder = (_sealed(source) or {}).get("folder")
    seal(run_path, clock, {"run": str(source.resolve())}, None if folder is None else Path(folder))


def open_sealed(run_path: Path, digest: str, clock: Clock) -> list[Example]:
    """The test rows, after the look was recorded as by `take_look`."""
    examples = read_sealed(run_path)
    _take_look(run_path, digest, clock, declared=1, further=True)
    return examples


def take_look(
    run_path: Path, digest: str, clock: Clock, declared: int = 1, further: bool = True
) -> Look | None:
    """Record a look at the test: in the ledgers of its rows, then in the run's. Read the rows afterwards.

    digest: of everything that decides the result; one that is on record spends nothing. declared: how many
    looks the task declares, which counts at the first one. further: False takes the first look alone; None
    where there was one. DataError when the test was never sealed, or is not the file that was sealed.
    """
    read_sealed(run_path)
    return _take_look(run_path, digest, clock, declared, further)


def _take_look(run_path: Path, digest: str, clock: Clock, declared: int, further: bool) -> Look | None:
    rows, time = _rows(run_path), _time(clock)
    before = look_count(run_path) - (look_number(run_path, digest) is not None)
    look = rows.take(digest, declared, run_path, time, before, further)
    if look is not None and look_number(run_path, digest) is None:
        _append(run_path, {"event": "opened", "digest": digest, "time": time, "look": look.number})
    return look


def looks(run_path: Path) -> Looks:
    """The looks at this run's sealed rows so far, by any run; none where nothing was sealed."""
    if _sealed(run_path) is None:
        return Looks()
    rows = _rows(run_path)
    events = rows.looks()
    others = [event for event in events if look_number(run_path, event["digest"]) is None]
    mine = look_count(run_path, inherited=False)
    count = max(len(events), look_count(run_path))
    last = max(others, key=lambda event: str(event["time"]), default=None)
    begun = any(event["place"] == place_of(run_path) for event in events)
    return Looks(count, max(len(others), count - mine), last, rows.declared(), begun)


def read_sealed(run_path: Path) -> list[Example]:
    """The test rows, for a run that continues this one and must keep them apart from its training rows.

    They are neither answered nor shown, so this is no look. Raises DataError as open_sealed does.
    """
    known = _sealed(run_path)
    if known is None:
        raise DataError(f"{run_path / LEDGER}: the test was never sealed. Start a new run directory.")
    content = _read(run_path)
    if hashlib.sha256(content).hexdigest() != known["sha256"]:
        raise _changed(run_path)
    return _examples(content)


def lengths(run_path: Path, measure: Callable[[Example], int]) -> dict[str, int]:
    """Id -> length of each sealed row by `measure`: the only fact about the rows before the test is opened.

    A row that cannot be measured (DataError) has length 0; it is evaluated like the others.
    """
    length_of = {}
    for example in _examples(_read(run_path)):
        try:
            length_of[example.id] = measure(example)
        except DataError:
            length_of[example.id] = 0
    return length_of


def store_result(run_path: Path, digest: str, summary: dict[str, Any], clock: Clock) -> None:
    """Store the summary of the look with this digest; `stored_result` returns it, in any run."""
    if look_number(run_path, digest) is None:
        raise DataError(f"{run_path / LEDGER}: there is no look with the digest {digest}.")
    _append(run_path, {"event": "result", "digest": digest, "time": _time(clock), "summary": summary})
    _rows(run_path).store(digest, summary, _time(clock))


def stored_result(run_path: Path, digest: str, here: bool = False) -> dict[str, Any] | None:
    """The summary of an earlier look with this digest, by any run; None where none was completed.

    here: by this run alone.
    """
    results = (event for event in _events(run_path) if event["event"] == "result")
    own = next((event["summary"] for event in results if event["digest"] == digest), None)
    return own if own is not None or here or _sealed(run_path) is None else _rows(run_path).result(digest)


def rows_of_result(run_path: Path, summary: Mapping[str, Any]) -> list[Example] | None:
    """The test rows of the look that gave this summary, None where the ledger has no such look.

    That look is on record, so this is no new one. Raises DataError as open_sealed does.
    """
    return None if digest_of_result(run_path, summary) is None else read_sealed(run_path)


def digest_of_result(run_path: Path, summary: Mapping[str, Any]) -> str | None:
    """The digest of this run's look that gave this summary; None where its ledger has no such look."""
    results = (event for event in _events(run_path) if event["event"] == "result")
    return next((str(event["digest"]) for event in results if event["summary"] == summary), None)


def first_run(run_path: Path, digest: str) -> str | None:
    """The name of the run that took the look with this digest first; None where that is not on record."""
    return next((str(one["run"]) for one in _rows(run_path).looks() if one["digest"] == digest), None)


def is_recorded(run_path: Path, split: str, file: Path) -> bool:
    """Whether this file of an evaluation is as a run has written it."""
    events = (one for one in _events(run_path) if one["event"] == "evaluated" and one["split"] == split)
    return sha256_file(file) in [one["files"].get(file.name) for one in events]


def store_files(run_path: Path, split: str, files: Mapping[str, bytes], clock: Clock) -> None:
    """Write the files of an evaluation to evaluate/SPLIT, in order; their digests are recorded first."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    _append(run_path, {"event": "evaluated", "split": split, "files": digests, "time": _time(clock)})
    for name, content in files.items():
        write_bytes(run_path / "evaluate" / split / name, content)


def require_unchanged(run_path: Path, *splits: str) -> list[str]:
    """Raise DataError for a changed ledger, and for a result of these splits that is not as it was written.

    Returns the splits with results of an older version, of which no digests are known. Without `splits`, all
    are checked, and evaluate/summary.json too.
    """
    events, folder, unknown = _events(run_path), run_path / "evaluate", []
    bound: list[Any] = []
    for split in splits or ("validation", "test"):
        known = [one["files"] for one in events if one["event"] == "evaluated" and one["split"] == split]
        if not (folder / split / "summary.json").is_file():
            continue
        if not known:
            unknown.append(split)
            continue
        for name in known[-1]:
            file = folder / split / name
            if not file.is_file() or sha256_file(file) not in [digests.get(name) for digests in known]:
                raise _edited(file, run_path, split)
        bound.append(read_json(folder / split / "summary.json"))
    summary = folder / "summary.json"
    if not splits and bound and not unknown and summary.is_file() and read_json(summary) not in bound:
        raise _edited(summary, run_path, "test" if len(bound) > 1 else "validation")
    return unknown


def sealed_count(run_path: Path) -> int | None:
    """The number of sealed test rows, by the ledger; None when none is sealed."""
    known = _sealed(run_path)
    return None if known is None else int(known["rows"])


def sealed_digest(run_path: Path) -> str | None:
    """The sha256 of the sealed file, None when none is sealed."""
    known = _sealed(run_path)
    return None if known is None else str(known["sha256"])


def sealed_set(run_path: Path) -> SealedSet | None:
    """What tells the sealed rows from others, as it is on record; None without any, and of older runs."""
    known = _sealed(run_path) or {}
    return SealedSet(known["set"], frozenset(known["contents"])) if "set" in known else None


def began(run_path: Path) -> str | None:
    """The time of the ledger's first event, in ISO 8601 and UTC; None without one."""
    return next((str(event["time"]) for event in _events(run_path) if "time" in event), None)


def look_count(run_path: Path, inherited: bool = True) -> int:
    """How often the sealed test was opened by this run, and if `inherited` by the runs that it continues."""
    start = (_sealed(run_path) or {}).get("start") or {}
    before = int(start.get("looks", 0)) if inherited else 0
    return before + sum(1 for event in _events(run_path) if event["event"] == "opened")


def look_number(run_path: Path, digest: str) -> int | None:
    """The number, from 1, of the look with this digest; None where there was none."""
    opened = (event for event in _events(run_path) if event["event"] == "opened")
    return next((event["look"] for event in opened if event["digest"] == digest), None)


def result_time(run_path: Path, split: str) -> str | None:
    """When the result on this split was written, in ISO 8601 and UTC; None where the ledger does not say."""
    named = "result" if split == "test" else "evaluated"
    events = [one for one in _events(run_path) if one["event"] == named and one.get("split", split) == split]
    times = [one["time"] for one in events if "time" in one]
    return str(times[-1]) if times else None


def _sealed(run_path: Path) -> dict[str, Any] | None:
    return next((event for event in _events(run_path) if event["event"] == "sealed"), None)


def _rows(run_path: Path) -> LookLedger:
    """The ledger of the run's sealed rows: beside its task file, else the nearest one above the run."""
    known = _sealed(run_path) or {}
    if "set" in known:
        rows = SealedSet(known["set"], frozenset(known["contents"]))
    else:  # of an older version
        rows = SealedSet.of(read_sealed(run_path))
    if (folder := known.get("folder")) and Path(folder).is_dir():
        return LookLedger(rows, Path(folder))
    here = run_path.resolve()
    return LookLedger(rows, next((one for one in (here, *here.parents) if (one / FOLDER).is_dir()), here))


def _events(run_path: Path) -> list[Event]:
    return hash_chain.read(run_path / LEDGER, REMEDY)


def _append(run_path: Path, event: Mapping[str, Any]) -> None:
    hash_chain.append(run_path / LEDGER, event, REMEDY)


def _read(run_path: Path) -> bytes:
    path = run_path / "data" / "sealed.jsonl"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file: this run has no sealed test (data.test: 0?).") from None


def _examples(content: bytes) -> list[Example]:
    """The rows of the file. Only a line feed ends a row: texts may hold other line separators of Unicode."""
    return [from_json(json.loads(line)) for line in content.split(b"\n") if line]


def _edited(file: Path, run_path: Path, split: str) -> DataError:
    sealed = " --sealed" if split == "test" else ""
    return DataError(
        f"{file} is not what finetooth wrote there (ledger.jsonl has another sha256): it was edited or is "
        f"damaged. Restore it, or write it anew: finetooth evaluate {run_path}{sealed}"
    )


def _changed(run_path: Path) -> DataError:
    return DataError(
        f"{run_path / 'data' / 'sealed.jsonl'}: not the file that was sealed (its sha256 differs). A changed "
        "test is no evidence: restore the file, or start a new run directory."
    )


def _time(clock: Clock) -> str:
    return datetime.fromtimestamp(clock(), UTC).isoformat(timespec="seconds")
