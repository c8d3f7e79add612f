"""Thoughts: scored as a template writes them, asked for by its switch, refused where it drops them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from golden_templates_for_tests import CAPITAL, WAY, renderer_of
from transformers import AutoTokenizer

from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.data.render.turns import as_dicts
from finetooth.errors import DataError
from finetooth.types import Answer, Example, Message

THINKING = {"reasoning_content": "The fox."}


@pytest.fixture(scope="module")
def renderers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Renderer]:
    names = ("chatml", "qwen3", "qwen3-thinking", "deepseek")
    return {name: renderer_of(tmp_path_factory.mktemp(name), name) for name in names}


def scored(renderer: Renderer, example: Example) -> list[str]:
    return [renderer.tokenizer.decode(row.tokens[row.weight > 0]) for row in renderer.rows(example)]


@pytest.mark.parametrize("answer", [Answer("Left.", more=THINKING), Answer("<think>The fox.</think>Left.")])
def test_a_thought_is_scored_and_asked_for(answer: Answer, renderers: dict[str, Renderer]) -> None:
    renderer = renderers["qwen3"]
    example = Example("x", (WAY,), (answer,))
    assert scored(renderer, example) == ["<think>\nThe fox.\n</think>\n\nLeft.<|im_end|>"]
    assert renderer.thinks(example)
    (row,) = renderer.rows(example)
    asked = renderer.context_row(example.context, thinking=True).tokens.tolist()
    assert row.tokens[row.weight == 0].tolist() == asked
    quiet = renderer.context_row(example.context)
    assert renderer.tokenizer.decode(quiet.tokens).endswith("<think>\n\n</think>\n\n")
    assert not renderer.thinks(Example("x", (WAY,), (Answer("Left."),)))


def test_an_empty_thought_of_the_users_own_is_the_one_in_the_context(renderers: dict[str, Renderer]) -> None:
    own = Example("x", (WAY,), (Answer("<think>\n\n</think>\n\nLeft."),))
    bare = Example("x", (WAY,), (Answer("Left."),))
    (one,), (two,) = renderers["qwen3"].rows(own), renderers["qwen3"].rows(bare)
    assert one.tokens.tolist() == two.tokens.tolist() and one.weight.tolist() == two.weight.tolist()
    assert scored(renderers["chatml"], own) == ["<think>\n\n</think>\n\nLeft.<|im_end|>"]


def test_4_a_thought_that_a_template_drops_from_the_answer_is_refused(renderers: dict[str, Renderer]) -> None:
    """Planted: DeepSeek's template cuts thoughts, ChatML's does not know the field."""
    example = Example("x", (WAY,), (Answer("Left.", more=THINKING),))
    for family in ("chatml", "deepseek"):
        with pytest.raises(DataError, match="leaves out the reasoning"):
            renderers[family].rows(example)
    with pytest.raises(DataError, match="leaves out the reasoning"):
        renderers["deepseek"].rows(Example("x", (WAY,), (Answer("<think>The fox.</think>Left."),)))


def test_thoughts_of_earlier_turns_that_leave_the_context_are_noted(tmp_path: Path) -> None:
    renderer = renderer_of(tmp_path, "qwen3")
    example = Example(
        "x", (WAY, Message("assistant", "Left.", more=THINKING), CAPITAL), (Answer("Paris", more=THINKING),)
    )
    first, second = scored(renderer, example)
    assert first.startswith("<think>\nThe fox.") and second.startswith("<think>\nThe fox.")
    context = renderer.tokenizer.decode(renderer.rows(example)[1].tokens)
    assert context.count("The fox.") == 1
    assert sum("reasoning of earlier turns" in note for note in renderer.notes) == 1


def test_a_template_that_always_thinks_takes_only_thoughts(renderers: dict[str, Renderer]) -> None:
    renderer = renderers["qwen3-thinking"]
    assert any("opens every answer with reasoning" in note for note in renderer.notes)
    example = Example("x", (WAY,), (Answer("Left.", more=THINKING),))
    assert scored(renderer, example) == ["The fox.\n</think>\n\nLeft.<|im_end|>"]
    with pytest.raises(DataError, match="is not the answer"):
        renderer.rows(Example("x", (WAY,), (Answer("Left."),)))


def test_4_what_is_saved_asks_by_default_as_the_rows_did(tmp_path: Path) -> None:
    """Planted: a server that says nothing about thinking, after training on thoughts, on none, on both."""
    thoughts = [Example("x", (WAY,), (Answer("Left.", more=THINKING),))]
    none = [Example("y", (WAY,), (Answer("Left."),))]
    for name, examples, default in (("t", thoughts, True), ("n", none, False), ("b", thoughts + none, False)):
        renderer = renderer_of(tmp_path / name, "qwen3")
        renderer.render_all(examples)
        for again in range(2):  # and once more, from what was saved
            saved = tmp_path / f"{name}{again}"
            renderer.tokenizer.save(saved, renderer.chat_template)
            other = AutoTokenizer.from_pretrained(str(saved), local_files_only=True)
            options: dict[str, Any] = {"add_generation_prompt": True, "return_dict": False}
            asked = other.apply_chat_template(as_dicts([WAY]), **options)
            assert asked == renderer.context_row([WAY], thinking=default).tokens.tolist()
            for switch in (True, False):
                asked = other.apply_chat_template(as_dicts([WAY]), enable_thinking=switch, **options)
                assert asked == renderer.context_row([WAY], thinking=switch).tokens.tolist()
            renderer = Renderer(Tokenizer.load(saved))
            renderer.render_all(examples)
        assert any("1 of 2 answers begin with reasoning" in note for note in renderer.notes) is (name == "b")
