"""`predict --candidate bag-of-words`: the bag of words of a run answers rows, as it was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from finetooth.config.values import format_count
from finetooth.data.render.renderer import Renderer
from finetooth.errors import ConfigError
from finetooth.evaluation.bag_of_words import BagOfWordsModel
from finetooth.evaluation.baselines import bag_text
from finetooth.evaluation.candidates import Context, ModelCandidate, Prediction
from finetooth.evaluation.summary import BAG_FILE, BAG_OF_WORDS
from finetooth.runs import confidence, workspace
from finetooth.runs.asking import Asking, training_rows
from finetooth.runs.context import RunContext
from finetooth.tree import Row
from finetooth.types import Example, Sampling


class _KeptModel:
    """The bag of words in the place of a model: named by its numbers. notes: what to know of its answers."""

    def __init__(self, kept: BagOfWordsModel, notes: Sequence[str]) -> None:
        self.digest, self.notes = kept.digest, notes


@dataclass
class WordCounts:
    """What `predict` needs of a candidate. A row's tokens are the bytes of its text, whatever its length."""

    kept: BagOfWordsModel
    renderer: Renderer
    notes: Sequence[str] = ()
    name: str = BAG_OF_WORDS
    overlong: str = "raise"
    thinking: bool | None = None
    temperature: float = 1.0
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0, max_tokens=1))

    @property
    def labels(self) -> Sequence[str]:
        """The labels of the training rows."""
        return self.kept.labels

    @property
    def model(self) -> _KeptModel:
        """What names the weights."""
        return _KeptModel(self.kept, self.notes)

    def context(self, example: Example) -> Context:
        """The messages of an example, and its text as bytes."""
        data = bag_text(example).encode("utf-8", "surrogatepass")
        return example.context, Row([*data], [0.0] * len(data))

    def answers(self, contexts: Sequence[Context], confidence: bool = False) -> Iterator[Prediction]:
        """One answer to each context, in order. confidence: the probability of the label."""
        texts = [row.tokens.astype("uint8").tobytes().decode("utf-8", "surrogatepass") for _, row in contexts]
        for index, share_L in enumerate(self.kept.probabilities(texts) if texts else ()):
            best = int(share_L.argmax())
            yield Prediction(
                index, self.labels[best], confidence=float(share_L[best]) if confidence else None
            )


class WordCountsAsking(Asking):
    """How a bag of words is asked: with the text of a row alone."""

    def describe(self) -> str:
        """One line: what answers, and the labels."""
        count = format_count(len(self.labels), "label")
        return f"Answered by word counts with logistic regression, without a language model: one of {count}."

    def to_json(self) -> dict[str, Any]:
        """What `describe` says, for programs."""
        return {"candidate": BAG_OF_WORDS, "labels": [*self.labels]}


def of_run(path: Path, console: Console) -> Asking:
    """How the run's bag of words is asked. ConfigError for a run that keeps none, and for a mere model."""
    if not (path / workspace.CONFIG).is_file():
        raise ConfigError(f"--candidate {BAG_OF_WORDS} needs a run, and {path} is none.")
    if not (path / BAG_FILE).is_file():
        raise ConfigError(
            f"{path} keeps no bag of words ({BAG_FILE}): its answers are no labels, or it was not evaluated "
            f"by this version. For a run with labels, first: finetooth evaluate {path}"
        )
    context = RunContext.of_run(path, console)
    threshold = confidence.of_run(path).threshold
    note = (
        "the run's threshold is for the tuned model's confidence, so every row gets its label; "
        "--unsure-below sets one for word counts"
    )
    notes = [note] if threshold is not None else []
    found = WordCounts(BagOfWordsModel.read(path / BAG_FILE), context.renderer, notes)
    # `predict` reads nothing else of a candidate.
    return WordCountsAsking(cast(ModelCandidate, found), **training_rows(context))
