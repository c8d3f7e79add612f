"""The rows of the cases: random tokens with the lengths and the sharing of real tasks. numpy only.

Ids 0, 1 and 2 are padding, beginning and stop; everything else is drawn evenly from the vocabulary, so two
rows share nothing but what is put there on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

STOP, FIRST = 2, 3
PREAMBLE, SYSTEM_PROMPT, LABEL_TOKENS = 25, 400, 3
GROUP, ANSWER = 8, 32  # answers to a prompt that are compared, and the tokens of each


@dataclass(frozen=True, slots=True)
class Tokens:
    """One row as every system gets it: T ids, and for each whether it is scored (0 or 1)."""

    tokens: list[int]
    scored: list[int]

    def as_json(self) -> dict[str, Any]:
        """The form in which rows are handed to the children."""
        return {"tokens": self.tokens, "scored": self.scored}


@dataclass(frozen=True, slots=True)
class AnsweredRow(Tokens):
    """A prompt with one of the answers to it. group: the prompt's number. worth: the answer's reward; in a
    pair 1 for the chosen answer and 0 for the rejected one."""

    group: int
    worth: float

    def as_json(self) -> dict[str, Any]:
        """The form in which rows are handed to the children."""
        return {"tokens": self.tokens, "scored": self.scored, "group": self.group, "worth": self.worth}


def draw_tokens(draw: np.random.Generator, count: int, vocabulary: int) -> list[int]:
    """`count` ordinary ids."""
    return [int(token) for token in draw.integers(FIRST, vocabulary, count)]


def instruction_rows(count: int, vocabulary: int, seed: int = 0) -> list[Tokens]:
    """Case (a): a common preamble of 25 tokens, then an instruction and a scored answer that ends in stop.

    Their lengths are log-normal (sigma 0.8, medians 42 and 68), so a few rows are several times as long as
    most, as in public instruction data, and about half of all tokens are scored. At most 1,024 tokens a row.
    """
    draw = np.random.default_rng(seed)
    preamble = draw_tokens(draw, PREAMBLE, vocabulary)
    made = []
    for _ in range(count):
        asked, answered = (int(np.clip(draw.lognormal(np.log(median), 0.8), 4, 480)) for median in (42, 68))
        context = preamble + draw_tokens(draw, asked, vocabulary)
        answer = [*draw_tokens(draw, answered, vocabulary), STOP]
        made.append(Tokens(context + answer, [0] * len(context) + [1] * len(answer)))
    return made


def label_set(count: int, vocabulary: int, seed: int = 0) -> list[list[int]]:
    """Different labels of three tokens that share beginnings, as the names of intents do; without stop."""
    draw = np.random.default_rng(seed)
    heads = [draw_tokens(draw, 1, vocabulary) for _ in range(max(1, count // 3))]
    found: dict[tuple[int, ...], None] = {}
    while len(found) < count:
        head = heads[int(draw.integers(len(heads)))]
        found[(*head, *draw_tokens(draw, LABEL_TOKENS - 1, vocabulary))] = None
    return [list(label) for label in found]


def prompted_contexts(
    count: int, vocabulary: int, seed: int = 0, shared: int = SYSTEM_PROMPT, own: int = 40
) -> list[list[int]]:
    """Cases (b), (c), (d): a common system prompt, then an input of about `own` tokens (a normal, sd 30%)."""
    draw = np.random.default_rng(seed)
    prompt = draw_tokens(draw, shared, vocabulary)
    sizes = np.clip(np.round(draw.normal(own, 0.3 * own, count)), max(1, own // 4), 2 * own).astype(int)
    return [prompt + draw_tokens(draw, int(size), vocabulary) for size in sizes]


def classification_rows(count: int, vocabulary: int, seed: int = 0, labels: int = 150) -> list[Tokens]:
    """Case (b): such contexts, each with one of the labels and stop; these four tokens are scored."""
    names = label_set(labels, vocabulary, seed)
    draw = np.random.default_rng(seed + 1)
    made = []
    for context in prompted_contexts(count, vocabulary, seed):
        answer = [*names[int(draw.integers(labels))], STOP]
        made.append(Tokens(context + answer, [0] * len(context) + [1] * len(answer)))
    return made


def rows_with_share(count: int, length: int, share: float, scored: int, vocabulary: int) -> list[Tokens]:
    """Rows of one length whose first `share` is common to all and whose last `scored` tokens are scored."""
    draw = np.random.default_rng(0)
    common = draw_tokens(draw, round(share * length), vocabulary)
    made = []
    for _ in range(count):
        own = draw_tokens(draw, length - len(common), vocabulary)
        made.append(Tokens(common + own, [0] * (length - scored) + [1] * scored))
    return made


def answered_rows(
    prompts: int, answers: int, vocabulary: int, seed: int = 0, shared: int = SYSTEM_PROMPT
) -> list[AnsweredRow]:
    """Prompts of `shared` tokens, each with `answers` answers of 32 scored tokens, the last of them stop.

    worth: the k-th answer to a prompt is worth 1 where k is even, else 0, so groups differ and are pairs of
    a chosen and a rejected answer.
    """
    draw = np.random.default_rng(seed)
    made = []
    for group in range(prompts):
        prompt = draw_tokens(draw, shared, vocabulary)
        for number in range(answers):
            answer = [*draw_tokens(draw, ANSWER - 1, vocabulary), STOP]
            scored = [0] * len(prompt) + [1] * len(answer)
            made.append(AnsweredRow(prompt + answer, scored, group, float(number % 2 == 0)))
    return made
