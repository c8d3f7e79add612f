"""Candidates: whatever answers examples. All of them are graded by the same code (evaluation/runner.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from finetooth.data.render.turns import answer_turn
from finetooth.errors import DataError, GradeError
from finetooth.evaluation.prompts import Prompt, fit_prompt
from finetooth.tree import PrefixTree, Row
from finetooth.types import Answer, Example, Message, Sampling

if TYPE_CHECKING:
    from finetooth.data.render.renderer import Renderer
    from finetooth.model.api import Model

BOUNDARY = 3  # what a tokenizer makes of an answer's beginning depends on no more tokens in front of it
BATCH = 4_096  # tokens whose likelihoods are computed together


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer to examples[index]. stop: `stop`, or `length` when the answer was cut off."""

    index: int
    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    stop: str = "stop"


class Candidate(Protocol):
    """What is compared. notes: what the reader of its score should know, complete after `predict`."""

    name: str
    notes: list[str]

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        """One answer to each example, in any order."""


@runtime_checkable
class SupportsLikelihood(Protocol):
    """A candidate that can say how likely the expected answers are."""

    name: str

    def answer_logprobs(self, examples: Sequence[Example]) -> Iterator[np.ndarray | str]:
        """For each example, in order: log-probabilities of the answer's tokens, or why there are none."""


@dataclass
class ModelCandidate:
    """A model under a prompt.

    labels: the model chooses the most likely of them, exactly; None: it writes its answer. overlong: what
    happens to a context that the model cannot take even without demonstrations: `cut` removes its beginning,
    never the system message, and counts it; anything else raises GradeError before the first answer.
    """

    name: str
    model: Model
    renderer: Renderer
    prompt: Prompt
    sampling: Sampling
    labels: Sequence[str] | None = None
    overlong: str = "raise"
    notes: list[str] = field(default_factory=list)

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        """One answer to each example; the model is in evaluation mode meanwhile. Raises GradeError."""
        with self.model.eval_mode():
            asked = self._ask(examples)
            rows = [row for _, row in asked]
            if self.labels is None:
                for completion in self.model.generate(rows, self.sampling):
                    used = len(completion.tokens)
                    yield Prediction(
                        completion.row, completion.text, len(rows[completion.row]), used, completion.stop
                    )
            else:
                yield from self._choose(asked, self.labels)

    def answer_logprobs(self, examples: Sequence[Example]) -> Iterator[np.ndarray | str]:
        """For each example: log-probabilities (nats) of its answer's tokens, the stop token included.

        The row is asked as `predict` asks it. A row without an answer to score yields why. Raises GradeError.
        """
        with self.model.eval_mode():
            found: list[Row | str] = []
            for example, (messages, row) in zip(examples, self._ask(examples, noted=False), strict=True):
                found.append(self._answered_row(example, messages, row))
            scored = self._scored([row for row in found if isinstance(row, Row)])
            for entry in found:
                yield entry if isinstance(entry, str) else next(scored)

    def _answered_row(self, example: Example, messages: tuple[Message, ...], row: Row) -> Row | str:
        """The context with the expected answer, which is scored; or why it cannot be."""
        try:
            ids = self.renderer.answer_ids(messages, answer_turn(example), example.tools)
        except DataError as error:
            return str(error)
        if len(row) + len(ids) > self.model.max_tokens:
            return f"the expected answer has {len(ids)} tokens, more than the model takes behind its context"
        return Row([*row.tokens, *ids], [0.0] * len(row) + [1.0] * len(ids))

    def _length(self, example: Example, messages: tuple[Message, ...]) -> int:
        return len(self._row(example, messages))

    def _scored(self, rows: Sequence[Row]) -> Iterator[np.ndarray]:
        """Log-probabilities of each row's answer; rows are computed together as far as memory allows."""
        import torch  # here: the report reads this module and computes nothing

        start = 0
        while start < len(rows):
            end, tokens = start + 1, len(rows[start])
            while end < len(rows) and tokens + len(rows[end]) <= BATCH:
                tokens += len(rows[end])
                end += 1
            tree = PrefixTree.build(rows[start:end])
            with torch.inference_mode():
                logp_M = self.model.logprobs(tree).double().cpu().numpy()
            for index in range(end - start):
                yield logp_M[tree.row_M == index]
            start = end

    def _choose(
        self, asked: Sequence[tuple[tuple[Message, ...], Row]], labels: Sequence[str]
    ) -> Iterator[Prediction]:
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, (_, row) in enumerate(asked):
            groups.setdefault(tuple(row.tokens[-BOUNDARY:].tolist()), []).append(index)
        for members in groups.values():
            options = [self.renderer.answer_ids(asked[members[0]][0], label) for label in labels]
            for choice in self.model.choose([asked[index][1] for index in members], options):
                index = members[choice.row]
                length = len(asked[index][1])
                yield Prediction(index, labels[choice.option], length, len(options[choice.option]))

    def _ask(self, examples: Sequence[Example], noted: bool = True) -> list[tuple[tuple[Message, ...], Row]]:
        """The messages and the context row of each example, all made to fit before the first answer."""
        room = self._room(examples)
        asked: list[tuple[tuple[Message, ...], Row]] = []
        fewer: list[int] = []
        unlisted = cut = 0
        for example in examples:
            prompt = self.prompt
            row = self._row(example, prompt.messages(example))
            limit = self.model.max_tokens - room
            if len(row) > limit and (prompt.labels or prompt.demos):
                prompt = fit_prompt(prompt, example, partial(self._length, example), limit)
                row = self._row(example, prompt.messages(example))
                unlisted += bool(self.prompt.labels and not prompt.labels)
                if len(prompt.demos) < len(self.prompt.demos):
                    fewer.append(len(prompt.demos))
            longest = self.model.max_tokens - (room if self.labels is not None else 1)
            if len(row) > longest:
                row = self._cut(example, prompt, row, longest)
                cut += 1
            asked.append((prompt.messages(example), row))
        if noted:
            self._note(len(examples), fewer, unlisted, cut)
        return asked

    def _room(self, examples: Sequence[Example]) -> int:
        """Tokens to keep free for the answer."""
        if self.labels is None or not examples:
            return min(self.sampling.max_tokens, self.model.max_tokens // 2)
        context = examples[0].context
        return max(len(self.renderer.answer_ids(context, label)) for label in self.labels)

    def _row(self, example: Example, messages: tuple[Message, ...]) -> Row:
        try:
            return self.renderer.context_row(messages, example.tools, self.renderer.thinks(example))
        except DataError as error:
            raise GradeError(f"{self.name}: row {example.id} cannot be asked: {error}") from error

    def _cut(self, example: Example, prompt: Prompt, row: Row, limit: int) -> Row:
        answer = self.labels[0] if self.labels else "."
        context = prompt.messages(example)
        whole = self.renderer.rows(Example(example.id, context, (Answer(answer),), tools=example.tools))[-1]
        head, tail = whole.kept
        if self.overlong != "cut" or head + tail >= limit:
            raise GradeError(
                f"{self.name}: row {example.id} has a context of {len(row)} tokens; the model takes {limit} "
                "and the answer. Set data.overlong: cut, or choose a model with a longer context."
            )
        kept = np.concatenate([row.tokens[:head], row.tokens[len(row) - (limit - head) :]])
        return Row(kept, np.zeros(kept.size))

    def _note(self, n: int, fewer: Sequence[int], unlisted: int, cut: int) -> None:
        shown = len(self.prompt.demos)
        if fewer:
            self.notes.append(
                f"{len(fewer)} of {n} rows were asked with fewer than {shown} demonstrations (fewest "
                f"{min(fewer)}): the model takes {self.model.max_tokens} tokens"
            )
        if unlisted:
            self.notes.append(
                f"{unlisted} of {n} rows were asked without the list of labels: it does not fit into the "
                f"model's {self.model.max_tokens} tokens"
            )
        if cut:
            self.notes.append(f"{cut} of {n} contexts were cut from the left to fit the model")
