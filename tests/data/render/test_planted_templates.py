"""Known failures 1 to 4 and 19, planted where templates, tools and added tokens meet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from contexts_for_tests import checked
from golden_templates_for_tests import GOLDEN, renderer_of
from templates_for_tests import CHATML, LLAMA3
from tokenizers_for_tests import save_tokenizer

from finetooth.config.task import build_task
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import DataError
from finetooth.types import Answer, Example, Message

QUESTION = Message("user", "Which way?")
EXAMPLE = Example("x", (QUESTION,), (Answer("left"),))
ROWS = [{"text": f"message {k}", "label": ("ham", "spam")[k % 3 == 0]} for k in range(60)]


def test_1_a_call_that_is_closed_by_another_token_than_answers_is_refused(tmp_path: Path) -> None:
    """Planted: calls end with a token of their own, at which a server with the answers' stop goes on."""
    source = (GOLDEN / "qwen2.5.jinja").read_text(encoding="utf-8")
    closing = "{{- '<|im_end|>\\n' }}\n    {%- endif %}\n{%- endfor %}"
    assert closing in source
    path = tmp_path / "own.jinja"
    changed = closing.replace("'<|im_end|>\\n'", "'<|call|>\\n' if message.tool_calls else '<|im_end|>\\n'")
    path.write_text(source.replace(closing, changed), encoding="utf-8")
    tokenizer = renderer_of(tmp_path / "tokenizer", "qwen2.5").tokenizer
    call = {"tool_calls": [{"name": "f", "arguments": {}}]}
    with pytest.raises(DataError, match="no stop token"):
        Renderer(tokenizer, str(path)).rows(Example("x", (QUESTION,), (Answer("", more=call),)))


def test_2_an_answer_in_the_text_of_a_thought_is_scored_behind_it(tmp_path: Path) -> None:
    """Planted: thought and answer are the same text, so that a search would score the wrong one or half."""
    renderer = renderer_of(tmp_path, "qwen3")
    same = Example("x", (QUESTION,), (Answer("left", more={"reasoning_content": "left"}),))
    (row,) = renderer.rows(same)
    assert (
        renderer.tokenizer.decode(row.tokens[row.weight > 0]) == "<think>\nleft\n</think>\n\nleft<|im_end|>"
    )


def test_3_a_bos_in_front_of_tools_is_still_one(tmp_path: Path) -> None:
    """Planted: the template writes BOS, and again where it writes the system message."""
    tokenizer = Tokenizer.load(save_tokenizer(tmp_path, "llama3"))
    path = tmp_path / "own.jinja"
    path.write_text(
        "{% if messages[0].role == 'system' %}{{ bos_token }}{% endif %}" + LLAMA3, encoding="utf-8"
    )
    renderer = Renderer(tokenizer, str(path))
    assert renderer.rows(EXAMPLE)
    with pytest.raises(DataError, match="twice"):
        renderer.rows(Example("x", (Message("system", "Be brief."), QUESTION), (Answer("left"),)))


def test_4_a_system_message_that_goes_when_the_answer_comes_is_folded(tmp_path: Path) -> None:
    """Planted: Mistral's template writes it beside the last message only, so no training text has it."""
    renderer = renderer_of(tmp_path, "mistral")
    assert any("takes no system message" in note for note in renderer.notes)
    system = (Message("system", "Be brief."), QUESTION, Message("assistant", "left"), QUESTION)
    for row in renderer.rows(Example("x", system, (Answer("right"),))):
        assert "[INST] Be brief.\n\nWhich way?[/INST]" in renderer.tokenizer.decode(row.tokens)


def test_4_a_name_that_a_template_does_not_write_is_noted(tmp_path: Path) -> None:
    renderer = renderer_of(tmp_path, "chatml")
    named = Message("user", "Which way?", more={"name": "Ada"})
    renderer.rows(Example("x", (named,), (Answer("left"),)))
    assert any("does not write the `name`" in note for note in renderer.notes)


def test_19_markup_that_the_tokenizer_does_not_know_is_noted(tmp_path: Path) -> None:
    """Planted: a ChatML file on a tokenizer whose EOS ends answers, but that has no <|im_start|>."""
    path = tmp_path / "own.jinja"
    path.write_text(CHATML.replace("'<|im_end|>'", "eos_token"), encoding="utf-8")
    renderer = Renderer(Tokenizer.load(save_tokenizer(tmp_path / "tokenizer", "gpt2")), str(path))
    assert any("writes <|im_start|>, and this tokenizer has no such token" in note for note in renderer.notes)
    known = Renderer(Tokenizer.load(save_tokenizer(tmp_path / "chatml", "chatml")), str(path))
    assert not any("no such token" in note for note in known.notes)


@pytest.mark.parametrize("nested", [True, False])
def test_19_tokens_without_an_embedding_stop_the_check(nested: bool, tmp_path: Path) -> None:
    """Planted: the template's tokens were added to the tokenizer and not to the model."""
    save_tokenizer(tmp_path, "chatml", extra_special_tokens=["<|turn|>"], chat_template=CHATML.replace(
        "<|im_start|>", "<|turn|>"))  # fmt: skip
    tokenizer = Tokenizer.load(tmp_path)
    added = tokenizer.id_of("<|turn|>")
    assert added == tokenizer.vocab_size - 1
    for size, fits in ((added, False), (added + 1, True)):
        config = {"text_config": {"vocab_size": size}} if nested else {"vocab_size": size}
        (tmp_path / "config.json").write_text(json.dumps(config))
        report = checked(build_task({"model": str(tmp_path), "data": {"train": ROWS}}))
        assert report.ok is fits
        assert (
            any("no embedding for 1 token in these rows: '<|turn|>'" in text for text in report.problems)
            != fits
        )
