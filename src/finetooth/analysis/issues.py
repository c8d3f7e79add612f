"""Issues between iterations: a tag on the rows of a slice, and what became of it since the last iteration.

**The paired unit** is a row that both iterations answered with the same context and answers (a cluster of
rows, see row_groups, is one unit), and of it whether the issue affects it: the row has the tag and is wrong;
for tags of form, which are bad in a right answer too, whether it has the tag. Rows that are affected in both
or in neither say nothing about a change. An iteration that changed nothing but by chance is as likely to gain
a row as to lose it, which the sign-flip mid-p tests (for single rows it is the mid-p McNemar test).

FIXED and REGRESSED need p < .05 after Benjamini and Hochberg's adjustment over the issues of a comparison
that could be proven at all: those with MIN_AFFECTED rows affected before or now, and at least FEWEST_CHANGED
units that changed (of fewer no p is below .05). Both numbers are the same if before and now are exchanged, so
to choose by them keeps the level. So is the number of rows ever affected, by which `issue_slices` chooses.

Axes: T iterations, the oldest first; R rows of all iterations; a key is (tag, slice).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from finetooth.analysis import issue_words
from finetooth.analysis.answered import AnsweredRow
from finetooth.data.examples import content
from finetooth.evaluation.resampling import cluster_totals, sign_flip_midp
from finetooth.evaluation.runner import row_groups
from finetooth.evaluation.slices import SUPPORT
from finetooth.evaluation.statistics import ALPHA
from finetooth.types import Example

MIN_AFFECTED = 10  # rows affected before or now: of fewer no change is called proven
FEWEST_CHANGED = 5  # mid-p of 4 changes in one direction is .0625
EVERYWHERE = ""  # the slice of all rows
MOST_SLICES = 2  # of a tag
LIFT, LEAST_SHARE, MOST_SHARE = 2.0, 0.3, 0.9  # of a tag in a slice; of the tag's rows that the slice holds
ALIKE = 0.5  # slices of one tag that share more of their affected rows (Jaccard) are one

PRESENT, NEW, PERSISTING = "present", "new", "persisting"
FIXED, REGRESSED, FLICKERING, IMPROVED = "fixed", "regressed", "flickering", "improved"

Key = tuple[str, str]
Mask = np.ndarray  # bool [R], or [T, R]


@dataclass(frozen=True, slots=True)
class Iteration:
    """The answers of one iteration. tags: of each row, the names of its tags.

    measured: for a tag that not every row is looked at for, the ids of those that were.
    """

    rows: Sequence[AnsweredRow]
    tags: Sequence[Collection[str]]
    measured: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Issue:
    """What became of one issue. slice: the words of its condition, "" for all rows.

    rows, before, now: the slice's rows that this and the last iteration answered, and those affected in each;
    in a first iteration all rows, and before is None. words: all of it as one line. p, adjusted: of the test
    that decides; None where the change could not be proven. ids: of the rows affected now. counts: rows
    affected in each iteration, of those that it answered.
    """

    tag: str
    slice: str
    rows: int
    now: int
    before: int | None
    state: str
    words: str
    p: float | None
    adjusted: float | None
    ids: tuple[str, ...]
    counts: tuple[int, ...]


def issues(
    history: Sequence[Iteration],
    slices: Mapping[str, Collection[str]] | None = None,
    of_form: Collection[str] = (),
    asked_again: Mapping[str, int] | None = None,
    titles: Mapping[str, str] | None = None,
) -> list[Issue]:
    """The issues of the last iteration of a history, the oldest first, with most rows affected now first.

    slices: conditions that issues may be formed over, each with the ids of its rows: evaluation.slices
    .conditions gives them. of_form: tags that count in right answers too. asked_again: the A/A flip rate,
    {rows, changed}. titles: the tags' names in words. The state of an issue follows it by its key over all
    iterations; issues without a row affected in any are left out; so are those of a
    tag that this and the last iteration were not looked at for on any row.
    """
    if not history:
        return []
    table = _Table(history)
    keys = [(tag, EVERYWHERE) for tag in table.tags] + _slices(table, slices or {}, of_form)
    ledgers = [_Ledger(key, *table.of(key, slices or {}, of_form)) for key in keys]
    ledgers = [one for one in ledgers if one.affected_TR.any() and table.comparable(one)]
    for at in range(1, len(history)):
        _compare(ledgers, at, table)
    noise = asked_again["changed"] / asked_again["rows"] if asked_again and asked_again["rows"] else 0.0
    found = [_issue(one, table, noise, titles or {}) for one in ledgers]
    return sorted(found, key=lambda one: (-one.now, -(one.before or 0), one.tag, one.slice))


def issue_slices(
    history: Sequence[Iteration], slices: Mapping[str, Collection[str]], of_form: Collection[str] = ()
) -> list[Key]:
    """(tag, slice) where a slice holds at least twice the tag's share elsewhere, at most two slices of a tag.

    By the rows that the tag affects in any iteration, so that exchanging two iterations chooses the same: an
    issue that was chosen by one of them would fall in the next by chance (regression to the mean). Left out
    are slices that hold nearly all rows of the tag, which is then the same issue, and slices like another.
    """
    return _slices(_Table(history), slices, of_form)


def _slices(table: _Table, slices: Mapping[str, Collection[str]], of_form: Collection[str]) -> list[Key]:
    chosen: list[Key] = []
    for tag in table.tags:
        own_R = table.of((tag, EVERYWHERE), slices, of_form)[0].any(axis=0)
        total, rows, found = int(own_R.sum()), own_R.size, []
        for name, ids in slices.items():
            mask = table.members(ids)
            inside, here = int(mask.sum()), int((own_R & mask).sum())
            if not SUPPORT <= inside <= rows - SUPPORT or here < MIN_AFFECTED:
                continue
            outside = max(total - here, 0.5) / (rows - inside)
            if here / inside >= LIFT * outside and LEAST_SHARE * total <= here <= MOST_SHARE * total:
                p = float(stats.hypergeom.sf(here - 1, rows, total, inside))
                found.append((p, name, own_R & mask))
        p_adjusted = stats.false_discovery_control([p for p, _, _ in found]) if found else []
        kept: list[Mask] = []
        for (_, name, here_R), adjusted in sorted(
            zip(found, p_adjusted, strict=True), key=lambda one: one[0][:2]
        ):
            alike = any((here_R & one).sum() > ALIKE * (here_R | one).sum() for one in kept)
            if adjusted < ALPHA and not alike and len(kept) < MOST_SLICES:
                kept.append(here_R)
                chosen.append((tag, name))
    return chosen


class _Table:
    """The rows of all iterations; a row with another content is another one."""

    def __init__(self, history: Sequence[Iteration]) -> None:
        self.history = history
        at: dict[tuple[str, str], int] = {}
        self.place_T = [
            [at.setdefault((row.id, content(row.example)), len(at)) for row in one.rows] for one in history
        ]
        self.ids = [id for id, _ in at]
        self.tags = sorted({tag for one in history for tags in one.tags for tag in tags})
        example_R: dict[int, Example] = {}
        for one, places in zip(history, self.place_T, strict=True):
            example_R |= {place: row.example for row, place in zip(one.rows, places, strict=True)}
        examples = [example_R[place] for place in range(len(at))]
        self.groups: list[str] | None = row_groups(examples) if examples else None
        shape = len(history), len(at)
        self.answered_TR, self.graded_TR, self.wrong_TR = (np.zeros(shape, bool) for _ in range(3))
        self.tagged: dict[str, Mask] = {tag: np.zeros(shape, bool) for tag in self.tags}
        self.measured = {tag: np.zeros(shape, bool) for one in history for tag in one.measured}
        for t, (one, places) in enumerate(zip(history, self.place_T, strict=True)):
            for tag, mask_TR in self.measured.items():
                looked_at = one.measured.get(tag, ())
                mask_TR[t, places] = [row.id in looked_at for row in one.rows]
            self.answered_TR[t, places] = True
            self.graded_TR[t, places] = [row.score is not None for row in one.rows]
            self.wrong_TR[t, places] = [row.wrong for row in one.rows]
            for place, tags in zip(places, one.tags, strict=True):
                for tag in tags:
                    self.tagged[tag][t, place] = True

    def comparable(self, one: _Ledger) -> bool:
        """Whether the last two iterations were looked at for a tag on a row that both answered."""
        last = len(self.history) - 1
        return one.key[0] not in self.measured or bool(one.both(max(0, last - 1), last)[0].any())

    def members(self, ids: Collection[str]) -> Mask:
        """The rows with these ids."""
        wanted = set(ids)
        return np.fromiter((id in wanted for id in self.ids), bool, len(self.ids))

    def of(
        self, key: Key, slices: Mapping[str, Collection[str]], of_form: Collection[str]
    ) -> tuple[Mask, Mask]:
        """[T, R]: the rows that the issue affects, and those of its slice that could show it."""
        tag, name = key
        formal = tag in of_form
        known = self.answered_TR if formal else self.graded_TR
        if tag in self.measured:
            known = known & self.measured[tag]
        if name != EVERYWHERE:
            known = known & self.members(slices[name])
        return self.tagged[tag] & known & (formal | self.wrong_TR), known


@dataclass(slots=True)
class _Ledger:
    """One issue followed over the iterations. since: the one to which a slow trend is compared.

    state: FIXED or REGRESSED where the last comparison proved it; event: what was proven last, and fixed_at
    the iteration that proved the last fall.
    """

    key: Key
    affected_TR: Mask
    known_TR: Mask
    since: int = 0
    start: int = 0
    state: str = ""
    event: str = ""
    fixed_at: int | None = None
    p: float | None = None
    adjusted: float | None = None
    tests: list[tuple[int, float]] = field(default_factory=list)

    def both(self, before: int, now: int) -> tuple[Mask, Mask, Mask]:
        """Of the rows that both answered: the rows, and those affected in each."""
        paired = self.known_TR[before] & self.known_TR[now]
        return paired, self.affected_TR[before] & paired, self.affected_TR[now] & paired


def _compare(ledgers: Sequence[_Ledger], at: int, table: _Table) -> None:
    """Set what iteration `at` proves of each issue, against the one before it.

    A slow trend shows in no single step, so the issue is also compared with the iteration of its last proven
    change, or its first; the smaller of the two p values then counts twice (Bonferroni).
    """
    tested = []
    for one in ledgers:
        one.state, one.p, one.adjusted = "", None, None
        one.tests = [
            (start, p)
            for start in sorted({at - 1, one.since})
            if (p := _p(one, start, at, table)) is not None
        ]
        if one.tests:
            one.start, p = min(one.tests, key=lambda test: (test[1], -test[0]))
            one.p = min(1.0, p * len(one.tests))
            tested.append(one)
    adjusted_K = stats.false_discovery_control([one.p for one in tested]) if tested else []
    for one, adjusted in zip(tested, adjusted_K, strict=True):
        one.adjusted = float(adjusted)
        if adjusted < ALPHA:
            _, was, now = one.both(one.start, at)
            one.state = one.event = FIXED if now.sum() < was.sum() else REGRESSED
            one.since = at
            one.fixed_at = at if one.state == FIXED else one.fixed_at


def _p(one: _Ledger, before: int, now: int, table: _Table) -> float | None:
    """The sign-flip mid-p over the units; None where it could not be below ALPHA."""
    paired, was, here = one.both(before, now)
    if (was | here).sum() < MIN_AFFECTED:
        return None
    places = np.flatnonzero(paired)
    clusters = [table.groups[place] for place in places.tolist()] if table.groups else None
    sum_U, _ = cluster_totals(here[places].astype(np.float64) - was[places], clusters)
    return sign_flip_midp(sum_U) if np.count_nonzero(sum_U) >= FEWEST_CHANGED else None


def _issue(one: _Ledger, table: _Table, noise: float, titles: Mapping[str, str]) -> Issue:
    last = len(table.history) - 1
    tag, name = one.key
    state = _state(one, last, noise) if last else PRESENT
    paired, was, here = one.both(max(0, last - 1), last)
    start = one.start if one.state else last - 1
    rows, first, now = one.both(start, last) if last else (paired, was, here)
    words = issue_words.line(
        title=titles.get(tag, tag) + (f", {name}" if name else ""),
        state=state,
        was=int(first.sum()) if last else None,
        now=int(now.sum()),
        rows=int(rows.sum()),
        affected=int((first | now).sum()),
        adjusted=one.adjusted if one.state else None,
        since=start if start < last - 1 else None,
        fixed_at=one.fixed_at if one.state == REGRESSED or one.event == FIXED else None,
        unpaired=int((one.affected_TR[last] & ~rows).sum()),
    )
    return Issue(
        tag,
        name,
        rows=int(paired.sum()),
        now=int(here.sum()),
        before=int(was.sum()) if last else None,
        state=state,
        words=words,
        p=one.p,
        adjusted=one.adjusted,
        ids=tuple(table.ids[at] for at in np.flatnonzero(here).tolist()),
        counts=tuple(int(affected.sum()) for affected in one.affected_TR),
    )


def _state(one: _Ledger, last: int, noise: float) -> str:
    """The state in the last of at least two iterations; noise: the share of answers that change by chance."""
    paired, was, here = one.both(last - 1, last)
    ever = bool(one.affected_TR[:last].any())
    if one.state:
        return one.state if ever else NEW
    if not ever:
        return NEW if here.any() else PRESENT
    gained, lost = int((here & ~was).sum()), int((was & ~here).sum())
    if not (was.any() or here.any()):
        return FIXED if one.event == FIXED else IMPROVED
    if gained + lost > (was & here).sum():  # most of its rows are other ones than before
        by_chance = gained + lost <= noise * paired.sum()
        if (gained and lost) or by_chance or _alternates(one, last):
            return FLICKERING
    return IMPROVED if lost > gained and (was | here).sum() < MIN_AFFECTED else PERSISTING


def _alternates(one: _Ledger, last: int) -> bool:
    """Whether the last two steps that were no standstill went in opposite directions."""
    steps = []
    for at in range(1, last + 1):
        _, was, here = one.both(at - 1, at)
        steps.append(int(here.sum()) - int(was.sum()))
    moving = [step for step in steps if step]
    return len(moving) > 1 and moving[-1] * moving[-2] < 0
