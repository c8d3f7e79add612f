"""In which order a person goes through wrong rows: so that every tag's precision is known soon."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from finetooth.analysis.annotations import Annotations


def review_order(rows: Sequence[Mapping[str, Any]], annotations: Annotations) -> list[Mapping[str, Any]]:
    """The wrong rows, those that tell most first: again and again the next row of the tag that has been
    judged least, counting what stands before it.

    A tag's rows come in a random order (by a hash of the id), so that those judged first are a fair sample
    of them. Then wrong rows without a tag; rows that are reviewed come last.
    """
    wrong = sorted((row for row in rows if row["wrong"]), key=lambda row: _drawn(row["id"]))
    open_rows = [row for row in wrong if not reviewed(row, annotations)]
    queues: dict[str, list[Mapping[str, Any]]] = {}
    for row in reversed(open_rows):
        for tag in _unjudged(row, annotations):
            queues.setdefault(tag, []).append(row)
    counts = dict.fromkeys(queues, 0)
    for _, tag in annotations.verdicts:
        if tag in counts:
            counts[tag] += 1
    order: dict[str, Mapping[str, Any]] = {}
    while counts:
        tag = min(counts, key=counts.__getitem__)
        while queues[tag] and queues[tag][-1]["id"] in order:
            queues[tag].pop()
        if not queues[tag]:
            del counts[tag]
            continue
        row = queues[tag].pop()
        order[row["id"]] = row
        for other in _unjudged(row, annotations):
            if other in counts:
                counts[other] += 1
    for row in (*open_rows, *wrong):
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


def _drawn(id: str) -> bytes:
    return hashlib.sha256(id.encode("utf-8", "surrogatepass")).digest()
