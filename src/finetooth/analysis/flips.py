"""Which rows changed between two answers to them: fixed, broken, still wrong, still right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from finetooth.analysis.answered import AnsweredRow
from finetooth.data.examples import content

FIXED, BROKEN, STILL_WRONG, STILL_RIGHT = "fixed", "broken", "still wrong", "still right"
KINDS = (FIXED, BROKEN, STILL_WRONG, STILL_RIGHT)


@dataclass(frozen=True, slots=True)
class Flips:
    """kind: by id, what became of each row that both graded. left_out: ids of either side that are not."""

    kind: Mapping[str, str]
    left_out: int

    @property
    def counts(self) -> dict[str, int]:
        """The number of rows of each of the four kinds."""
        kinds = list(self.kind.values())
        return {kind: kinds.count(kind) for kind in KINDS}


def flips(before: Iterable[AnsweredRow], now: Iterable[AnsweredRow]) -> Flips:
    """What became of each row, in the order of `now`. Wrong is below half marks, as AnsweredRow says.

    Left out are rows that only one side has, that have another content, or that one side could not grade.
    """
    old = {row.id: row for row in before}
    ids, kind = set(old), {}
    for row in now:
        ids.add(row.id)
        was = old.get(row.id)
        if was is None or was.score is None or row.score is None:
            continue
        if content(was.example) != content(row.example):
            continue
        if was.wrong:
            kind[row.id] = STILL_WRONG if row.wrong else FIXED
        else:
            kind[row.id] = BROKEN if row.wrong else STILL_RIGHT
    return Flips(kind, len(ids) - len(kind))
