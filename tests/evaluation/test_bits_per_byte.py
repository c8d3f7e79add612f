"""Bits per byte: a ratio over all rows, whatever the tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from finetooth.errors import GradeError, ModelError
from finetooth.evaluation.bits_per_byte import answer_bits, answer_bytes, per_byte
from finetooth.types import Answer, Example, Message


def example(answer: str, **more: object) -> Example:
    return Example(answer, (Message("user", "?"),), (Answer(answer, more=more),), tags={"line": 1})


@dataclass
class Coin:
    """Every token halves the likelihood; an answer of one letter has none."""

    name: str = "coin"
    damaged: bool = False

    def answer_logprobs(self, examples: Sequence[Example]) -> Iterator[np.ndarray | str]:
        for one in examples:
            tokens = np.full(len(one.target) + 1, np.log(np.nan if self.damaged else 0.5))
            yield "too short" if len(one.target) == 1 else tokens


def test_bytes_are_those_of_utf8_with_reasoning_and_calls() -> None:
    call = {"function": {"name": "f", "arguments": "{}"}}
    rows = [
        example("ok"),
        example("é"),
        example(""),
        example("ok", reasoning_content="hm"),
        example("", tool_calls=[call]),
    ]
    assert answer_bytes(rows).tolist() == [2, 2, 1, 4, len('{"name": "f", "arguments": {}}')]


def test_bits_are_of_all_tokens_and_rows_without_are_named() -> None:
    bits_R, reasons = answer_bits(Coin(), [example("four"), example("x"), example("two")])
    assert bits_R.tolist() == pytest.approx([5.0, np.nan, 4.0], nan_ok=True)
    assert len(reasons) == 1 and reasons[0].endswith("too short")
    with pytest.raises(ModelError, match="NaN"):
        answer_bits(Coin(damaged=True), [example("four")])


def test_the_mean_is_of_all_bits_over_all_bytes() -> None:
    bits_R, bytes_R = np.array([1.0, np.nan, 30.0]), np.array([1.0, 5.0, 10.0])
    found = per_byte(bits_R, bytes_R)
    assert found.value == pytest.approx(31 / 11) and found.low < 31 / 11 < found.high
    with pytest.raises(GradeError):
        per_byte(bits_R[1:2], bytes_R[1:2])


def test_rows_of_one_cluster_are_one_observation() -> None:
    draw = np.random.default_rng(0)
    bits_R, bytes_R = draw.gamma(3.0, size=60), draw.integers(3, 20, 60).astype(float)
    alone = per_byte(bits_R, bytes_R)
    copies = per_byte(np.repeat(bits_R, 4), np.repeat(bytes_R, 4), [str(row // 4) for row in range(240)])
    blind = per_byte(np.repeat(bits_R, 4), np.repeat(bytes_R, 4))
    assert copies.value == pytest.approx(alone.value)
    assert copies.high - copies.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert blind.high - blind.low < 0.7 * (alone.high - alone.low)


@pytest.mark.parametrize(("rows", "draws", "least"), [(20, 300, 0.9), (40, 60, 0.85)])
def test_the_interval_holds_the_true_ratio(rows: int, draws: int, least: float) -> None:
    """Long answers take fewer bits per byte here, so a mean of ratios would be another number."""
    draw, held = np.random.default_rng(7), 0
    true = (2.0 + 0.5 * 10.5) / 10.5
    for _ in range(draws):
        bytes_R = draw.integers(1, 21, rows).astype(float)
        bits_R = 2.0 + 0.5 * bytes_R + draw.normal(0, 0.5, rows)
        found = per_byte(bits_R, bytes_R)
        held += found.low <= true <= found.high
    assert least * draws <= held <= 0.985 * draws + 1
