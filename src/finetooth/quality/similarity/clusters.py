"""Clusters of near-duplicates: kept on one side of a split, and one observation in an evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finetooth.data.split import connected_components, split_keys, tag_clusters
from finetooth.quality.findings import question
from finetooth.quality.similarity.near import CLOSE, SimilarPair, find_similar_pairs
from finetooth.types import Example

STRICTER = (CLOSE, 0.8, 0.95)  # minimum similarity of a cluster's links, tried in turn while it is too large
LARGEST = 0.1  # largest share of all keys in one cluster
ALWAYS = 10  # keys up to which a cluster is never too large


@dataclass(frozen=True, slots=True)
class SplitKeys:
    """The key that decides each example's side, and notes for the user on clusters not kept together.

    pairs: near-duplicate examples from near.find_similar_pairs; None if they were not searched for.
    """

    keys: list[str]
    notes: list[str]
    pairs: list[SimilarPair] | None = None


def merge_near_duplicate_keys(examples: Sequence[Example], keys: Sequence[str]) -> SplitKeys:
    """Split keys (from data.split.split_keys) with those of near-duplicates merged; the smallest key wins.

    An added row therefore only moves rows that it links to others. Rows are linked if they are close (see
    near.SimilarPair.close). A cluster with more than LARGEST of the keys is a template that many rows share,
    not one text in several versions: its links must be closer, and if that does not help, its rows are not
    kept together, with a note.
    """
    names = sorted(set(keys))
    at = {name: position for position, name in enumerate(names)}
    row = [at[key] for key in keys]
    pairs = find_similar_pairs([question(example) for example in examples])
    links = [(row[pair.one], row[pair.other], _share(pair)) for pair in pairs if pair.close]
    kept, apart = _bounded(len(names), [link for link in links if link[0] != link[1]])
    first = {member: group[0] for group in kept for member in group}
    rows = Counter(row)
    notes = [
        f"{sum(rows[one] for one in group):,} rows are so similar that keeping them together would put them "
        "all on "
        "one side of the split, so they were split row by row. If they belong together, name the column that "
        "says so with data.group."
        for group in apart
    ]
    return SplitKeys([names[first.get(position, position)] for position in row], notes, pairs)


def with_clusters(rows: Sequence[Example], key_of: Mapping[str, str]) -> list[Example]:
    """The rows of a side that is evaluated, with their near copies tagged: as evidence they are one row.

    key_of: split key by id; where a row has none, it comes from a file of its own or from the parent run, and
    near copies are searched for on this side.
    """
    keys = [key_of[row.id] for row in rows if row.id in key_of]
    if len(keys) < len(rows):
        keys = merge_near_duplicate_keys(rows, split_keys(rows)).keys
    return tag_clusters(rows, keys)


def _share(pair: SimilarPair) -> float:
    return 1.0 if pair.tier in ("copy", "words") else pair.containment


def _bounded(count: int, links: Sequence[tuple[int, int, float]]) -> tuple[list[list[int]], list[list[int]]]:
    """(clusters that are small enough, clusters too large even with the closest links)."""
    most = max(LARGEST * count, ALWAYS)
    kept: list[list[int]] = []
    large: list[list[int]] = []
    open = list(links)
    for least in STRICTER:
        groups = connected_components(count, ((one, other) for one, other, share in open if share >= least))
        kept += [group for group in groups if len(group) <= most]
        large = [group for group in groups if len(group) > most]
        still = {member for group in large for member in group}
        open = [link for link in open if link[0] in still]
    return kept, large
