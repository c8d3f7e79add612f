"""The prompt ladder of a task: prompts of its base model, on held-out rows; the test stays closed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finetooth.data.render.turns import has_answer
from finetooth.data.split import split_keys
from finetooth.errors import ConfigError
from finetooth.evaluation import graders
from finetooth.evaluation.answer_text import AnswerNormaliser, answer_normaliser
from finetooth.evaluation.candidates import Context, ModelCandidate, Prediction
from finetooth.evaluation.graders import Grader
from finetooth.evaluation.prompting.instructions import REASON, REASONED, ROOM, variants
from finetooth.evaluation.prompting.label_scores import (
    CONTENT_FREE,
    Effort,
    Floats,
    batch_offsets,
    contextual_offsets,
    label_logprobs,
    shares,
)
from finetooth.evaluation.prompting.layouts import LAYOUTS, TURNS, is_single_question
from finetooth.evaluation.prompting.search import BATCH, CONTEXTUAL, NONE, SearchResult, pool, search
from finetooth.evaluation.prompting.spec import PromptSpec, index_of
from finetooth.evaluation.prompting.trials import RowResult, Trial
from finetooth.model import reward_head
from finetooth.model.api import Model
from finetooth.quality.prepare import PreparedData
from finetooth.runs import asking
from finetooth.runs.base_ranking import askable, with_answer_tokens
from finetooth.runs.best_prompt import made_for
from finetooth.runs.context import RunContext
from finetooth.runs.embeddings import TOKENS, embedder_of
from finetooth.runs.reflection import Optimizing
from finetooth.tree import PrefixTree
from finetooth.types import Example, Message

FEWEST_ROWS = 40  # held-out rows; with fewer in the validation split, train rows are held out too
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows that prompts are searched on, the validation rows first: one half selects, the other confirms.

    rest: training rows that none of them resembles. trained_on: the ids of those that were held out of the
    train split.
    """

    examples: list[Example]
    rest: list[Example]
    trained_on: frozenset[str]

    @classmethod
    def of(cls, prepared: PreparedData, seed: int) -> HeldOut:
        """The validation rows, and of small splits up to a quarter of the train rows, in a drawn order.

        Rows of one group are in one half. Raises ConfigError where no row has a question and an answer.
        """
        draw = random.Random(f"baseline {seed}")
        validation, train = (
            [example for example in side if example.context and has_answer(example)]
            for side in (prepared.validation, prepared.train)
        )
        lacking = max(0, min(FEWEST_ROWS - len(validation), len(train) // 4))
        more = draw.sample(train, lacking)
        everything, rows = [*validation, *train], [*validation, *more]
        key_of = dict(zip(map(id, everything), split_keys(everything), strict=True))
        groups: dict[str, list[Example]] = {}
        for example in rows:
            groups.setdefault(key_of[id(example)], []).append(example)
        rest = [one for one in train if key_of[id(one)] not in groups]
        if not rows or not rest:
            raise ConfigError(
                "Prompts are compared by the answers that your rows expect, and too few rows have a question "
                f"and an answer (the data format is {prepared.format})."
            )
        names = sorted(groups)
        draw.shuffle(names)
        of_validation = {key_of[id(one)] for one in validation}
        names.sort(key=lambda name: name not in of_validation)
        return cls([one for name in names for one in groups[name]], rest, frozenset(one.id for one in more))

    def halves(self) -> tuple[list[int], list[int]]:
        """The indices of the selection and the confirmation rows: each group goes to the smaller half."""
        groups: dict[str, list[int]] = {}
        for place, key in enumerate(split_keys(self.examples)):
            groups.setdefault(key, []).append(place)
        halves: tuple[list[int], list[int]] = ([], [])
        for places in groups.values():
            min(halves, key=len).extend(places)
        return halves

    def from_train(self, rows: Sequence[int]) -> int:
        """How many of these rows were held out of the train split."""
        return sum(self.examples[row].id in self.trained_on for row in rows)


@dataclass(frozen=True)
class Ladder:
    """A finished search. grader: the primary one's name. made_for: model and rows; see best_prompt."""

    held_out: HeldOut
    grader: str
    budget: int
    found: SearchResult
    winner: PromptSpec
    effort: Effort
    answered: int
    made_for: dict[str, str]


class Scorer:
    """Answers of prompts to held-out rows, graded; each prompt answers a row once.

    answered: (prompt, row) pairs. effort: what they took, content-free questions and vectors included.
    """

    def __init__(
        self,
        context: RunContext,
        model: Model,
        grader_name: str,
        grader: Grader,
        examples: Sequence[Example],
        progress: Progress,
        budget: int,
    ) -> None:
        self._context, self._model, self._examples = context, model, examples
        self._grader_name, self._grader = grader_name, grader
        self._normalise: AnswerNormaliser = answer_normaliser(context.renderer)
        self._indexes = index_of(context.prepared.train, self._embed)
        self._progress, self._budget = progress, budget
        self._candidates: dict[PromptSpec, ModelCandidate] = {}
        self._logp_L: dict[tuple[PromptSpec, int], tuple[Floats, int, list[int]]] = {}
        self._content_free: dict[PromptSpec, Floats] = {}
        self._written: dict[tuple[PromptSpec, int], Prediction] = {}
        self.effort = Effort()

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        tokens = sum(len(self._context.base_tokenizer.encode(text)[:TOKENS]) for text in texts)
        self.effort.tokens += tokens
        self.effort.computed += tokens
        return embedder_of(self._model)(texts)

    @property
    def answered(self) -> int:
        """Rows that were answered, over all prompts."""
        return len(self._logp_L) + len(self._written)

    def candidate(self, spec: PromptSpec) -> ModelCandidate:
        """The base model under this prompt, as `evaluate` asks it."""
        if spec not in self._candidates:
            self._candidates[spec] = asking.candidate_of_spec(
                self._context, self._grader_name, self._model, spec, indexes=self._indexes
            )
        return self._candidates[spec]

    def __call__(self, trial: Trial, rows: Sequence[int], fitted_on: Sequence[int]) -> list[RowResult]:
        """The graded answers of a trial to these rows. fitted_on: rows whose questions calibrate it."""
        started = time.perf_counter()
        labels = self.candidate(trial.spec).labels
        if labels is None:
            predictions, likelihoods = self._write(trial.spec, rows), [0.0] * len(rows)
        else:
            offset_L = self.offsets(trial, fitted_on)
            predictions, likelihoods = self._choose(trial.spec, labels, rows, offset_L)
        self.effort.seconds += time.perf_counter() - started
        self._progress("answers", min(self.answered, self._budget), self._budget)
        pairs = [
            self._normalise(self._examples[row], one.text) for row, one in zip(rows, predictions, strict=True)
        ]
        return [
            RowResult(grade.value or 0.0, likelihood, one.prompt_tokens, one.completion_tokens, one.text)
            for grade, likelihood, one in zip(
                graders.grade_all(self._grader, pairs), likelihoods, predictions, strict=True
            )
        ]

    def offsets(self, trial: Trial, fitted_on: Sequence[int]) -> Floats:
        """The labels' offsets of a trial: [L], zeros without calibration."""
        labels = self.candidate(trial.spec).labels or ()
        if trial.calibration == BATCH:
            return batch_offsets(self._scores(trial.spec, fitted_on))
        if trial.calibration == CONTEXTUAL:
            if trial.spec not in self._content_free:
                system = [one for one in self._examples[0].context if one.role == "system"]
                asked = [
                    Example(f"content-free {text}", (*system, Message("user", text)), ())
                    for text in CONTENT_FREE
                ]
                scored = self._label_scores(trial.spec, asked)
                self._content_free[trial.spec] = np.stack([logp_L for logp_L, _, _ in scored])
            return contextual_offsets(self._content_free[trial.spec])
        return np.zeros(len(labels))

    def _choose(
        self, spec: PromptSpec, labels: Sequence[str], rows: Sequence[int], offset_L: NDArray[np.float64]
    ) -> tuple[list[Prediction], list[float]]:
        score_RL = self._scores(spec, rows) + offset_L
        share_RL, place = shares(score_RL), {label: at for at, label in enumerate(labels)}
        predictions, likelihoods = [], []
        for number, row in enumerate(rows):
            best = int(score_RL[number].argmax())
            _, prompt_tokens, lengths = self._logp_L[spec, row]
            predictions.append(Prediction(row, labels[best], prompt_tokens, lengths[best]))
            right = place.get(self._examples[row].target.strip())
            likelihoods.append(0.0 if right is None else float(share_RL[number, right]))
        return predictions, likelihoods

    def _scores(self, spec: PromptSpec, rows: Sequence[int]) -> Floats:
        """log p(label | context) of these rows: [R, L]."""
        missing = [row for row in rows if (spec, row) not in self._logp_L]
        found = self._label_scores(spec, [self._examples[row] for row in missing])
        for row, scored in zip(missing, found, strict=True):
            self._logp_L[spec, row] = scored
        return np.stack([self._logp_L[spec, row][0] for row in rows])

    def _label_scores(
        self, spec: PromptSpec, examples: Sequence[Example]
    ) -> list[tuple[Floats, int, list[int]]]:
        """For each example: log p of the labels, tokens of its prompt, and those of each label."""
        candidate = self.candidate(spec)
        contexts: list[Context] = [candidate.context(example) for example in examples]
        found: dict[int, tuple[Floats, int, list[int]]] = {}
        for members, options in candidate.label_ids(contexts, candidate.labels or ()):
            rows = [contexts[index][1] for index in members]
            logp_RL = label_logprobs(self._model, rows, options, self.effort)
            for logp_L, index in zip(logp_RL, members, strict=True):
                found[index] = logp_L, len(contexts[index][1]), [len(ids) for ids in options]
        self.effort.rows += len(examples)
        return [found[index] for index in range(len(examples))]

    def _write(self, spec: PromptSpec, rows: Sequence[int]) -> list[Prediction]:
        candidate = self.candidate(spec)
        missing = [row for row in rows if (spec, row) not in self._written]
        contexts = [candidate.context(self._examples[row]) for row in missing]
        written = 0
        for prediction in candidate.answers(contexts):
            self._written[spec, missing[prediction.index]] = prediction
            written += prediction.completion_tokens
        if contexts:
            prompts = [row for _, row in contexts]
            self.effort.rows += len(prompts)
            self.effort.tokens += written + sum(map(len, prompts))
            self.effort.computed += written + len(PrefixTree.build(prompts))
        return [self._written[spec, row] for row in rows]


def find(
    context: RunContext,
    prepared: PreparedData,
    budget: int,
    instructions: Sequence[str] | None,
    progress: Progress,
    model: Model | None = None,
    optimizer: Optimizing | None = None,
) -> Ladder:
    """Search for the best prompt of the task's base model, with at most `budget` answers.

    context: of the task; gets the rows that can be shown. instructions: to try in place of the task's; None:
    a few templates. model: the base, where it is loaded. optimizer: gets half of the budget. Raises
    ConfigError for a task without graded answers or one that continues a run.
    """
    task = context.task
    if task.start is not None:
        raise ConfigError(f"This task continues {task.start}; search for a prompt with that run's task.")
    held_out = HeldOut.of(prepared, task.seed)
    grading = graders.grading_format(task.data.columns, prepared.format, prepared.train)
    spec = graders.settled(graders.specs(task.evaluate.grader)[0], prepared.train)
    name, grader = graders.resolve(spec, grading, Path.cwd(), task.evaluate.grader_seconds)
    if name in (graders.PERPLEXITY, graders.PREFERENCE):
        raise ConfigError(f"Prompts are compared by graded answers, and {name} grades none.")
    context.prepared = replace(prepared, train=held_out.rest)
    model = context.initial_model() if model is None else model
    base = model.digest(adapter=False)
    if reward_head.is_reward(model.hf):
        raise ConfigError(f"{task.model} is a reward model: it scores answers and cannot generate text.")
    context.task = with_answer_tokens(context, model, held_out.examples)
    plain = asking.candidate_of_spec(context, name, model, PromptSpec())
    asked, notes = askable(plain, held_out.examples)
    for note in notes:
        context.console.print(note, markup=False, highlight=False, soft_wrap=True)
    held_out = replace(held_out, examples=[held_out.examples[row] for row in asked])
    scorer = Scorer(context, model, name, grader, held_out.examples, progress, budget)
    select, confirm = held_out.halves()
    if not (select and confirm):
        raise ConfigError("Prompts need held-out rows of at least two groups, to select and to confirm.")
    labels = scorer.candidate(PromptSpec()).labels
    own = variants(task.instruction, labels or ()) if instructions is None else instructions
    specs = pool(labels is not None)
    if labels is None and graders.without_options(name) in REASONED:
        room = max(ROOM, scorer.candidate(PromptSpec()).sampling.max_tokens)
        specs.insert(1, PromptSpec(f"{task.instruction} {REASON}".strip(), max_tokens=room))
    improve = None if optimizer is None else optimizer.build(context, model, scorer.effort, held_out.examples)
    found = search(
        specs,
        _layouts(held_out, scorer),
        [text for text in own if text != task.instruction],
        scorer,
        (NONE,) if labels is None else (BATCH, NONE, CONTEXTUAL),
        select,
        confirm,
        budget,
        improve,
        task.instruction,
    )
    winner, trial = found.winner.trial.spec, found.winner.trial
    if trial.calibration != NONE and labels is not None:
        questions = [*select[: found.plan.select], *confirm[: found.plan.confirm]]
        offset_L = scorer.offsets(trial, questions)
        winner = replace(winner, offsets=dict(zip(labels, offset_L.tolist(), strict=True)))
    wanted = made_for(task, prepared, base)
    return Ladder(held_out, name, budget, found, winner, scorer.effort, scorer.answered, wanted)


def _layouts(held_out: HeldOut, scorer: Scorer) -> list[str]:
    """The layouts that differ for these rows; turns alone where rows are conversations."""
    rows = [*held_out.examples, *held_out.rest]
    if not all(map(is_single_question, rows)):
        return [TURNS.name]
    seen: list[tuple[Message, ...]] = []
    names = []
    for name in LAYOUTS:
        prompt = scorer.candidate(PromptSpec(shots=2, draw=1, layout=name)).prompt
        messages = prompt.messages(held_out.examples[0])
        if messages not in seen:
            seen.append(messages)
            names.append(name)
    return names
