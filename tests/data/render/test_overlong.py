"""Overlong rows: raised by default, dropped or cut where the user says so, and always listed."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers_for_tests import save_tokenizer

from finetooth.data.render.overlong import fit_rows
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import DataError
from finetooth.tree import Row
from finetooth.types import Answer, Example, Message

QUESTION = "Numbers such as 1, 23, 456 and 7890. " * 10


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    folder = tmp_path_factory.mktemp("tokenizer")
    return Renderer(Tokenizer.load(save_tokenizer(folder, "llama3")), instruction="Be brief.")


def example(id: str, question: str, answer: str = "left") -> Example:
    return Example(id, (Message("user", question),), (Answer(answer),), {"file": "a.jsonl", "line": 3})


def test_rows_that_fit_are_left_alone(renderer: Renderer) -> None:
    rows = renderer.rows(example("a", "Which way?"))
    assert fit_rows(rows, len(rows[0]), "raise").rows == rows
    assert fit_rows(rows, None, "raise").rows == rows


def test_raise_names_rows_with_file_and_line_and_says_what_to_type(renderer: Renderer) -> None:
    examples = [example("fits", "Which way?"), example("long", QUESTION)]
    rows = [row for item in examples for row in renderer.rows(item)]
    with pytest.raises(DataError) as caught:
        fit_rows(rows, 60, "raise", examples)
    message = str(caught.value)
    assert "1 of 2 rows are longer than 60 tokens" in message and str(len(rows[1])) in message
    assert "long (a.jsonl, line 3)" in message and "fits" not in message
    assert "data.overlong: cut" in message and "data.max_tokens" in message


def test_a_pair_that_is_too_long_is_named_once(renderer: Renderer) -> None:
    (row,) = renderer.rows(example("long", QUESTION))
    pair = [Row(row.tokens, row.weight, row.signals, unit="pair", id=row.id) for _ in range(2)]
    with pytest.raises(DataError, match=r"\(the longest: \d+\): long\. Set"):
        fit_rows(pair, 60, "raise")


def test_drop_keeps_the_order_and_lists_what_went(renderer: Renderer) -> None:
    examples = [example("a", "Which way?"), example("long", QUESTION), example("b", "What?")]
    rows = [row for item in examples for row in renderer.rows(item)]
    fitted = fit_rows(rows, 60, "drop")
    assert [row.id for row in fitted.rows] == ["a", "b"]
    assert (fitted.dropped, fitted.cut) == (["long"], [])
    with pytest.raises(DataError, match="All 1 rows"):
        fit_rows([rows[1]], 60, "drop")


@pytest.mark.parametrize("limit", [50, 60, 100])
def test_cut_takes_the_oldest_context_and_nothing_else(limit: int, renderer: Renderer) -> None:
    (row,) = renderer.rows(example("long", QUESTION))
    fitted = fit_rows([row], limit, "cut")
    (cut,) = fitted.rows
    assert fitted.cut == ["long"] and len(cut) == limit
    decode = renderer.tokenizer.decode
    text = decode(cut.tokens)
    assert text.startswith(
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n"
    )
    assert text.endswith("<|start_header_id|>assistant<|end_header_id|>\n\nleft<|eot_id|>")
    assert np.array_equal(cut.tokens[cut.weight > 0], row.tokens[row.weight > 0])
    head = row.kept[0]
    kept = len(cut) - head
    assert np.array_equal(cut.tokens[head:], row.tokens[len(row) - kept :])  # the newest context stays


def test_cut_never_loses_scored_tokens(renderer: Renderer) -> None:
    examples = [example("wordy", "Which way?", QUESTION)]
    (row,) = renderer.rows(examples[0])
    with pytest.raises(DataError, match=r"do not fit 60 tokens even without their context: wordy \(a\.jsonl"):
        fit_rows([row], 60, "cut", examples)


def test_cut_never_takes_the_answers_opening(renderer: Renderer) -> None:
    (row,) = renderer.rows(example("long", QUESTION))
    least = sum(row.kept) + int(np.count_nonzero(row.weight))
    assert len(fit_rows([row], least, "cut").rows[0]) == least
    with pytest.raises(DataError, match="do not fit"):
        fit_rows([row], least - 1, "cut")


def test_cut_shortens_signals_per_token() -> None:
    row = Row([1, 2, 3, 4, 5], [0, 0, 0, 1, 1], {"old": np.arange(5.0), "reward": 2.0})
    (cut,) = fit_rows([row], 4, "cut").rows
    assert cut.tokens.tolist() == [1, 3, 4, 5]
    assert cut.signals["old"].tolist() == [0, 2, 3, 4] and cut.signals["reward"] == 2.0


def test_turns_of_a_conversation_are_found_by_their_example() -> None:
    rows = [Row(range(9), [0] * 8 + [1], id="talk#2", example_id="talk")]
    examples = [Example("talk", (), (Answer("a"),), {"file": "a.jsonl", "line": 12})]
    with pytest.raises(DataError, match=r"talk \(a\.jsonl, line 12\)"):
        fit_rows(rows, 5, "raise", examples)
