"""In which order a person goes through wrong rows: so that every tag's precision is known soon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetooth.analysis.annotations import Annotations, drawn, judged_front, random_orders


def review_order(rows: Sequence[Mapping[str, Any]], annotations: Annotations) -> list[Mapping[str, Any]]:
    """The wrong rows, those that tell most first: again and again the next row of the tag whose precision is
    known from the fewest rows, counting what stands before it.

    The next row of a tag is the first of its random order that is not judged, whatever its other tags are.
    Then wrong rows without a tag; rows that are reviewed come last.
    """
    wrong = {row["id"]: row for row in rows if row["wrong"]}
    orders = random_orders(wrong.values())
    known = {tag: sum(1 for _ in judged_front(tag, ids, annotations)) for tag, ids in orders.items()}
    order: dict[str, Mapping[str, Any]] = {}
    while known:
        tag = min(known, key=known.__getitem__)
        if known[tag] == len(orders[tag]):
            del known[tag]
            continue
        id = orders[tag][known[tag]]
        order[id] = wrong[id]
        for other in dict.fromkeys(one["tag"] for one in wrong[id]["tags"]):
            while other in known and known[other] < len(orders[other]):
                next_id = orders[other][known[other]]
                if next_id not in order and (next_id, other) not in annotations.verdicts:
                    break
                known[other] += 1
    rest = sorted(wrong.values(), key=lambda row: drawn("", row["id"]))
    for row in sorted(rest, key=lambda row: reviewed(row, annotations)):
        order.setdefault(row["id"], row)
    return list(order.values())


def reviewed(row: Mapping[str, Any], annotations: Annotations) -> bool:
    """Whether a person has judged all tags of a row, or, of one without tags, has said something about it."""
    if row["tags"]:
        return not _unjudged(row, annotations)
    return row["id"] in annotations.answers or row["id"] in annotations.notes


def _unjudged(row: Mapping[str, Any], annotations: Annotations) -> list[str]:
    tags = dict.fromkeys(one["tag"] for one in row["tags"])
    return [tag for tag in tags if (row["id"], tag) not in annotations.verdicts]
