"""Planted wrong labels are found, clean ones are left alone, and a weak judge says that it is one."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from gate import gate
from label_rows import flipped, row, topics, view, words
from public_data import DATA
from scipy import stats
from scripts_for_tests import load_script

from finetooth.quality.findings import Finding, View
from finetooth.quality.intervals import wilson
from finetooth.quality.label_audit import audit_labels, label_error_probability_R, text_skeleton
from finetooth.quality.rules.label_errors import label_errors

convert = load_script("benchmarks/tasks/convert.py")


def found(looked: View) -> dict[str, Finding]:
    return {finding.rule: finding for finding in label_errors(looked)}


def quality(finding: Finding, wrong: set[str]) -> tuple[float, float]:
    """Recall and precision."""
    listed = {hit.id for hit in finding.hits}
    return len(listed & wrong) / len(wrong), len(listed & wrong) / len(listed)


def test_planted_wrong_labels_are_found() -> None:
    """Requirement B3."""
    rows, wrong = flipped(topics(1_000), 0.05)
    said = found(view(rows))
    assert said["bag-of-words"].facts["accuracy"] >= 0.9
    recall, precision = quality(said["label-errors"], wrong)
    assert recall >= 0.8 and precision >= 0.75
    assert said["label-errors"].severity == "review"


def test_all_rows_tell_how_likely_a_label_is_to_be_wrong() -> None:
    """The mixture is fitted to probabilities that are too cautious, as out-of-fold ones are."""
    rng = np.random.default_rng(0)
    logit_RL = rng.normal(0, 3, (4_000, 3))
    right_RL = np.exp(logit_RL) / np.exp(logit_RL).sum(axis=1, keepdims=True)
    true_R = np.array([rng.choice(3, p=p) for p in right_RL])
    wrong = rng.random(4_000) < 0.05
    given_R = np.where(wrong, (true_R + rng.integers(1, 3, 4_000)) % 3, true_R)
    cautious_RL = np.sqrt(right_RL) / np.sqrt(right_RL).sum(axis=1, keepdims=True)
    told_R = label_error_probability_R(cautious_RL.astype(np.float32), given_R)
    assert told_R.sum() == pytest.approx(wrong.sum(), rel=0.2)
    for low, high in ((0.0, 0.1), (0.1, 0.5), (0.5, 1.0)):
        at = (told_R >= low) & (told_R < high)
        assert told_R[at].mean() == pytest.approx(wrong[at].mean(), abs=0.1)


def test_wrong_labels_of_one_kind_are_found() -> None:
    """Every sixth label of one kind is another's: noise that depends on the label is harder to find."""
    rows, wrong = flipped(topics(1_000, seed=2, own=0.5), 0.17, 2, to={"returns": "billing"})
    recall, precision = quality(found(view(rows))["label-errors"], wrong)
    assert recall >= 0.6 and precision >= 0.65


def test_rare_labels_wrongly_given_the_common_one_are_found() -> None:
    rows = topics(1_000, ("ham", "spam"), 3, shares=(0.85, 0.15))
    rows, wrong = flipped(rows, 0.05, 3)
    recall, precision = quality(found(view(rows))["label-errors"], wrong)
    assert recall >= 0.9 and precision >= 0.9, "56 by the count, 43 by the count and the odds; 44 are wrong"


def test_clean_labels_are_left_alone() -> None:
    said = found(view(topics(1_000, own=0.5)))
    assert set(said) == {"bag-of-words"}
    assert said["bag-of-words"].severity == "info"


def test_a_weak_judge_says_so_and_lists_nothing() -> None:
    rows, _ = flipped(topics(300, own=0.06), 0.05)
    said = found(view(rows))
    assert set(said) == {"labels-not-judged"}, "it is not said to get much right as well"
    assert said["labels-not-judged"].facts["accuracy"] < 0.7
    assert "labels could not be checked" in said["labels-not-judged"].summary


def test_the_most_frequent_label_is_no_skill() -> None:
    """95% right by always saying the same: it knows nothing of the rest."""
    rows = topics(400, ("ham", "spam"), 4, own=0.0, shares=(0.95, 0.05))
    said = found(view(rows))
    assert "label-errors" not in said and said["labels-not-judged"].facts["accuracy"] > 0.9


def test_too_few_rows_are_not_judged() -> None:
    said = found(view(topics(60)))
    assert set(said) == {"labels-not-judged"} and "too few" in said["labels-not-judged"].summary


def test_texts_without_a_word_in_common_are_not_judged() -> None:
    rows = [row("".join(chr(0x4E00 + 9 * at + k) for k in range(3)), "ab"[at % 2], at) for at in range(120)]
    assert "label-errors" not in found(view(rows))


def test_other_formats_have_no_labels_to_judge() -> None:
    assert not found(view(topics(200), format="qa"))


def test_the_evidence_names_the_labels_and_the_words() -> None:
    rng = random.Random(0)
    common = words(rng, 60)
    rows = [
        row(
            " ".join([*rng.choices(common, k=6), "refund" if at % 2 else "parcel"]),
            ("delivery", "billing")[at % 2],
            at,
        )
        for at in range(400)
    ]
    rows[7] = row(" ".join([*rng.choices(common, k=6), "refund"]), "delivery", 7)
    seen = audit_labels(view(rows))
    assert not isinstance(seen, str)
    assert "labelled 'delivery'" in seen.explain(7) and "predicted 'billing'" in seen.explain(7)
    assert "'refund'" in seen.explain(7)


def test_the_same_data_give_the_same_findings() -> None:
    rows, _ = flipped(topics(300), 0.05)
    first = [finding.to_json() for finding in label_errors(view(rows))]
    found(view(topics(120)))  # another set between the two
    assert first == [finding.to_json() for finding in label_errors(view(rows))]


def test_near_copies_are_judged_together() -> None:
    """A copy of the row in another fold would repeat its wrong label and so defend it."""
    assert text_skeleton("Win £1000 now!!") == text_skeleton("win £250  now")
    rows = topics(300, own=0.6)
    first = next(at for at, example in enumerate(rows) if example.target == "returns")
    text = rows[first].context[0].content
    rows += [row(f"{text} {k}", "billing", 300 + k) for k in range(6)]
    seen = audit_labels(view(rows))
    assert not isinstance(seen, str)
    assert {seen.labels[at] for at in seen.predicted_R[300:]} == {"returns"}


def test_large_sets_are_sampled_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetooth.quality.label_audit.READ", {True: 50_000, False: 50_000})
    said = found(view(topics(1_000, seed=9)))
    facts = said["bag-of-words"].facts
    assert 600 < facts["rows"] < 900 and facts["of"] == 1_000
    assert "a sample of 1,000" in said["bag-of-words"].summary
    monkeypatch.setattr("finetooth.quality.label_audit.WORK", 1e7)
    assert found(view(topics(1_000, seed=10)))["bag-of-words"].facts["rows"] < facts["rows"] / 2


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (3, 10), (91, 100), (912, 1_000)])
def test_the_interval_is_that_of_the_evaluation(k: int, n: int) -> None:
    reference = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k, n) == pytest.approx((reference.low, reference.high), abs=1e-6)


@pytest.mark.data
@pytest.mark.parametrize("sample", gate([(0, 0), (0, 1), (0, 6), (1, 1), (1, 6)], [(0, 1), (1, 6)]))
def test_planted_on_half_of_a_published_set(sample: tuple[int, int], data_dir: Path) -> None:
    """B3 where few rows are sure: their count alone had a recall of .70 to .80 in three of these."""
    half, seed = sample
    pairs = list(dict.fromkeys(convert.read_sms_spam(data_dir / "sms_spam")[0]["train"]))[half::2]
    rows, wrong = flipped([row(text, label, at) for at, (text, label) in enumerate(pairs)], 0.05, seed)
    recall, precision = quality(found(view(rows))["label-errors"], wrong)
    assert recall >= 0.85 and precision >= 0.8


@pytest.mark.data
@pytest.mark.parametrize("name", gate(["sms_spam", "snips"], ["sms_spam"]))
def test_planted_on_published_sets(name: str) -> None:
    """Requirement B3 on real texts, beside the few labels that are wrong as published."""
    if not (DATA / name).is_dir():
        pytest.skip(f"{name} is not under FINETOOTH_DATA")
    read = {"sms_spam": convert.read_sms_spam, "snips": convert.read_snips}[name]
    pairs = list(dict.fromkeys(read(DATA / name)[0]["train"]))
    pairs = pairs[:: 1 + len(pairs) // 6_000]
    published = [row(text, label, at) for at, (text, label) in enumerate(pairs)]
    rows, wrong = flipped(published, 0.05)
    said = found(view(rows))
    assert said["bag-of-words"].facts["accuracy"] >= 0.9
    recall, precision = quality(said["label-errors"], wrong)
    assert recall >= 0.8 and precision >= 0.75
    untouched = found(view(published)).get("label-errors")
    assert untouched is None or len(untouched.hits) <= 0.005 * len(published)
