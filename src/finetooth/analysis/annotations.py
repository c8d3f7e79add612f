"""What a person says about the answers: whether a tag is right, what was to be expected, notes.

RUN/errors/annotations.jsonl is a log with one object per line; of two about the same the later one counts:

    {"id", "tag", "verdict": "confirm" | "reject", "time"}   whether the tag is right for this row
    {"id", "answer", "time"}                                 the corrected expected answer; "" withdraws it
    {"id", "note", "time"}                                   a note; "" withdraws it

From the verdicts every tag gets its own precision: the share of its wrong rows for which it is right. The
rows that happen to be judged are no fair sample of them: some were judged for the sake of another tag, some
were picked by a search. So every tag has its own random order of its wrong rows, which depends on nothing
else, and is estimated from the front of it, up to the first row that is not judged. A tag that cries wolf
leaves the headline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetooth.errors import DataError
from finetooth.quality.intervals import wilson
from finetooth.rundir import append_jsonl, fsync_path, mend_jsonl, read_jsonl

FOLDER = "errors"  # of a run: its error analysis, and what follows from it
ANNOTATIONS = f"{FOLDER}/annotations.jsonl"
CONFIRM, REJECT = "confirm", "reject"
TRUSTED = 0.6  # precision below which a tag is not in the headline
ENOUGH = 5  # judgements from which on the estimate alone decides that


@dataclass(frozen=True, slots=True)
class Annotations:
    """verdicts: (row id, tag) -> whether the tag was confirmed. answers, notes: by row id, none empty."""

    verdicts: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Precision:
    """How often a tag is right: the share of rows judged in its random order, and its 95% interval (Wilson).

    The three are None where no row at the front of that order is judged. others: judgements of further rows,
    which are not in the estimate.
    """

    confirmed: int
    rejected: int
    precision: float | None = None
    low: float | None = None
    high: float | None = None
    others: int = 0

    @property
    def judged(self) -> int:
        """The number of judgements that the estimate is made from."""
        return self.confirmed + self.rejected

    @property
    def headline(self) -> bool:
        """Whether the tag may be in the headline, by these judgements."""
        if self.precision is None or self.high is None or self.precision >= TRUSTED:
            return True
        return self.judged < ENOUGH and self.high >= TRUSTED


def read_annotations(run_path: Path) -> Annotations:
    """The annotations of a run; empty where there are none.

    A last line that a killed process left unfinished is not read. DataError, naming the line, for any other
    that is broken.
    """
    path = run_path / ANNOTATIONS
    if not path.is_file():
        return Annotations()
    lines = []
    try:
        for number, line in enumerate(read_jsonl(path), 1):
            if problem := _problem(line):
                raise DataError(f"{path}, line {number}: {problem}.")
            lines.append(line)
    except DataError as error:
        raise DataError(f"{error} Correct or delete this line.") from None
    return collect(lines)


def _problem(line: Any) -> str:
    """What is wrong with a line of the file; "" if nothing is."""
    if not isinstance(line, dict) or not isinstance(line.get("id"), str):
        return 'not an annotation: expected an object with the "id" of a row'
    if "verdict" in line:
        if line["verdict"] not in (CONFIRM, REJECT):
            return f'"verdict" is {line["verdict"]!r}, expected "{CONFIRM}" or "{REJECT}"'
        return "" if isinstance(line.get("tag"), str) else 'a verdict needs the name of its "tag"'
    given = [key for key in ("answer", "note") if key in line]
    if not given:
        return 'not an annotation: expected one of the keys "verdict", "answer" and "note"'
    wrong = [key for key in given if not isinstance(line[key], str)]
    return f'"{wrong[0]}" is not a text' if wrong else ""


def collect(lines: Iterable[Mapping[str, Any]]) -> Annotations:
    """The annotations in these lines; of several about the same the last one counts."""
    verdicts: dict[tuple[str, str], bool] = {}
    texts: dict[str, dict[str, str]] = {"answer": {}, "note": {}}
    for line in lines:
        if "verdict" in line:
            verdicts[line["id"], line["tag"]] = line["verdict"] == CONFIRM
        for key, known in texts.items():
            if key in line:
                known[line["id"]] = line[key]
    answers, notes = ({id: text for id, text in one.items() if text.strip()} for one in texts.values())
    return Annotations(verdicts, answers, notes)


def annotate(run_path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Append annotations, with the time, durably: they outlast a kill or a power cut right afterwards.

    lines: as in the file, without `time`. The run directory must be locked.
    """
    path = run_path / ANNOTATIONS
    time = datetime.now(UTC).isoformat(timespec="seconds")
    mend_jsonl(path)
    append_jsonl(path, [{**line, "time": time} for line in lines])
    if path.is_file():
        fsync_path(path)


def random_orders(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Of each tag the ids of its wrong rows, in its own random order: by a hash of the tag and the id."""
    orders: dict[str, list[str]] = {}
    for row in rows:
        if row["wrong"]:
            for tag in dict.fromkeys(one["tag"] for one in row["tags"]):
                orders.setdefault(tag, []).append(row["id"])
    return {tag: sorted(ids, key=lambda id: drawn(tag, id)) for tag, ids in orders.items()}


def drawn(tag: str, id: str) -> bytes:
    """A row's place in the random order of a tag."""
    return hashlib.sha256(f"{tag}\0{id}".encode("utf-8", "surrogatepass")).digest()


def precision(
    annotations: Annotations, tagged: Collection[tuple[str, str]], orders: Mapping[str, Sequence[str]]
) -> dict[str, Precision]:
    """The precision of every tag that was judged.

    tagged: the (row id, tag) pairs that stand now. Judgements of others do not count: of a tag that the row
    no longer has since its detector has changed, or that the person has added. orders: see `random_orders`.

    Judging may stop whenever it likes. The row at which the estimate ends is one that nobody has judged for
    any reason, which moves the number confirmed by less than one row, on average.
    """
    counts: dict[str, int] = {}
    for id, tag in annotations.verdicts:
        if (id, tag) in tagged:
            counts[tag] = counts.get(tag, 0) + 1
    found = {}
    for tag, count in counts.items():
        front = list(judged_front(tag, orders.get(tag, ()), annotations))
        right, n = sum(front), len(front)
        share, low, high = (right / n, *wilson(right, n)) if n else (None, None, None)
        found[tag] = Precision(right, n - right, share, low, high, count - n)
    return found


def judged_front(tag: str, order: Sequence[str], annotations: Annotations) -> Iterator[bool]:
    """The verdicts on the rows of an order, up to the first row that has none."""
    for id in order:
        if (id, tag) not in annotations.verdicts:
            return
        yield annotations.verdicts[id, tag]


def tagged_rows(rows: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """The (row id, tag) pairs of the rows of an analysis."""
    return {(row["id"], one["tag"]) for row in rows for one in row["tags"]}


def judged_tags(analysis: Mapping[str, Any], annotations: Annotations) -> list[dict[str, Any]]:
    """The analysis' tags with `confirmed`, `rejected`, `others`, `precision`, `low`, `high` and `headline` as
    they follow from the annotations: those of the headline first, each kind by its number of wrong rows.
    """
    rows = analysis["rows"]
    known = precision(annotations, tagged_rows(rows), random_orders(rows))
    tags = []
    for tag in analysis["tags"]:
        one = known.get(tag["tag"], Precision(0, 0))
        tags.append({**tag, **asdict(one), "headline": one.headline})
    return sorted(tags, key=lambda tag: (not tag["headline"], -tag["wrong"], -tag["rows"]))
