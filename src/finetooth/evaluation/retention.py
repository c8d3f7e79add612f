"""Retention: what fine-tuning for one task took from the model, on a fixed panel (panel.yaml).

The base and the tuned model get the same tokens: beginnings of statements and requests in the base's chat
format, each with a right end and three wrong ones, and general prose. Of the former the probability of the
right end among the four is compared, row by row; it moves before the best answer does, so 120 items tell a
loss of a few points. The panel is small and in English: it finds damage, and proves no skill.

Axes: I items of the panel, T texts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from finetooth.errors import DataError, ModelError
from finetooth.evaluation.statistics import compare
from finetooth.tree import Row
from finetooth.types import Message

if TYPE_CHECKING:
    from finetooth.data.render.renderer import Renderer
    from finetooth.model.api import Model

FILE = "evaluate/retention.json"  # of a run
INTERPOLATION = "train/interpolation.json"  # of a run that was made by interpolation with its base
ENDS = 4  # of an item; the first is right
FORGOTTEN, KEPT, NOT_PROVEN = "forgotten", "kept", "not proven"


@dataclass(frozen=True, slots=True)
class Panel:
    """Items: a beginning, its right end and three wrong ones. requests: the same, asked in a chat."""

    statements: tuple[tuple[str, ...], ...]
    requests: tuple[tuple[str, ...], ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PanelScores:
    """right_I: probability of the right end among the four, statements first. bits_T: bits of each text."""

    right_I: np.ndarray
    bits_T: np.ndarray


@cache
def read_panel() -> Panel:
    """The panel of the package."""
    source = resources.files("finetooth.evaluation").joinpath("panel.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(source)
    statements, requests = (tuple(map(tuple, content[kind])) for kind in ("statements", "requests"))
    return Panel(statements, requests, tuple(content["texts"]))


def panel_rows(renderer: Renderer, panel: Panel) -> list[Row]:
    """The rows of the panel, ends scored: ENDS for each item, then the texts.

    renderer: of the base, without a task's instruction. Raises DataError where its template cannot ask.
    """
    encode = renderer.tokenizer.encode
    first = renderer.tokenizer.bos_token_id
    start = [first if first is not None else encode("\n")[0]]
    rows = []
    for beginning, *ends in panel.statements:
        context = [*start, *encode(beginning)]
        rows += [_scored(context, [*start, *encode(f"{beginning} {end}")]) for end in ends]
    for request, *ends in panel.requests:
        messages = (Message("user", request),)
        context = renderer.context_row(messages, (), None).tokens.tolist()
        rows += [_scored(context, [*context, *renderer.answer_ids(messages, end)]) for end in ends]
    return rows + [_scored(start, [*start, *encode(text)]) for text in panel.texts]


def score_panel(model: Model, rows: list[Row]) -> PanelScores:
    """Score the rows of `panel_rows`. Raises ModelError for log-probabilities that are not numbers."""
    from finetooth.model.inference import row_logprobs  # here: the report reads this module without torch

    nats_R = np.array([logp_M.sum() for logp_M in row_logprobs(model, rows)])
    if not np.isfinite(nats_R).all():
        raise ModelError(f"{model.name}: its log-probabilities are not numbers; its weights are damaged.")
    panel = read_panel()
    ends = ENDS * (len(panel.statements) + len(panel.requests))
    nats_IE = nats_R[:ends].reshape(-1, ENDS)
    weight_IE = np.exp(nats_IE - nats_IE.max(1, keepdims=True))
    return PanelScores(weight_IE[:, 0] / weight_IE.sum(1), -nats_R[ends:] / math.log(2))


def retention(base: PanelScores, tuned: PanelScores, margin: float) -> dict[str, Any]:
    """What the tuned model kept: the numbers, a verdict, and words.

    margin: the loss of probability of the right end that is tolerated. `kept`: the interval of the difference
    excludes a larger loss (non-inferiority). `forgotten`: the loss is larger than the margin, and proven to
    be one. Else `not proven`.
    """
    panel = read_panel()
    compared = asdict(compare(base.right_I.tolist(), tuned.right_I.tolist()))
    split = len(panel.statements)
    size = sum(len(text.encode()) for text in panel.texts)
    verdict = verdict_of(compared, margin)
    result: dict[str, Any] = {
        "verdict": verdict,
        "margin": margin,
        **{key: compared[key] for key in ("n", "difference", "low", "high", "p")},
        "bits_per_byte": {name: float(of.bits_T.sum()) / size for name, of in _both(base, tuned)},
    }
    for name, part in (("statements", slice(split)), ("requests", slice(split, None))):
        result[name] = {who: float(of.right_I[part].mean()) for who, of in _both(base, tuned)}
    return {**result, "words": _words(result)}


def verdict_of(compared: Mapping[str, float], margin: float) -> str:
    """`kept` where the interval excludes a loss of the margin, `forgotten` for a proven one beyond it."""
    if compared["low"] > -margin:
        return KEPT
    proven = compared["high"] < 0 and compared["difference"] < -margin
    return FORGOTTEN if proven else NOT_PROVEN


def _both(base: PanelScores, tuned: PanelScores) -> tuple[tuple[str, PanelScores], ...]:
    return ("base", base), ("tuned", tuned)


def _words(found: dict[str, Any]) -> str:
    low, high = (100 * found[key] for key in ("low", "high"))
    bits = found["bits_per_byte"]
    more = 100 * (bits["tuned"] / bits["base"] - 1)
    what = (
        f"on {found['n']} general questions the right answer's probability among four changed by "
        f"{100 * found['difference']:+.1f} points (95% confidence interval {low:+.1f} to {high:+.1f}; "
        f"statements {_change(found['statements'])}, chat requests {_change(found['requests'])}), and "
        f"general prose takes {more:+.0f}% bits per byte"
    ).replace("-", "−")
    margin = f"{100 * found['margin']:g} points"
    if found["verdict"] == KEPT:
        return f"General ability is kept: {what}. A loss of {margin} or more is excluded."
    if found["verdict"] == FORGOTTEN:
        return f"The model has forgotten: {what}. That is more than the tolerated {margin}."
    return f"Whether general ability is kept is not proven: {what}. A loss of {margin} is not excluded."


def _change(part: dict[str, float]) -> str:
    return f"{100 * (part['tuned'] - part['base']):+.1f}"


def _scored(context: list[int], whole: list[int]) -> Row:
    """The row of a context and its end; what tokenization merged across the boundary is scored too."""
    same = next((at for at, pair in enumerate(zip(context, whole, strict=False)) if pair[0] != pair[1]), None)
    begun = min(len(context), len(whole) - 1) if same is None else same
    if begun < 1:
        raise DataError("A row of the panel has nothing in front of what is scored.")
    return Row(whole, [0.0] * begun + [1.0] * (len(whole) - begun))
