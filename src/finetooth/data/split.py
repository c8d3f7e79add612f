"""Train, validation and test: assigned by hash, inherited from a parent run, and checked for exact leaks."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from finetooth.data.examples import normalised_context
from finetooth.types import Example

SIDES = ("train", "validation", "test")
CLUSTER = "near-copies"  # tag of rows that are nearly copies of each other: the id of the first
ADDED = "added-by"  # tag of a training row whose wording a change set has brought: its name

Sides = dict[str, list[Example]]


@dataclass(frozen=True, slots=True)
class ParentRun:
    """The run whose split is kept. format, labels: of its test rows.

    sides: its train, validation and test rows. before: the rows of its own ancestors by side, {} without any.
    continued: training continues from its weights; otherwise only its split is kept (data.split_from).
    """

    name: str
    format: str
    labels: tuple[str, ...]
    sides: Mapping[str, Sequence[Example]]
    before: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    continued: bool = True

    def rows(self, side: str) -> list[Example]:
        """All rows that this run or an ancestor had on a side."""
        return [*self.before.get(side, ()), *self.sides[side]]


@dataclass(frozen=True, slots=True)
class InheritedSplit:
    """The split of a run with a parent. sealed: whether the test set is the parent's own, unchanged."""

    sides: Sides
    notes: list[str]
    sealed: bool = False


def uniform(seed: int, key: str) -> float:
    """A number in [0, 1) determined by the seed and the key."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return float(int.from_bytes(digest[:8], "big") / 2**64)


def split_keys(examples: Sequence[Example], tags: Sequence[str] = ("group",)) -> list[str]:
    """The key that decides each example's side: its normalised context.

    Examples linked by a common group or context share one key, so that neither copies nor groups are ever
    divided between sides. tags: those whose equal values link examples.
    """
    contexts = [normalised_context(example) for example in examples]
    linked = [
        (f"{tag}\0{example.tags[tag]}", f"same\0{context}")
        for example, context in zip(examples, contexts, strict=True)
        for tag in tags
        if tag in example.tags
    ]
    if not linked:
        return contexts
    # The smallest key wins, and "group" sorts before "same": the key of an unlinked group is its name.
    names = sorted({name for pair in linked for name in pair} | {f"same\0{context}" for context in contexts})
    at = {name: position for position, name in enumerate(names)}
    key = dict(zip(names, names, strict=True))
    for component in connected_components(len(names), [(at[one], at[other]) for one, other in linked]):
        key.update((names[member], names[component[0]]) for member in component)
    return [key[f"same\0{context}"] for context in contexts]


def tag_clusters(examples: Sequence[Example], keys: Sequence[str]) -> list[Example]:
    """The examples of one side; those that only these keys link get the tag `CLUSTER`, the first one's id.

    It is stored with the rows, so what protects the sealed rows also protects their clusters. It depends on
    the rows of this side alone. Rows of one group or prompt are known as a cluster without it.
    """
    first: dict[str, str] = {}
    own: dict[str, set[str]] = {}
    for example, key, alone in zip(examples, keys, split_keys(examples), strict=True):
        first.setdefault(key, example.id)
        own.setdefault(key, set()).add(alone)
    return [
        replace(example, tags={**example.tags, CLUSTER: first[key]}) if len(own[key]) > 1 else example
        for example, key in zip(examples, keys, strict=True)
    ]


def connected_components(count: int, links: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Connected components with two or more of `count` nodes: the largest first, then by position."""
    parent = list(range(count))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    members: dict[int, list[int]] = {}
    for at in range(count):
        members.setdefault(root(at), []).append(at)
    return sorted((group for group in members.values() if len(group) > 1), key=lambda group: -len(group))


def split(
    examples: Sequence[Example], keys: Sequence[str], seed: int, test: float, validation: float
) -> Sides:
    """The examples by side, in their order: test where uniform < test, then validation, the rest train.

    keys: one per example; examples with the same key stay together. Adding rows moves none of the others.
    """
    sides: Sides = {side: [] for side in SIDES}
    for example, key in zip(examples, keys, strict=True):
        at = uniform(seed, key)
        side = "test" if at < test else "validation" if at < test + validation else "train"
        sides[side].append(example)
    return sides


def inherit_split(
    examples: Sequence[Example],
    sides: Sides,
    parent_run: ParentRun,
    shares: Mapping[str, float],
    keys: Sequence[str] = (),
) -> InheritedSplit:
    """Keep every row that the parent run has too on its side there, so that no test row was trained on.

    examples: all rows of the split, in order. Rows with the same normalised context count as the same, and
    where only the split is kept, those with the same id: they were edited. A row that shares a split key
    with a row of the parent follows it. keys: of the examples, then of `rows_not_in(parent_run, examples)`;
    () links none. If the parent has trained on all rows (preference pairs made from a run), its test set
    becomes the test set, and validation is drawn from the rows. shares: requested shares of validation and
    test, 0 for a side that is off or has files of its own.
    """
    by_side = [(side, parent_run.rows(side)) for side in reversed(SIDES)]  # a training row wins
    home = {normalised_context(row): side for side, rows in by_side for row in rows}
    by_id = {} if parent_run.continued else {row.id: side for side, rows in by_side for row in rows}
    drawn = {row.id: side for side, rows in sides.items() for row in rows}
    parent_side = {row.id: home.get(normalised_context(row)) for row in examples}
    known = sum(side is not None for side in parent_side.values())
    own = [parent_side[row.id] or by_id.get(row.id) for row in examples]
    own += [home[normalised_context(row)] for row in rows_not_in(parent_run, examples)] if keys else []
    followed: dict[str, str] = {}
    for key, there in zip(keys, own, strict=bool(keys)):
        if there is not None and SIDES.index(there) <= SIDES.index(followed.get(key, there)):
            followed[key] = there
    linked = 0
    for row, there, key in zip(examples, own, keys or [""] * len(examples), strict=False):
        if parent_side[row.id] is None and (there := there or followed.get(key)) is not None:
            parent_side[row.id] = there
            linked += 1
    if not known + linked:
        return InheritedSplit(sides, [])
    result: Sides = {side: [] for side in SIDES}
    for row in examples:
        result[parent_side[row.id] or drawn[row.id]].append(row)
    notes = [f"{known} of {len(examples)} rows are also in {parent_run.name} and stay on their side there."]
    if linked:
        notes.append(f"{linked} edited or nearly copied rows stay on the side of the row they are like.")
    if not result["validation"] and shares["validation"]:
        result["validation"] = [row for row in result["train"] if drawn[row.id] == "validation"]
        result["train"] = [row for row in result["train"] if drawn[row.id] != "validation"]
        notes.append(
            f"the {len(result['validation'])} validation rows have contexts that {parent_run.name} was "
            "trained on."
        )
    lent = parent_run.continued and not result["test"]
    sealed = lent and bool(shares["test"]) and bool(parent_run.sides["test"])
    if sealed:
        result["test"] = list(parent_run.sides["test"])
        notes.append(f"the test set is that of {parent_run.name}: {len(result['test'])} rows.")
    return InheritedSplit(result, notes, sealed)


def rows_not_in(parent_run: ParentRun, examples: Sequence[Example]) -> list[Example]:
    """The rows of the parent run and its ancestors whose normalised context no example has.

    Rows that a change set has added decide nothing about the side of others, and are left out.
    """
    here = {normalised_context(row) for row in examples}
    return [
        row
        for side in SIDES
        for row in parent_run.rows(side)
        if normalised_context(row) not in here and ADDED not in row.tags
    ]


def exact_leaks(
    sides: Mapping[str, Sequence[Example]], groups: bool
) -> list[tuple[str, Example, str, Example]]:
    """(side, example, later side, copy): every row of a later side whose normalised context an earlier side
    has too, once per pair of sides, with the first such example.

    groups: examples of one group on two sides are leaks as well.
    """
    keys: dict[str, list[list[str]]] = {}
    first: dict[str, dict[str, Example]] = {}
    for side, examples in sides.items():
        keys[side], first[side] = [], {}
        for example in examples:
            keys[side].append(leak_keys(example, groups))
            for key in keys[side][-1]:
                first[side].setdefault(key, example)
    return [
        (one, first[one][shared], other, example)
        for one, other in combinations(sides, 2)
        for example, own in zip(sides[other], keys[other], strict=True)
        if (shared := next((key for key in own if key in first[one]), None)) is not None
    ]


def leak_keys(example: Example, groups: bool) -> list[str]:
    """What makes an example a leak if a row of another side has it too: its context, and its group."""
    group = [f"group\0{example.tags['group']}"] if groups and "group" in example.tags else []
    return [normalised_context(example), *group]


def label_notes(sides: Mapping[str, Sequence[Example]]) -> list[str]:
    """Warnings where a label's share on another side differs from train by more than chance explains.

    The threshold is 4 standard errors of the difference and at least 5 percentage points. Labels that train
    does not have are reported by the rule `unseen-label`.
    """
    counts = {
        side: Counter(example.tags["label"] for example in examples if "label" in example.tags)
        for side, examples in sides.items()
    }
    train = counts["train"]
    notes = []
    for side in [side for side in sides if side != "train" and counts[side]]:
        size, total = train.total(), counts[side].total()
        for label, count in sorted(train.items()):
            share, other = count / size, counts[side][label] / total
            pooled = (count + counts[side][label]) / (size + total)
            error = math.sqrt(pooled * (1 - pooled) * (1 / size + 1 / total))
            if abs(share - other) > max(0.05, 4 * error):
                notes.append(f"{label!r} is {share:.0%} of train but {other:.0%} of {side}.")
    return notes
