"""Demonstrations: which solved rows of the train split a prompt shows before a row's question.

A draw is the same for every row. The nearest ones are chosen for each row, by BM25 over words or by the
cosine of a model's own hidden states.

Axes: N rows that can be shown, V words, D hidden size.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetooth.data.render.turns import has_answer
from finetooth.errors import GradeError
from finetooth.evaluation.prompting.layouts import question_turns
from finetooth.quality.findings import Embed
from finetooth.types import Example

K1, B = 1.5, 0.75  # BM25: saturation of repeated words, and how much long texts are discounted


def usable(train: Sequence[Example], name: str) -> list[Example]:
    """The rows with a question and an answer. GradeError, beginning with `name`, where there is none."""
    found = [example for example in train if example.context and has_answer(example)]
    if not found:
        raise GradeError(f"{name}: no row of the train split has both a question and an answer.")
    return found


def drawn(k: int, rows: Sequence[Example], seed: int, balanced: bool) -> tuple[Example, ...]:
    """k rows, drawn by the seed. balanced: their counts per answer differ by at most one."""
    draw = random.Random(f"few-shot {seed}")
    shuffled = draw.sample(rows, len(rows))
    return tuple((_balanced(shuffled, draw) if balanced else shuffled)[:k])


def _balanced(examples: Sequence[Example], draw: random.Random) -> list[Example]:
    """One example of every label, then a second of each, and so on; the labels of a round in random order."""
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.target.strip(), []).append(example)
    ordered: list[Example] = []
    while groups:
        names = sorted(groups)
        draw.shuffle(names)
        ordered += [groups[name].pop() for name in names]
        groups = {name: group for name, group in groups.items() if group}
    return ordered


def question_text(example: Example) -> str:
    """What is compared of a row: all messages but the system message."""
    return "\n".join(message.content for message in question_turns(example))


@dataclass(eq=False)
class Index:
    """Rows in the order of their similarity to a question: by BM25, or with `embed` by a model's vectors."""

    rows: Sequence[Example]
    embed: Embed | None = None
    _ranked: dict[str, NDArray[np.intp]] = field(default_factory=dict, repr=False)

    def nearest(self, example: Example, k: int) -> tuple[Example, ...]:
        """The k most similar rows, the most similar last, next to the question; never the row itself.

        Of equally similar rows the earlier one is nearer.
        """
        text = question_text(example)
        if text not in self._ranked:
            score_N = self._bm25(text) if self.embed is None else self._cosine(text)
            self._ranked[text] = np.argsort(-score_N, kind="stable")
        found: list[Example] = []
        for at in self._ranked[text]:
            if len(found) == k:
                break
            if self.rows[at].id != example.id:
                found.append(self.rows[at])
        return tuple(reversed(found))

    @cached_property
    def _words(self) -> tuple[Any, Any]:
        from sklearn.feature_extraction.text import CountVectorizer

        counter = CountVectorizer(token_pattern=r"(?u)\w+")
        count_NV = counter.fit_transform([*map(question_text, self.rows), "a"])[:-1].tocsr().astype(float)
        length_N = np.asarray(count_NV.sum(axis=1)).ravel()
        has_V = np.bincount(count_NV.indices, minlength=count_NV.shape[1])
        rarity_V = np.log(1 + (len(self.rows) - has_V + 0.5) / (has_V + 0.5))
        row_E = np.repeat(np.arange(len(self.rows)), np.diff(count_NV.indptr))
        discount_E = K1 * (1 - B + B * length_N[row_E] / max(length_N.mean(), 1e-9))
        count_NV.data *= rarity_V[count_NV.indices] * (K1 + 1) / (count_NV.data + discount_E)
        return counter, count_NV

    def _bm25(self, text: str) -> NDArray[np.float64]:
        counter, weight_NV = self._words
        return np.asarray((weight_NV @ counter.transform([text]).T).todense()).ravel()

    @cached_property
    def _vectors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        assert self.embed is not None
        vector_ND = self.embed([*map(question_text, self.rows)])
        centre_D = vector_ND.mean(axis=0)  # what all texts share says nothing about their similarity
        return _unit(vector_ND - centre_D), centre_D

    def _cosine(self, text: str) -> NDArray[np.float32]:
        assert self.embed is not None
        vector_ND, centre_D = self._vectors
        similarity_N: NDArray[np.float32] = vector_ND @ _unit(self.embed([text]) - centre_D)[0]
        return similarity_N


def _unit(vector_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    length_N = np.linalg.norm(vector_ND, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = vector_ND / np.maximum(length_N, 1e-9)
    return scaled


@dataclass(frozen=True, slots=True)
class Nearest:
    """The k rows of an index that are nearest to a question."""

    index: Index
    k: int

    def __call__(self, example: Example) -> tuple[Example, ...]:
        """The row's demonstrations, the nearest last."""
        return self.index.nearest(example, self.k)
