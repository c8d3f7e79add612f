"""The bag of words that is kept answers as the one that was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from finetooth.errors import DataError
from finetooth.evaluation.bag_of_words import FEATURES, BagOfWordsModel
from finetooth.evaluation.baselines import BagOfWords
from finetooth.types import Answer, Example, Message

TEXTS = [
    f"{verb} the {noun} {number}"
    for verb in ("pay", "send", "lose")
    for noun in ("bill", "card")
    for number in "123"
]


@pytest.mark.parametrize("labels", [2, 3])
def test_the_probabilities_are_those_of_the_pipeline_before_and_after_saving(
    labels: int, tmp_path: Path
) -> None:
    targets = [("pay", "send", "lose").index(text.split()[0]) % labels for text in TEXTS]
    names = [f"é{target}" for target in targets]
    features = make_union(*(TfidfVectorizer(sublinear_tf=True, **kind) for kind in FEATURES))
    stock = make_pipeline(features, LogisticRegression(C=10.0, max_iter=1_000)).fit(TEXTS, names)
    asked = ["please pay, the bill!", "LOSE 2 cards", "nothing of it", ""]
    model = BagOfWordsModel.fit(TEXTS, names)
    assert list(model.labels) == list(stock.classes_)
    np.testing.assert_allclose(model.probabilities(asked), stock.predict_proba(asked), atol=1e-6)
    (tmp_path / "bag.npz").write_bytes(model.to_bytes())
    kept = BagOfWordsModel.read(tmp_path / "bag.npz")
    assert np.array_equal(kept.probabilities(asked), model.probabilities(asked))
    assert kept.digest() == model.digest()


def example(text: str, label: str) -> Example:
    return Example(text, (Message("system", "Sort."), Message("user", text)), (Answer(label),))


def test_a_kept_model_is_used_again_for_the_same_rows_alone(tmp_path: Path) -> None:
    train = [example("free prize", "spam"), example("lunch at noon", "ham")]
    file = tmp_path / "bag.npz"
    asked = [example("a free prize", "spam")]
    assert [one.text for one in BagOfWords(train, file=file).predict(asked)] == ["spam"]
    written = file.stat().st_mtime_ns
    assert [one.text for one in BagOfWords(train, file=file).predict(asked)] == ["spam"]
    assert file.stat().st_mtime_ns == written
    swapped = [example("free prize", "ham"), example("lunch at noon", "spam")]
    assert [one.text for one in BagOfWords(swapped, file=file).predict(asked)] == ["ham"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"\x80\x04cos\nsystem\n"])
def test_a_damaged_file_is_named_and_nothing_in_it_runs(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bag.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"bag\.npz is damaged"):
        BagOfWordsModel.read(tmp_path / "bag.npz")
    train = [example("free prize", "spam"), example("lunch at noon", "ham")]
    assert [one.text for one in BagOfWords(train, file=tmp_path / "bag.npz").predict(train)] == [
        "spam",
        "ham",
    ]


def test_a_file_with_objects_in_it_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bag.npz", texts=np.array([{"labels": ["a"]}], dtype=object))
    with pytest.raises(DataError, match="damaged"):
        BagOfWordsModel.read(tmp_path / "bag.npz")
