"""Rows as `check` shows them: scored tokens, markup, whitespace and folds, with and without colour."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from golden_templates_for_tests import renderer_of
from rich.console import Console

from finetooth.data.render.renderer import Renderer
from finetooth.quality.survey import Sample, plain_samples, sample
from finetooth.report.row_text import SHOWN_CHARACTERS, row_text
from finetooth.types import Answer, Example, Message


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    return renderer_of(tmp_path_factory.mktemp("tokenizer"), "chatml")


def made(renderer: Renderer, question: str, answer: str, *earlier: Message) -> Sample:
    example = Example("x", (*earlier, Message("user", question)), (Answer(answer),))
    return sample(renderer, example, renderer.rows(example))


def shown(one: Sample, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(row_text(one))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_row_without_colour(renderer: Renderer) -> None:
    size = len(renderer.context_row([Message("user", "Which way?")]))
    assert shown(made(renderer, "Which way?", "Left, then right.")) == (
        f"Row x, scored between ⟦ ⟧: {size} tokens of context, 6 scored\n"
        "<|im_start|>user↵\n"
        "Which way?<|im_end|>↵\n"
        "<|im_start|>assistant↵\n"
        "⟦Left, then right.<|im_end|>⟧\n"
    )


def test_whitespace_is_seen_where_it_could_be_overlooked(renderer: Renderer) -> None:
    text = shown(made(renderer, " a b \n\tc  d\u00a0e", "\n f \x1b[31mg\u200bh\u202e\r"))
    assert "·a b·↵\n⇥c··d⍽e<|im_end|>" in text
    assert "⟦↵\n·f ␛[31mg‹200b›h‹202e›␍<|im_end|>⟧" in text
    assert "\x1b" not in text


def test_every_scored_token_is_coloured_and_nothing_else(renderer: Renderer) -> None:
    one = made(renderer, "Which way? Grüße 😀", "Grüße 😀, then right.")
    text = row_text(one)
    parts = [(text.plain[span.start : span.end], str(span.style)) for span in text.spans]
    green = [(part, style) for part, style in parts if "underline" in style]
    assert "".join(part for part, _ in green) == "Grüße 😀, then right.<|im_end|>" == one.scored
    assert green[-1][0] == "<|im_end|>" and green[-1][1].startswith("bold")
    assert len({style for _, style in green[:-1]}) == 2, "tokens are told apart"
    markup = [part for part, style in parts if style == "magenta"]
    assert markup == ["<|im_start|>", "<|im_end|>", "<|im_start|>"]
    assert "".join(piece.text for piece in one.pieces) == one.context + one.scored


def test_a_long_context_is_folded_in_its_middle(renderer: Renderer) -> None:
    words = " ".join(f"word{number}" for number in range(2000))
    text = shown(made(renderer, words, words), width=10_000)
    assert "word0 word1 " in text and " word1999<|im_end|>↵" in text and "word1000" not in text
    assert text.count(" tokens …]") == 2
    assert len(text) < 2 * SHOWN_CHARACTERS + 300


def test_earlier_answers_of_a_conversation_are_said_to_be_rows_of_their_own(renderer: Renderer) -> None:
    earlier = Message("user", "Which way?"), Message("assistant", "Left.")
    text = shown(made(renderer, "Why?", "Because.", *earlier))
    assert "the last of 2 answers, each a row of its own" in text
    assert text.count("⟦") == 2 and "⟦Because.<|im_end|>⟧" in text


def test_without_a_tokenizer_words_are_shown_and_what_else_a_turn_has() -> None:
    call = {"name": "f", "arguments": {"a": 1}}
    example = Example(
        "x", (Message("user", "Which way? " * 300),), (Answer("", more={"tool_calls": [call]}),)
    )
    text = shown(plain_samples([example])[0], width=10_000)
    assert " words …]" in text and '⟦{"tool_calls": [{"name": "f", "arguments": {"a": 1}}]}⟧' in text


def test_plain_text_is_scored_but_for_its_start(tmp_path: Path) -> None:
    renderer = renderer_of(tmp_path, "llama2")
    example = Example("x", (), (Answer("Which way?"),))
    assert shown(sample(renderer, example, renderer.rows(example))).endswith("\n<s>⟦Which way?</s>⟧\n")
