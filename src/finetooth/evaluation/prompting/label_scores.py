"""The log-probability of every label after each context, and calibration: what each label is given for free.

A prompt makes some labels likely whatever the question. Contextual calibration (Zhao et al. 2021, Calibrate
Before Use) measures that with questions that ask nothing, batch calibration (Zhou et al. 2023) with the mean
over many real questions, whose answers it does not read. Either gives one offset for each label, a constant
of the prompt.

Axes: R contexts, L labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from finetooth.model.api import Model
from finetooth.model.generation.choose import Choice
from finetooth.model.inference import inference_trees
from finetooth.tree import Row

ROWS = 1024  # rows (a context and a label) that are put into micro-trees together
TOKENS = 4096  # distinct tokens of a micro-tree
CONTENT_FREE = ("N/A", "", "[MASK]")
Floats = NDArray[np.float64]


@dataclass
class Effort:
    """What answering took. rows: answered. tokens: in their rows; computed: of these, once each prefix."""

    rows: int = 0
    tokens: int = 0
    computed: int = 0
    seconds: float = field(default=0.0, compare=False)


def label_logprobs(
    model: Model, contexts: Sequence[Row], options: Sequence[Sequence[int]], effort: Effort | None = None
) -> Floats:
    """log p(option, its stop token included | context) in nats: [R, L], each shared prefix computed once.

    effort: gets the tokens of all rows, and those that were computed.
    """
    logp_RL = np.empty((len(contexts), len(options)))
    together = max(1, ROWS // len(options))
    for start in range(0, len(contexts), together):
        place: dict[int, tuple[int, int]] = {}
        rows = []
        for r, context in enumerate(contexts[start : start + together], start):
            for label, ids in enumerate(options):
                rows.append(Row([*context.tokens, *ids], [0.0] * len(context) + [1.0] * len(ids)))
                place[id(rows[-1])] = r, label
        for tree in inference_trees(model, rows, TOKENS):
            with model.eval_mode(), torch.inference_mode():
                logp_M = model.logprobs(tree).double().cpu().numpy()
            sum_R = np.bincount(tree.row_M, logp_M, len(tree.rows))
            for row, logp in zip(tree.rows, sum_R, strict=True):
                logp_RL[place[id(row)]] = logp
            if effort is not None:
                effort.tokens += sum(map(len, tree.rows))
                effort.computed += len(tree)
    return logp_RL


def choose(
    model: Model, contexts: Sequence[Row], options: Sequence[Sequence[int]], offset_L: ArrayLike
) -> Iterator[Choice]:
    """The option with the highest log-probability plus offset after each context; of equals the first.

    share: its probability among the options, offsets included.
    """
    for row, score_L in enumerate(label_logprobs(model, contexts, options) + np.asarray(offset_L)):
        best = int(score_L.argmax())
        yield Choice(row, best, float(score_L[best]), float(shares(score_L[None])[0, best]))


def shares(score_RL: Floats) -> Floats:
    """Each label's probability among the labels: [R, L], rows sum to 1."""
    above_RL = np.exp(score_RL - score_RL.max(axis=1, keepdims=True))
    normalised: Floats = above_RL / above_RL.sum(axis=1, keepdims=True)
    return normalised


def contextual_offsets(content_free_RL: Floats) -> Floats:
    """Contextual calibration from the scores after content-free questions: -log of the mean share, [L]."""
    offset_L: Floats = -np.log(np.maximum(shares(content_free_RL).mean(axis=0), 1e-30))
    offset_L -= offset_L.mean()
    return offset_L


def batch_offsets(question_RL: Floats) -> Floats:
    """Batch calibration from the scores after real questions: minus their mean log-probability, [L]."""
    offset_L: Floats = -question_RL.mean(axis=0)
    offset_L -= offset_L.mean()
    return offset_L
