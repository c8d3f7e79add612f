"""Law 4, label contract: the scored tokens are the answer's content and its true stop token, nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from templates_for_tests import THINKING
from tokenizers_for_tests import BASE, FAMILIES, save_tokenizer

from finetooth.data.render.chat_template import select_template
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import DataError
from finetooth.types import Answer, Example, Message

STOPS = {
    "chatml": "<|im_end|>",
    "chatml-default-system": "<|im_end|>",
    "thinking": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "llama3.1": "<|eot_id|>",
    "llama2": "</s>",
    "llama2-metaspace": "</s>",
    "zephyr": "</s>",
    "zephyr-without-bos": "</s>",
    "gemma": "<end_of_turn>",
    "gpt2": "<|endoftext|>",
    "llama-base": "</s>",
    "metaspace-base": "</s>",
}
SYSTEM, FIRST, SECOND = (
    Message("system", "Answer in one word."),
    Message("user", "What is the capital of France?"),
    Message("user", "And which way, left or right?"),
)
CONTEXTS = {
    "single": (FIRST,),
    "system": (SYSTEM, FIRST),
    "multi-turn": (FIRST, Message("assistant", "Paris, of course!"), SECOND),
    "system-multi-turn": (SYSTEM, FIRST, Message("assistant", "Paris"), SECOND),
    "thinking": (FIRST, Message("assistant", "<think>France?</think>\nParis"), SECOND),
}
ANSWERS = ["Paris", "Left, then right.", "a\nb\n\nc", "42", "Grüße 😀 an alle"]


def templates(family: str) -> list[str]:
    own = ["chat"] if family in FAMILIES else []
    return [*own, "instruction", "plain"]


@pytest.fixture(scope="session")
def tokenizer_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return {name: Tokenizer.load(save_tokenizer(folder / name, name)) for name in {**FAMILIES, **BASE}}


@pytest.mark.parametrize("shape", CONTEXTS)
@pytest.mark.parametrize("family", STOPS)
def test_scored_tokens_are_the_answers_and_their_stop(
    family: str, shape: str, tokenizer_of: dict[str, Tokenizer]
) -> None:
    tokenizer = tokenizer_of[family]
    for template in templates(family):
        if (family, shape, template) == ("qwen3", "thinking", "chat"):
            continue  # the template sets a thought's line breaks: see below
        renderer = Renderer(tokenizer, template)
        # A base model ends with its EOS whatever the template; a chat template with its own stop token.
        stop = STOPS[family] if template == "chat" else tokenizer.special_tokens["eos_token"]
        for answer in ANSWERS:
            rows = renderer.rows(Example("x", CONTEXTS[shape], (Answer(answer),)))
            answers = [message.content for message in CONTEXTS[shape] if message.role == "assistant"]
            assert len(rows) == len(answers) + 1
            for row, want in zip(rows, [*answers, answer], strict=True):
                scored = row.tokens[row.weight > 0]
                content = tokenizer.decode(scored[:-1]).strip()
                assert content == want.strip(), (template, shape)
                assert tokenizer.text_of(scored[-1]) == stop
                assert not set(scored[:-1].tolist()) & tokenizer.special_ids
                assert set(np.unique(row.weight)) == {0.0, 1.0}
                # Scored tokens are one stretch at the row's end: no template text comes after the stop token.
                assert (np.diff(row.weight) >= 0).all()


@pytest.mark.parametrize("family", STOPS)
def test_each_context_is_what_a_server_sends(family: str, tokenizer_of: dict[str, Tokenizer]) -> None:
    """The turns of a conversation are rows whose contexts are rendered one by one, as if they were asked."""
    messages = CONTEXTS["system-multi-turn"]
    for template in templates(family):
        renderer = Renderer(tokenizer_of[family], template, instruction="Be brief.")
        first, second = renderer.rows(Example("x", messages, (Answer("right"),)))
        assert [first.id, second.id] == ["x#1", "x#2"]
        for row, context in ((first, messages[:2]), (second, messages)):
            sent = renderer.context_row(context)
            assert not sent.weight.any()
            assert row.tokens[: len(sent)].tolist() == sent.tokens.tolist()
            assert row.weight[: len(sent)].max() == 0
        ids = renderer.answer_ids(messages, "right")
        assert second.tokens[second.weight > 0].tolist() == list(ids)


def test_earlier_thoughts_are_dropped_from_the_context_and_still_trained(tmp_path: Path) -> None:
    renderer = Renderer(Tokenizer.load(save_tokenizer(tmp_path, "thinking", THINKING)))
    first, second = renderer.rows(Example("x", CONTEXTS["thinking"], (Answer("right"),)))
    decode = renderer.tokenizer.decode
    assert "<think>France?</think>" in decode(first.tokens[first.weight > 0])
    assert "<think>" not in decode(second.tokens)


def test_an_empty_thought_is_in_the_context_and_not_scored(tokenizer_of: dict[str, Tokenizer]) -> None:
    """Qwen3 opens the last answer with an empty thought, its generation prompt only with thinking off."""
    renderer = Renderer(tokenizer_of["qwen3"])
    assert any("enable_thinking=false" in note for note in renderer.notes)
    for row in renderer.rows(Example("x", CONTEXTS["multi-turn"], (Answer("left"),))):
        context = renderer.tokenizer.decode(row.tokens[row.weight == 0])
        assert context.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
        assert context.count("<think>") == 1


def test_rows_with_a_thought_are_asked_with_thinking_on(tokenizer_of: dict[str, Tokenizer]) -> None:
    """One conversation: its first answer has a thought, its second has none."""
    renderer = Renderer(tokenizer_of["qwen3"])
    first, second = renderer.rows(Example("x", CONTEXTS["thinking"], (Answer("left"),)))
    decode = renderer.tokenizer.decode
    assert decode(first.tokens[first.weight > 0]) == "<think>\nFrance?\n</think>\n\nParis<|im_end|>"
    assert decode(first.tokens[first.weight == 0]).endswith("<|im_start|>assistant\n")
    assert decode(second.tokens[second.weight > 0]) == "left<|im_end|>"
    assert decode(second.tokens[second.weight == 0]).endswith("assistant\n<think>\n\n</think>\n\n")


def test_plain_text_scores_all_but_its_first_token(tokenizer_of: dict[str, Tokenizer]) -> None:
    for family, start in (("llama-base", "<s>"), ("gpt2", "<|endoftext|>"), ("chatml", "<|im_end|>")):
        tokenizer = tokenizer_of[family]
        renderer = Renderer(tokenizer)
        (row,) = renderer.rows(Example("x", (), (Answer("The quick brown fox"),)))
        assert tokenizer.text_of(row.tokens[0]) == start
        assert row.weight.tolist() == [0.0] + [1.0] * (len(row) - 1)
        assert row.tokens[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(row.tokens[1:-1]).strip() == "The quick brown fox"
    assert any("starts with its EOS" in note or "start with its EOS" in note for note in renderer.notes)


@pytest.mark.parametrize("family", ["chatml", "llama-base", "metaspace-base"])
def test_no_scored_token_raises(family: str, tokenizer_of: dict[str, Tokenizer]) -> None:
    renderer = Renderer(tokenizer_of[family])
    for context in ((FIRST,), ()):
        with pytest.raises(DataError, match=r"Row x: the answer is empty"):
            renderer.rows(Example("x", context, (Answer(" \n"),)))
    with pytest.raises(DataError, match="empty"):
        renderer.answer_ids((FIRST,), "")


def test_a_missing_stop_token_raises(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}"
    template += "{% if add_generation_prompt %}assistant: {% endif %}"
    tokenizer = Tokenizer.load(save_tokenizer(tmp_path, "chatml", template))
    with pytest.raises(DataError, match=r"no special token after an answer .*eos_token"):
        Renderer(tokenizer)


def test_a_doubled_bos_raises(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(save_tokenizer(tmp_path, "llama3"))
    assert tokenizer.chat_template
    path = tmp_path / "doubled.jinja"
    path.write_text("{{- bos_token }}" + tokenizer.chat_template, encoding="utf-8")
    with pytest.raises(DataError, match=r"starts with '<\|begin_of_text\|>' twice"):
        Renderer(tokenizer, str(path))


def test_templates_are_chosen_by_name(tokenizer_of: dict[str, Tokenizer], tmp_path: Path) -> None:
    assert Renderer(tokenizer_of["chatml"]).kind == "chat"
    assert Renderer(tokenizer_of["gpt2"]).kind == "instruction"
    assert select_template(tokenizer_of["gpt2"], "plain")[0] == "plain"
    with pytest.raises(DataError, match="no chat template"):
        Renderer(tokenizer_of["gpt2"], "chat")
    with pytest.raises(DataError, match="no such file"):
        Renderer(tokenizer_of["gpt2"], str(tmp_path / "missing.jinja"))
