"""What a person says about the answers: whether a tag is right, what was to be expected, notes.

RUN/errors/annotations.jsonl is a log with one object per line; of two about the same the later one counts:

    {"id", "tag", "verdict": "confirm" | "reject", "time"}   whether the tag is right for this row
    {"id", "answer", "time"}                                 the corrected expected answer; "" withdraws it
    {"id", "note", "time"}                                   a note; "" withdraws it

From the verdicts every tag gets its own precision. A tag that cries wolf leaves the headline.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
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
    """How often a tag was right where a person judged it: the share, and its 95% interval (Wilson)."""

    confirmed: int
    rejected: int
    precision: float
    low: float
    high: float

    @property
    def judged(self) -> int:
        """The number of judgements."""
        return self.confirmed + self.rejected

    @property
    def headline(self) -> bool:
        """Whether the tag may be in the headline, by these judgements."""
        if self.precision >= TRUSTED:
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
    for number, line in enumerate(read_jsonl(path), 1):
        if problem := _problem(line):
            raise DataError(f"{path}, line {number}: {problem}. Correct or delete this line.")
        lines.append(line)
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


def precision(
    annotations: Annotations, tagged: Collection[tuple[str, str]] | None = None
) -> dict[str, Precision]:
    """The precision of every tag that was judged.

    tagged: the (row id, tag) pairs that stand now. Judgements of others do not count: of a tag that the row
    no longer has since its detector has changed, or that the person has added.
    """
    counts: dict[str, list[int]] = {}
    for (id, tag), confirmed in annotations.verdicts.items():
        if tagged is None or (id, tag) in tagged:
            counts.setdefault(tag, [0, 0])[0 if confirmed else 1] += 1
    return {
        tag: Precision(right, wrong, right / (right + wrong), *wilson(right, right + wrong))
        for tag, (right, wrong) in counts.items()
    }


def tagged_rows(rows: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """The (row id, tag) pairs of the rows of an analysis."""
    return {(row["id"], one["tag"]) for row in rows for one in row["tags"]}


def judged_tags(analysis: Mapping[str, Any], annotations: Annotations) -> list[dict[str, Any]]:
    """The analysis' tags with `confirmed`, `rejected`, `precision`, `low`, `high` and `headline` as they
    follow from the annotations: those of the headline first, each kind by its number of wrong rows.
    """
    known = precision(annotations, tagged_rows(analysis["rows"]))
    tags = []
    for tag in analysis["tags"]:
        one = known.get(tag["tag"])
        tags.append(
            {
                **tag,
                "confirmed": one.confirmed if one else 0,
                "rejected": one.rejected if one else 0,
                "precision": one.precision if one else None,
                "low": one.low if one else None,
                "high": one.high if one else None,
                "headline": one.headline if one else True,
            }
        )
    return sorted(tags, key=lambda tag: (not tag["headline"], -tag["wrong"], -tag["rows"]))
