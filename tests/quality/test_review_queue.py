"""The queue: wrong labels first, then what is hard to tell, without near copies, all kinds of labels."""

from __future__ import annotations

from collections import Counter

from label_rows import flipped, row, topics, view

from finetooth.quality.review_queue import label_queue


def test_wrong_labels_come_first_and_in_turns() -> None:
    rows, wrong = flipped(topics(600, own=0.5), 0.05)
    hits = label_queue(view(rows), 80)
    assert len(hits) == len({hit.id for hit in hits}) == 80
    first = [hit for hit in hits if hit.evidence.startswith("probably wrong")]
    assert hits[: len(first)] == first and all(
        hit.evidence.startswith("uncertain") for hit in hits[len(first) :]
    )
    assert len({hit.id for hit in first} & wrong) >= 0.75 * len(first) > 10
    labels = Counter({example.id: example.target for example in rows}[hit.id] for hit in hits[:12])
    assert len(labels) >= 3 and max(labels.values()) <= 6


def test_near_copies_come_once() -> None:
    rows, _ = flipped(topics(300, own=0.5), 0.05)
    rows += [row("Ticket 17: no idea", "billing", 300 + at) for at in range(10)]
    queue = label_queue(view(rows), 310)
    assert sum(int(hit.id[1:]) >= 300 for hit in queue) == 1 and len(queue) == 301


def test_the_queue_is_as_long_as_asked_and_the_same_each_time() -> None:
    rows, _ = flipped(topics(200), 0.05)
    assert label_queue(view(rows), 7) == label_queue(view(rows), 30)[:7]
    assert label_queue(view(rows), 0) == []


def test_without_labels_there_is_no_queue() -> None:
    assert label_queue(view(topics(200), format="qa"), 10) == []
    assert label_queue(view(topics(20)), 10) == []
