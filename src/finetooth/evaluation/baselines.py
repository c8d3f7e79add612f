"""Baselines without a language model, for tasks with labels: the majority label, and a bag of words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from finetooth.errors import DataError
from finetooth.evaluation.bag_of_words import BagOfWordsModel, rows_digest
from finetooth.evaluation.candidates import Prediction
from finetooth.evaluation.summary import BAG_OF_WORDS, MAJORITY
from finetooth.rundir import write_bytes
from finetooth.types import Example


@dataclass
class Majority:
    """Always answers the most frequent label of the train split (of equals, the alphabetically first)."""

    train: Sequence[Example]
    name: str = MAJORITY
    notes: list[str] = field(default_factory=list)

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        """The same answer to every example."""
        count = Counter(example.target for example in self.train)
        answer = min(count, key=lambda label: (-count[label], label))
        for index in range(len(examples)):
            yield Prediction(index, answer)


@dataclass
class BagOfWords:
    """Logistic regression on TF-IDF of word 1-2-grams and of character 3-5-grams within words.

    file: where the fitted model is kept; one that was fitted to the same rows is used again.
    """

    train: Sequence[Example]
    name: str = BAG_OF_WORDS
    notes: list[str] = field(default_factory=list)
    file: Path | None = None

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        """The most probable label of each example."""
        model = self._fitted()
        if len(model.labels) == 1:
            self.notes.append("the train split has one label only, which is always the answer")
        share_RL = model.probabilities([bag_text(example) for example in examples])
        for index, label in enumerate(share_RL.argmax(axis=1)):
            yield Prediction(index, model.labels[label])

    def _fitted(self) -> BagOfWordsModel:
        texts = [bag_text(example) for example in self.train]
        targets = [example.target for example in self.train]
        if self.file is not None:
            with suppress(DataError):
                kept = BagOfWordsModel.read(self.file)
                if kept.rows == rows_digest(texts, targets):
                    return kept
        model = BagOfWordsModel.fit(texts, targets)
        if self.file is not None:
            write_bytes(self.file, model.to_bytes())
        return model


def bag_text(example: Example) -> str:
    """What a bag of words reads of an example: all messages but the system message."""
    return "\n".join(message.content for message in example.context if message.role != "system")
