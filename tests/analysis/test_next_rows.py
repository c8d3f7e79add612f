"""Which pool rows are drawn, on planted gaps; what is missing; and which training labels are doubted."""

from __future__ import annotations

import numpy as np
from label_rows import LABELS, flipped, row, topics, view

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.next_rows import (
    Space,
    default_rows,
    failure_share,
    missing,
    random_rows,
    spread,
)
from finetooth.analysis.suspects import (
    LabelDoubt,
    contradictions,
    label_doubt,
    label_suspects,
    loss_suspects,
)
from finetooth.quality.label_audit import audit_labels
from finetooth.types import Answer, Example, Message

DIMENSIONS, GROUPS, NOISE = 32, 10, 1.5


def _draw(seed: int, count: int = 30) -> tuple[float, float, int]:
    """A pool with 10 groups, of which the model gets one wrong: its share in the draw, that in a random one,
    and the number of different clusters (of 5 within each group) that the draw has of it.
    """
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((GROUPS, DIMENSIONS))
    within = rng.standard_normal((GROUPS, 5, DIMENSIONS))

    def rows(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        group, part = rng.integers(GROUPS, size=n), rng.integers(5, size=n)
        noise = NOISE * rng.standard_normal((n, DIMENSIONS))
        return (centres[group] + 2 * within[group, part] + noise).astype(np.float32), group, part

    pool, group, part = rows(1000)
    validation, theirs, _ = rows(120)
    wrong = rng.random(120) < np.where(theirs == 0, 0.7, 0.05)
    space = Space.of([""] * 1120, np.concatenate([pool, validation]))
    places = np.arange(1000), 1000 + np.flatnonzero(wrong), 1000 + np.flatnonzero(~wrong)
    share, near = failure_share(space, *places)
    assert (theirs[wrong][near[group == 0]] == 0).mean() > 0.8
    drawn = spread(space, places[0], share, count)
    assert len({*drawn}) == count
    at_random = random_rows([str(at) for at in range(1000)], count, seed)
    hits = group[drawn] == 0
    return hits.mean(), (group[at_random] == 0).mean(), len({*part[drawn][hits]})


def test_a_draw_has_several_times_as_much_of_what_fails_as_a_random_one() -> None:
    found = [_draw(seed) for seed in range(20)]
    assert sum(ours >= 3 * max(theirs, 0.1) for ours, theirs, _ in found) >= 18
    assert np.mean([parts for *_, parts in found]) > 4  # and all kinds of it


def test_a_draw_has_no_two_rows_alike() -> None:
    rng = np.random.default_rng(0)
    once = rng.standard_normal((40, DIMENSIONS)).astype(np.float32)
    texts = [f"text of row {at // 5}" for at in range(200)]
    space, every, same = Space.of(texts, np.repeat(once, 5, axis=0)), np.arange(200), np.ones(200, np.float32)
    drawn = spread(space, every, same, 40)
    assert {at // 5 for at in drawn} == {*range(40)}
    assert len(spread(space, every, same, 500)) == 200


def test_words_tell_what_hidden_states_do_not() -> None:
    """With states that say nothing, a pool row with the words of a failure is the likeliest to fail."""
    texts = ["my gift card", "the parcel is late", "a gift for ann", "the parcel is here", "late again"]
    space = Space.of(texts, np.zeros((5, 4), np.float32))
    share, near = failure_share(space, np.arange(2), np.array([2]), np.array([3, 4]))
    assert share[0] > 0.6 > 0.2 > share[1] and near.tolist() == [0, 0]
    assert not Space.of(["", "?"], np.zeros((2, 4), np.float32)).cosine(np.arange(2), np.arange(2)).any()


def test_a_random_draw_is_uniform_and_does_not_depend_on_the_order() -> None:
    ids = [f"row {at}" for at in range(50)]
    counts = np.zeros(50)
    for seed in range(400):
        counts[random_rows(ids, 10, seed)] += 1
    assert abs(counts - 80).max() < 40  # 5 standard deviations
    first = [ids[at] for at in random_rows(ids, 10, 3)]
    assert first == [ids[::-1][at] for at in random_rows(ids[::-1], 10, 3)]
    assert first[:4] == [ids[at] for at in random_rows(ids, 4, 3)] and first != sorted(first, key=ids.index)
    assert len(random_rows(ids, 99, 0)) == 50


def test_the_size_of_a_draw() -> None:
    assert [default_rows(n) for n in (30, 500, 90_000)] == [20, 50, 200]


def _answered(text: str, label: str, given: str, at: int, **tags: str) -> AnsweredRow:
    return AnsweredRow(row(text, label, at, **tags), given, float(label == given))


def test_what_is_missing_is_named_with_a_training_row_and_never_with_a_validation_row() -> None:
    train = [row(f"a parcel {at}", "delivery", at, lang="en") for at in range(50)]
    train += [row(f"ein Paket {at}", "delivery", 50 + at, lang="de") for at in range(3)]
    train += [row(f"my card {at}", "card", 60 + at, lang="en") for at in range(40)]
    train += [row("write to ann.miller@gmail.com about a gift", "gift", 99, lang="en")]
    rows = [
        _answered(f"hidden gift {at}", "gift", "card" if at < 6 else "gift", at, lang="en")
        for at in range(10)
    ]
    rows += [
        _answered(f"verstecktes {at}", "delivery", "card" if at < 3 else "delivery", at, lang="de")
        for at in range(5)
    ]
    rows += [_answered(f"fine {at}", "delivery", "delivery", at, lang="en") for at in range(30)]
    rows += [_answered("unheard of", "new", "card", at, lang="en") for at in range(2)]
    found = missing(rows, train, labelled=True)
    assert [(one.column, one.value, one.train, one.wrong, one.validation) for one in found] == [
        ("label", "gift", 1, 6, 10),
        ("lang", "de", 3, 3, 5),
        ("label", "new", 0, 2, 2),
    ]
    assert found[0].why.startswith(
        "write a row whose answer is 'gift': 1 training row, and 6 of 10 validation"
    )
    assert "about a gift" in found[0].why and "ann.miller@gmail.com" not in found[0].why
    assert not any(word in one.why for one in found for word in ("hidden", "verstecktes", "unheard of"))
    assert [one.column for one in missing(rows, train, labelled=False)] == ["lang"]


def _doubt(share: float, seed: int, own: float) -> tuple[LabelDoubt, list, set[str]]:
    """Doubt in the labels of 400 rows, a share of them flipped; hidden states are noisy counts of words."""
    clean = topics(400, LABELS, seed, own)
    train, wrong = flipped(clean, share, seed)
    rng = np.random.default_rng(seed)
    vector: dict[str, np.ndarray] = {}
    hidden = np.zeros((400, 48), np.float32)
    for at, example in enumerate(clean):
        for word in example.context[0].content.split():
            hidden[at] += vector.setdefault(word, rng.standard_normal(48))
    found = label_doubt(train, hidden, audit_labels(view(train)), 0)
    assert isinstance(found, LabelDoubt)
    return found, train, wrong


def test_flipped_labels_are_found_and_the_right_one_is_suggested() -> None:
    listed = right = all_wrong = suggested = fitting = 0
    for seed in range(4):
        doubt, train, wrong = _doubt(0.12, seed, own=0.6)
        truth = {example.id: example.target for example in topics(400, LABELS, seed, 0.6)}
        assert doubt.is_reliable
        found = label_suspects(train, doubt, {}, 60)
        listed, right = listed + len(found), right + sum(one.example.id in wrong for one in found)
        all_wrong += len(wrong)
        sure = [one for one in found if one.suggestion]
        suggested += len(sure)
        fitting += sum(truth[one.example.id] == one.suggestion for one in sure)
        assert all("probably wrong" in one.words for one in found)
    assert right / listed > 0.8 and right / all_wrong > 0.8
    assert fitting / suggested > 0.95 and suggested > 0.25 * all_wrong


def test_where_labels_cannot_be_told_nothing_is_suggested() -> None:
    doubt, train, _ = _doubt(0.2, 1, own=0.12)
    assert not doubt.is_reliable
    found = label_suspects(train, doubt, {}, 20)
    assert not any(one.suggestion or "probably" in one.words for one in found)
    assert "cannot be told" in str(label_doubt(train[:50], np.zeros((50, 4), np.float32), "none", 0))


def test_a_tuned_model_that_still_disagrees_is_evidence() -> None:
    doubt, train, _ = _doubt(0.12, 0, own=0.6)
    first = label_suspects(train, doubt, {}, 1)[0]
    at = next(at for at, one in enumerate(train) if one.id == first.example.id)
    other = next(label for label in LABELS if label != first.example.target)
    assert f"still says '{other}'" in label_suspects(train, doubt, {at: other}, 1)[0].words
    assert "still" not in label_suspects(train, doubt, {at: first.example.target}, 1)[0].words


def test_answers_that_stand_out_by_their_loss() -> None:
    train = [row(f"q{at}", f"a{at}", at) for at in range(100)]
    loss: list[float | None] = [0.2 + 0.001 * at for at in range(100)]
    loss[7], loss[50], loss[3] = 3.5, 2.5, None
    found = loss_suspects(train, loss, 10)
    assert [one.example.id for one in found] == ["r7", "r50"] and "3.50 nats" in found[0].words
    assert not any(one.suggestion for one in found)
    assert loss_suspects(train[:10], loss[:10], 10) == []


def test_a_training_row_with_the_text_of_a_failure_and_another_answer() -> None:
    train = [row("where is my parcel", "card", 1), row("where is my parcel now", "delivery", 2)]
    failed = [_answered("Where is my parcel?", "delivery", "card", 9)]
    (found,) = contradictions(train, failed, [(0, 0), (1, 0)], labelled=True)
    assert found.example.id == "r1" and found.kind == "neighbour"
    assert "which is what the tuned model answers" in found.words and "Where is" not in found.words


def test_the_order_of_labels_is_no_other_label() -> None:
    def row(k: int, label: str) -> Example:
        return Example(f"{label}{k}", (Message("user", f"{k}?"),), (Answer(label),), {"label": label})

    train = [row(k, "blue, red") for k in range(30)] + [row(k, "green") for k in range(30)]
    wrong = [AnsweredRow(row(100 + k, "red, blue"), "green", 0.0) for k in range(12)]
    assert not missing(wrong, train, labelled=True, several=True)
    assert [one.value for one in missing(wrong, train[:1] + train[30:], True, True)] == ["blue, red"]
