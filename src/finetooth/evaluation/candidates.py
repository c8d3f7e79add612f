"""Candidates: everything that answers examples. The same code grades all of them (evaluation/runner.py)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np

from finetooth.data.render.turns import answer_turn
from finetooth.errors import DataError, GradeError
from finetooth.evaluation.prompts import Prompt, fit_prompt
from finetooth.tree import Row
from finetooth.types import Answer, Example, Message, Sampling

if TYPE_CHECKING:
    from finetooth.data.render.renderer import Renderer
    from finetooth.model.api import Model

BOUNDARY = 3  # how many tokens before an answer can change how its beginning is tokenized
BATCH = 4_096  # distinct tokens whose likelihoods are computed together
Context = tuple[tuple[Message, ...], Row]  # the messages of a prompt, and their tokens


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer to examples[index]. stop: `stop`, or `length` when the answer was truncated.

    confidence: probability of the chosen label among the labels, if it was asked for. logprobs: of all
    labels, in nats, if they were asked for. written: the model
    wrote the answer freely, so that it has a form.
    """

    index: int
    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    stop: str = "stop"
    confidence: float | None = None
    logprobs: Mapping[str, float] | None = None
    written: bool = False


class Candidate(Protocol):
    """What is compared. notes: what a reader of its score should know, complete after `predict`."""

    name: str
    notes: list[str]

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        """One answer to each example, in any order."""


@runtime_checkable
class SupportsLikelihood(Protocol):
    """A candidate that can compute the likelihood of the expected answers."""

    name: str

    def answer_logprobs(self, examples: Sequence[Example]) -> Iterator[np.ndarray | str]:
        """For each example, in order: log-probabilities of the answer's tokens, or why there are none."""


@dataclass
class ModelCandidate:
    """A model under a prompt.

    labels: the model chooses the most likely of them, exactly; None: it generates its answer. overlong: what
    happens to a context that does not fit into the model even without demonstrations: `cut` truncates it on
    the left, never the system message, and counts it; anything else raises GradeError before the first
    answer. thinking: whether prompts ask for reasoning; None: the template's default; row: those of rows
    whose expected answer has some. distribution: `predict` gives the log-probabilities of all labels.
    temperature: of the confidence in a label, fitted on validation (calibration.py).
    """

    name: str
    model: Model
    renderer: Renderer
    prompt: Prompt
    sampling: Sampling
    labels: Sequence[str] | None = None
    overlong: str = "raise"
    notes: list[str] = field(default_factory=list)
    thinking: bool | Literal["row"] | None = "row"
    distribution: bool = False
    temperature: float = 1.0
    _label_tokens: int | None = field(default=None, init=False, repr=False)

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        """One answer to each example, with the model in evaluation mode. Raises GradeError."""
        yield from self.answers(self._contexts(examples), distribution=self.distribution)

    def answers(
        self, contexts: Sequence[Context], confidence: bool = False, distribution: bool = False
    ) -> Iterator[Prediction]:
        """One answer to each context, in any order. confidence: with that of a chosen label; distribution:
        with the log-probabilities of all labels, too.
        """
        with self.model.eval_mode():
            rows = [row for _, row in contexts]
            if self.labels is not None:
                yield from self._choose(contexts, self.labels, confidence, distribution)
                return
            for completion in self.model.generate(rows, self.sampling):
                index, generated = completion.row, len(completion.tokens)
                tokens = len(rows[index]), generated
                yield Prediction(index, completion.text, *tokens, completion.stop, written=True)

    def answer_logprobs(self, examples: Sequence[Example]) -> Iterator[np.ndarray | str]:
        """For each example: log-probabilities (nats) of its answer's tokens, the stop token included.

        The context is the one of `predict`. A row without an answer to score yields the reason. Raises
        GradeError.
        """
        from finetooth.model.inference import row_logprobs  # here: the report reads this module without torch

        found: list[Row | str] = []
        for example, (messages, row) in zip(examples, self._contexts(examples, noted=False), strict=True):
            try:
                ids = self.renderer.answer_ids(messages, answer_turn(example), example.tools)
            except DataError as error:
                found.append(str(error))
                continue
            if len(row) + len(ids) > self.model.max_tokens:
                found.append(f"the expected answer has {len(ids)} tokens, too many after its context")
            else:
                found.append(Row([*row.tokens, *ids], [0.0] * len(row) + [1.0] * len(ids)))
        scored = iter(row_logprobs(self.model, [row for row in found if isinstance(row, Row)], BATCH))
        for entry in found:
            yield entry if isinstance(entry, str) else next(scored)

    def _choose(
        self, contexts: Sequence[Context], labels: Sequence[str], confidence: bool, distribution: bool
    ) -> Iterator[Prediction]:
        for members, options in self.label_ids(contexts, labels):
            rows = [contexts[index][1] for index in members]
            if self.prompt.offsets:
                from finetooth.evaluation.prompting.label_scores import choose  # as torch in answer_logprobs

                offset_L = [self.prompt.offsets.get(label, 0.0) for label in labels]
                choices = choose(self.model, rows, options, offset_L)
            else:
                choices = self.model.choose(rows, options, confidence, self.temperature, distribution)
            for choice in choices:
                index, label, tokens = members[choice.row], labels[choice.option], options[choice.option]
                logprobs = dict(zip(labels, choice.logprobs, strict=True)) if choice.logprobs else None
                used = len(contexts[index][1]), len(tokens)
                yield Prediction(index, label, *used, confidence=choice.share, logprobs=logprobs)

    def label_ids(
        self, contexts: Sequence[Context], labels: Sequence[str]
    ) -> Iterator[tuple[list[int], list[tuple[int, ...]]]]:
        """The labels' token ids, for each group of contexts (their indices) after which they are equal."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, (_, row) in enumerate(contexts):
            groups.setdefault(tuple(row.tokens[-BOUNDARY:].tolist()), []).append(index)
        for members in groups.values():
            yield members, [self.renderer.answer_ids(contexts[members[0]][0], label) for label in labels]

    def context(self, example: Example) -> Context:
        """The messages and the context row of one example, made to fit. GradeError says why it cannot be."""
        return self._fitted(example)[0]

    def _contexts(self, examples: Sequence[Example], noted: bool = True) -> list[Context]:
        """The messages and the context row of each example, all made to fit before the first answer.

        noted: put what was shortened into `notes`.
        """
        contexts: list[Context] = []
        fewer: list[int] = []
        unlisted = cut = 0
        for example in examples:
            try:
                context, prompt, truncated = self._fitted(example)
            except GradeError as error:
                raise GradeError(f"{self.name}: row {example.id} {error}") from error
            contexts.append(context)
            cut += truncated
            unlisted += bool(self.prompt.labels and not prompt.labels)
            if len(prompt.demos) < self.prompt.shots:
                fewer.append(len(prompt.demos))
        n, takes = len(examples), f"the model takes {self.model.max_tokens} tokens"
        if noted and fewer:
            self.notes.append(
                f"{len(fewer)} of {n} rows had fewer than {self.prompt.shots} demonstrations in their "
                f"prompt (the fewest: {min(fewer)}): {takes}"
            )
        if noted and unlisted:
            self.notes.append(f"{unlisted} of {n} prompts did not list the labels, which do not fit: {takes}")
        if noted and cut:
            self.notes.append(f"{cut} of {n} contexts were truncated on the left: {takes}")
        return contexts

    def _fitted(self, example: Example) -> tuple[Context, Prompt, bool]:
        """The context of one example, the prompt that fits, and whether the row was truncated."""
        if self.labels is None:  # tokens to reserve for the answer
            limit = self.model.max_tokens - min(self.sampling.max_tokens, self.model.max_tokens // 2)
            hard_limit = self.model.max_tokens - 1
        else:
            limit = hard_limit = self.model.max_tokens - self._longest_label(example)
        prompt = self.prompt.of_row(example)
        row = self._row(example, prompt.messages(example))
        if len(row) > limit and (prompt.labels or prompt.demos):
            prompt = fit_prompt(prompt, example, partial(self._length, example), limit)
            row = self._row(example, prompt.messages(example))
        truncated = len(row) > hard_limit
        if truncated:
            row = self._cut(example, prompt, row, hard_limit)
        return (prompt.messages(example), row), prompt, truncated

    def _longest_label(self, example: Example) -> int:
        """The most tokens of a label, behind the context of the first example that was asked."""
        if self._label_tokens is None:
            sizes = [len(self.renderer.answer_ids(example.context, label)) for label in self.labels or ()]
            self._label_tokens = max(sizes)
        return self._label_tokens

    def thinks(self, example: Example) -> bool | None:
        """Whether the example's prompt asks for reasoning; None: as the template does by default."""
        return self.renderer.thinks(example) if self.thinking == "row" else self.thinking

    def _length(self, example: Example, messages: tuple[Message, ...]) -> int:
        return len(self._row(example, messages))

    def _row(self, example: Example, messages: tuple[Message, ...]) -> Row:
        try:
            return self.renderer.context_row(messages, example.tools, self.thinks(example))
        except DataError as error:
            raise GradeError(f"cannot be rendered: {error}") from error

    def _cut(self, example: Example, prompt: Prompt, row: Row, limit: int) -> Row:
        """The row cut to `limit` tokens on the left, behind the tokens that must stay at its beginning."""
        answer = Answer(self.labels[0] if self.labels else ".")
        whole = Example(example.id, prompt.messages(example), (answer,), tools=example.tools)
        head, tail = self.renderer.rows(whole)[-1].kept
        if self.overlong != "cut" or head + tail >= limit:
            raise GradeError(
                f"has a context of {len(row)} tokens; at most {limit} leave room for the answer. Set "
                "data.overlong: cut, or choose a model with a longer context."
            )
        kept = np.concatenate([row.tokens[:head], row.tokens[len(row) - (limit - head) :]])
        return Row(kept, np.zeros(kept.size))
