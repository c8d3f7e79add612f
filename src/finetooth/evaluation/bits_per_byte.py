"""Bits per byte: how surprised a model is by the expected answers, comparable across tokenizers.

Axes: R rows. An answer's bits are those of all its tokens given its prompt, the stop token included; its
bytes are those of its text in UTF-8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finetooth.data.examples import source_location
from finetooth.data.render.turns import all_text, answer_turn
from finetooth.errors import GradeError, ModelError
from finetooth.evaluation import resampling
from finetooth.evaluation.candidates import SupportsLikelihood
from finetooth.types import Example

Floats = np.ndarray


@dataclass(frozen=True, slots=True)
class Bits:
    """Bits per byte over all rows together, and its 95% confidence interval; infinite for a single row."""

    value: float
    low: float
    high: float


def answer_bytes(examples: Sequence[Example]) -> Floats:
    """UTF-8 bytes of each expected answer, reasoning and tool calls included, at least 1: [R]."""
    texts = (all_text(answer_turn(example)).replace("\0", "") for example in examples)
    return np.array([max(1, len(text.encode("utf-8", "surrogatepass"))) for text in texts], dtype=np.float64)


def answer_bits(candidate: SupportsLikelihood, examples: Sequence[Example]) -> tuple[Floats, list[str]]:
    """Bits of each expected answer: [R], NaN for rows without, and the reasons why these have none.

    Raises GradeError where a row cannot be asked, ModelError for log-probabilities that are not numbers.
    """
    bits_R, reasons = np.full(len(examples), np.nan), []
    for row, found in enumerate(candidate.answer_logprobs(examples)):
        if isinstance(found, str):
            reasons.append(f"{source_location(examples[row])}: {found}")
        elif np.isnan(found).any():
            raise ModelError(f"{candidate.name}: its log-probabilities are NaN; its weights are damaged.")
        else:
            bits_R[row] = -float(found.sum()) / math.log(2)
    return bits_R, reasons


def per_byte(bits_R: Floats, bytes_R: Floats, groups: Sequence[str] | None = None) -> Bits:
    """Bits per byte over the rows that have bits; of a difference of two models' bits, their difference.

    groups: the cluster of each row, where rows share one. Raises GradeError without any row.
    """
    rows = np.flatnonzero(~np.isnan(bits_R))
    if not rows.size:
        raise GradeError("No row has an expected answer that the model can be given.")
    clusters = None if groups is None else [groups[row] for row in rows.tolist()]
    bits_U, _ = resampling.cluster_totals(bits_R[rows], clusters)
    bytes_U, _ = resampling.cluster_totals(bytes_R[rows], clusters)
    return Bits(float(bits_U.sum() / bytes_U.sum()), *resampling.interval(bits_U, bytes_U))
