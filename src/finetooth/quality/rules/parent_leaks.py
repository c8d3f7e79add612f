"""`leak` over two runs: rows of the run that training goes on from against the rows of this one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from finetooth.data.examples import normalised_context, source_location
from finetooth.data.split import ParentRun
from finetooth.quality.findings import Finding, Hit, View
from finetooth.quality.rules.leaks import NOT_CHECKED, TIERS, classify_leaks
from finetooth.types import Example

SEEN = ("train", "validation")  # trained on, and chosen by


def parent_run_leaks(view: View, parent_run: ParentRun) -> Iterator[Finding]:
    """`leak`, block: test rows that the parent_run run has trained on, and rows to train on that it has
    sealed.

    Rows are compared as those of two files that the user brought. Of the parent_run run's test nothing is
    shown.
    """
    side_of = {id(row): side for side, row in view.rows()}
    here = {(side in SEEN, normalised_context(row)) for side, row in view.rows()}
    theirs: dict[bool, list[Example]] = {True: [], False: []}
    for side in view.sides:  # what is here on the same side was compared with all others by the rule itself
        new = [row for row in parent_run.rows(side) if (side in SEEN, normalised_context(row)) not in here]
        theirs[side in SEEN] += [replace(row, id=f"{parent_run.name}: {row.id}") for row in new]
    if not any(theirs.values()):
        return
    own = {seen: [row for side, row in view.rows() if (side in SEEN) == seen] for seen in (True, False)}
    both = {"train": [*theirs[True], *own[True]], "test": [*theirs[False], *own[False]]}
    found, _ = classify_leaks(View(both, view.format, view.config, view.seed, frozenset(both)))
    hits = []
    for leak in found:
        (_, one), (_, other) = leak.one, leak.other
        said = TIERS[leak.tier].format(leak.share)
        if id(one) not in side_of and id(other) in side_of:
            hits.append(
                Hit.of(other, "test", f"{said} {source_location(one)}, a row it was trained on", one.id)
            )
        elif id(one) in side_of and id(other) not in side_of:
            hits.append(Hit.of(one, side_of[id(one)], f"{said} a sealed row of {parent_run.name}"))
    if hits:
        rows = Counter(hit.side for hit in hits)
        where = " and ".join(
            f"{count} of {len(view.sides[side])} {side} rows" for side, count in rows.items()
        )
        yield Finding(
            "leak",
            "block",
            f"{where} repeat a row (or a group) that {parent_run.name} has on the other side of its test, "
            "so a "
            f"result would measure memory, not skill. {NOT_CHECKED}",
            tuple(hits),
            "Take these rows out, or go on with the file that the first run was given: its rows stay "
            "where they are.",
            facts={"rows": len(hits), "by_side": dict(rows)},
        )
