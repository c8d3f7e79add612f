"""Looks at sealed rows: their ledger belongs to the rows, whichever run, task file or seed has sealed them.

A set of sealed rows is known by a digest of what they say. Its ledger, DIGEST.jsonl, is kept twice: in
finetooth-ledger/ beside the task file, and in the user's state directory (FINETOOTH_STATE). What either has
counts, so a copy that was deleted is restored from the other. Looks at any set that shares a row with this
one count too: a shortened or slightly changed set begins no new count.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetooth.data.cache import exclusive
from finetooth.data.examples import content_id
from finetooth.errors import DataError
from finetooth.evaluation import hash_chain
from finetooth.evaluation.hash_chain import Event
from finetooth.types import Example

FOLDER = "finetooth-ledger"
STATE = "FINETOOTH_STATE"  # environment variable: the user's state directory; empty: nothing is kept there


@dataclass(frozen=True, slots=True)
class SealedSet:
    """Sealed rows. digest: of contexts, answers and tools. contents: ids of the rows' normalised content."""

    digest: str
    contents: frozenset[str]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> SealedSet:
        """The set of these rows, whatever their order, ids and files."""
        rows = sorted(json.dumps(_content(example), sort_keys=True, default=str) for example in examples)
        digest = hashlib.sha256("\n".join(rows).encode("utf-8", "surrogatepass")).hexdigest()
        return cls(digest, frozenset(content_id(example) for example in examples))


@dataclass(frozen=True, slots=True)
class Look:
    """A look at a sealed set. number: from 1. declared: how many may prove something. notes: to be shown."""

    number: int
    declared: int
    notes: tuple[str, ...] = ()

    @property
    def is_beyond(self) -> bool:
        """Whether this look is one more than were declared."""
        return self.number > self.declared


def state_directory() -> Path | None:
    """The user's state directory of finetooth; None where FINETOOTH_STATE is empty or there is no home."""
    chosen, usual = os.environ.get(STATE), os.environ.get("XDG_STATE_HOME")
    if chosen is not None:
        return Path(chosen) if chosen else None
    try:
        return (Path(usual) if usual else Path.home() / ".local" / "state") / "finetooth"
    except RuntimeError:
        return None


def place_of(run: Path) -> str:
    """What tells a run directory from others; its path would not belong into a ledger that is passed on."""
    return hashlib.sha256(str(run.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:12]


class LookLedger:
    """The ledger of one sealed set. folder: that of the task file, or the run directory without one."""

    def __init__(self, sealed: SealedSet, folder: Path) -> None:
        self._sealed, self._name = sealed, sealed.digest[:16]
        state = state_directory()
        self._places = [folder / FOLDER, *([] if state is None else [state / "ledger"])]

    def looks(self) -> list[Event]:
        """The events of all looks at this set and at those that share a row with it."""
        with self._locked(create=False):
            return _looks(self._related().values())

    def declared(self) -> int | None:
        """How many looks were declared at the first one; the least of all these sets. None before."""
        with self._locked(create=False):
            return _declared(self._related().values())

    def result(self, digest: str) -> dict[str, Any] | None:
        """The summary of a completed look with this digest at exactly this set."""
        with self._locked(create=False):
            own = self._related().get(self._name, [])
        return next((e["summary"] for e in own if e["event"] == "result" and e["digest"] == digest), None)

    def take(
        self, digest: str, declared: int, run: Path, time: str, before: int = 0, further: bool = True
    ) -> Look | None:
        """Record a look, in every place that can be written, before it is taken.

        digest: of everything that decides the result; one that is on record spends nothing. declared: what
        the task declares, which counts at the first look. before: looks that are known otherwise. further:
        False records the first look alone, and returns None where there was one. Raises DataError where the
        look can be recorded nowhere, and for an edited ledger.
        """
        with self._locked(create=True) as refused:
            related = self._related()
            looks, known = _looks(related.values()), _declared(related.values())
            declared = declared if known is None else known
            sealed = {
                "event": "sealed",
                "set": self._sealed.digest,
                "contents": sorted(self._sealed.contents),
            }
            own = related.get(self._name) or [{**sealed, "looks": declared, "time": time}]
            opened = next((e for e in own if e["event"] == "opened" and e["digest"] == digest), None)
            number = max(len(looks), before) + 1 if opened is None else int(opened["look"])
            if opened is None and not further and number > 1:
                return None
            if opened is None:
                where = {"run": run.resolve().name, "place": place_of(run), "time": time}
                own = [*own, {"event": "opened", "digest": digest, "look": number, **where}]
            written = self._write(own, refused)
            if opened is None and not written:
                raise DataError(
                    f"{' and '.join(map(_reason, refused.items()))}, so no look at the sealed test can be "
                    "recorded, and it stays closed. Make one of them writable, or set "
                    f"{STATE} to a directory that is."
                )
            notes = [f"{_reason(one)}: looks are recorded in {written[0]} alone." for one in refused.items()]
            return Look(number, declared, tuple(notes) if written else ())

    def store(self, digest: str, summary: dict[str, Any], time: str) -> None:
        """Store the summary of the look with this digest, once."""
        with self._locked(create=True) as refused:
            own = self._related().get(self._name, [])
            if own and not any(e["event"] == "result" and e["digest"] == digest for e in own):
                result = {"event": "result", "digest": digest, "summary": summary, "time": time}
                self._write([*own, result], refused)

    def _related(self) -> dict[str, list[Event]]:
        """Name -> events of the sets that share a row with this one: what any copy has. Raises DataError."""
        files = (
            file for place in self._places for end in ("jsonl", "sha256") for file in place.glob(f"*.{end}")
        )
        related = {}
        for name in sorted({file.stem for file in files}):
            events = _union(self._copies(name))
            if any(not self._sealed.contents.isdisjoint(event.get("contents", ())) for event in events[:1]):
                related[name] = events
        return related

    def _copies(self, name: str) -> Iterator[list[Event]]:
        files = [place / f"{name}.jsonl" for place in self._places]
        present = [file for file in files if file.is_file()]
        for file in present or [file for file in files if hash_chain.head_of(file).is_file()]:
            others = [str(other) for other in present if other != file]
            remedy = "Restore it from a backup, or seal new rows: another data.test in a new run directory."
            if others:
                remedy = f"Delete it, and it is restored from {others[0]} when the test is opened next."
            yield hash_chain.read(file, remedy)

    def _write(self, events: Sequence[Event], refused: dict[Path, OSError]) -> list[Path]:
        """Bring the copies up to date, and return their places. Others are added to `refused`."""
        written = []
        for place in self._places:
            file = place / f"{self._name}.jsonl"
            try:
                if place in refused:
                    continue
                for leftover in place.glob(".*.tmp"):  # of a killed process
                    leftover.unlink()
                if not file.is_file() or _union([hash_chain.read(file, "")]) != list(events):
                    hash_chain.write(file, events)
                written.append(place)
            except OSError as error:
                refused[place] = error
        return written

    @contextmanager
    def _locked(self, create: bool) -> Iterator[dict[Path, OSError]]:
        """Be the only process at these ledgers. Yields the places that cannot be written, with the reason."""
        refused: dict[Path, OSError] = {}
        with ExitStack() as stack:
            for place in self._places:
                try:
                    if create or place.is_dir():
                        stack.enter_context(exclusive(place / "ledger"))
                except OSError as error:
                    refused[place] = error
            yield refused


def _looks(ledgers: Iterable[list[Event]]) -> list[Event]:
    return [event for events in ledgers for event in events if event["event"] == "opened"]


def _declared(ledgers: Iterable[list[Event]]) -> int | None:
    return min((events[0]["looks"] for events in ledgers), default=None)


def _union(copies: Iterable[list[Event]]) -> list[Event]:
    """The events of all copies, each once; of two declarations the smaller number of looks."""
    union: dict[tuple[str, str], Event] = {}
    for event in (event for events in copies for event in events):
        key = event["event"], event.get("digest", "")
        if key not in union or event.get("looks", 0) < union[key].get("looks", 0):
            union[key] = {name: value for name, value in event.items() if name != "previous"}
    return list(union.values())


def _content(example: Example) -> list[Any]:
    turns = [[turn.role, turn.content, dict(turn.more)] for turn in example.context]
    answers = [[answer.role, answer.text, dict(answer.more)] for answer in example.answers]
    return [turns, answers, list(example.tools)]


def _reason(refused: tuple[Path, OSError]) -> str:
    place, error = refused
    return f"{place} cannot be written ({error.strerror or error})"
