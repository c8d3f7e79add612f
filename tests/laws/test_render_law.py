"""Law 5, render law: rendering on tokenizers alone gives the ids that transformers gives, token for token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers_for_tests import BASE, FAMILIES, save_tokenizer
from transformers import AutoTokenizer

from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.types import Message

CONVERSATIONS = [
    [Message("user", "What is the capital of France?")],
    [Message("user", "  spaces around \n")],
    [Message("system", "Be brief."), Message("user", "Grüße 😀 <b>&amp;</b>\ttab")],
    [Message("user", "a"), Message("assistant", " b "), Message("user", "c\n\n")],
    [Message("user", "an injected </s><|im_end|><end_of_turn> token")],
    [Message("system", "S"), Message("user", "1"), Message("assistant", "2"), Message("user", "3")],
]


def as_dicts(messages: list[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


# What transformers is told besides, for a template that is used with its own switch.
SWITCHES: dict[str, dict[str, Any]] = {"qwen3": {"enable_thinking": False}}


def reference(directory: Path) -> Any:
    return AutoTokenizer.from_pretrained(str(directory), local_files_only=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_contexts_are_those_of_apply_chat_template(family: str, tmp_path: Path) -> None:
    directory = save_tokenizer(tmp_path, family)
    renderer, other = Renderer(Tokenizer.load(directory)), reference(directory)
    for messages in CONVERSATIONS:
        if family == "gemma" and messages[0].role == "system":
            system, first, *rest = messages  # the template refuses a system message: it is folded
            asked = [Message("user", f"{system.content}\n\n{first.content}"), *rest]
        else:
            asked = messages
        want = other.apply_chat_template(
            as_dicts(asked), add_generation_prompt=True, return_dict=False, **SWITCHES.get(family, {})
        )
        assert renderer.context_row(messages).tokens.tolist() == want


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_the_beginning_of_the_full_rendering(family: str, tmp_path: Path) -> None:
    """Where the ids of the whole conversation start with the context's, the row is their beginning."""
    directory = save_tokenizer(tmp_path, family)
    renderer, other = Renderer(Tokenizer.load(directory)), reference(directory)
    messages = [Message("user", "What is the capital of France?")]
    row = [*renderer.context_row(messages).tokens.tolist(), *renderer.answer_ids(messages, "Paris")]
    full = other.apply_chat_template(
        as_dicts([*messages, Message("assistant", "Paris")]), add_generation_prompt=False, return_dict=False
    )
    assert renderer.boundary_merges == 0
    assert full[: len(row)] == row


@pytest.mark.parametrize("template", ["instruction", "plain"])
@pytest.mark.parametrize("family", [*BASE, "chatml", "llama3"])
def test_the_template_that_travels_gives_other_tools_the_same_ids(
    family: str, template: str, tmp_path: Path
) -> None:
    """Known failure 4: the model is saved with the template that it was trained with, BOS included."""
    tokenizer = Tokenizer.load(save_tokenizer(tmp_path / "base", family))
    renderer = Renderer(tokenizer, template, instruction="Translate.")
    tokenizer.save(tmp_path / "tuned", renderer.chat_template)
    other = reference(tmp_path / "tuned")
    again = Renderer(Tokenizer.load(tmp_path / "tuned"))
    for messages in CONVERSATIONS:
        row = renderer.context_row(messages).tokens.tolist()
        own = [message.content for message in messages if message.role == "system"]
        system = Message("system", "\n\n".join(["Translate.", *own]))
        asked = [system, *(message for message in messages if message.role != "system")]
        assert (
            other.apply_chat_template(as_dicts(asked), add_generation_prompt=True, return_dict=False) == row
        )
        assert again.context_row(asked).tokens.tolist() == row
    assert again.kind == "chat" and again.stop_id == renderer.stop_id


def test_a_template_that_needed_its_switch_travels_without_it(tmp_path: Path) -> None:
    """What is saved beside a tuned Qwen3 renders contexts and whole conversations as in training, unasked."""
    tokenizer = Tokenizer.load(save_tokenizer(tmp_path / "base", "qwen3"))
    renderer, base = Renderer(tokenizer), reference(tmp_path / "base")
    tokenizer.save(tmp_path / "tuned", renderer.chat_template)
    tuned, again = reference(tmp_path / "tuned"), Renderer(Tokenizer.load(tmp_path / "tuned"))
    for messages in CONVERSATIONS:
        row = renderer.context_row(messages).tokens.tolist()
        assert (
            tuned.apply_chat_template(as_dicts(messages), add_generation_prompt=True, return_dict=False)
            == row
        )
        assert again.context_row(messages).tokens.tolist() == row
        whole = as_dicts([*messages, Message("assistant", "Paris")])
        full = tuned.apply_chat_template(whole, return_dict=False)
        assert full == base.apply_chat_template(whole, return_dict=False)
        answer = [*renderer.answer_ids(messages, "Paris")]
        assert full[: len(row) + len(answer)] == row + answer
    assert again.notes == [] and again.chat_template == renderer.chat_template


@pytest.mark.parametrize("family", [*FAMILIES, *BASE])
def test_texts_are_encoded_as_transformers_encodes_them(family: str, tmp_path: Path) -> None:
    directory = save_tokenizer(tmp_path, family)
    tokenizer, other = Tokenizer.load(directory), reference(directory)
    for text in ("The quick brown fox", " x", "a\n\nb", "😀", "Which way</s>?<|im_end|>"):
        assert tokenizer.encode(text) == other.encode(text, add_special_tokens=False)
        assert [*tokenizer.prefix_ids, *tokenizer.encode(text)] == other.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == other.decode(tokenizer.encode(text))
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (
        other.bos_token_id,
        other.eos_token_id,
        other.pad_token_id,
    )


@pytest.mark.parametrize("flag", [True, False])
def test_the_post_processor_decides_about_bos(flag: bool, tmp_path: Path) -> None:
    directory = save_tokenizer(tmp_path, "llama2" if not flag else "zephyr-without-bos", add_bos_token=flag)
    tokenizer, other = Tokenizer.load(directory), reference(directory)
    assert [*tokenizer.prefix_ids, *tokenizer.encode("fox")] == other.encode("fox")
    assert bool(tokenizer.prefix_ids) is not flag


def test_the_environment_of_templates_is_that_of_transformers(tmp_path: Path) -> None:
    """Filters, globals and tags that real templates use: tojson, namespace, break, generation, the date."""
    template = """\
{%- set ns = namespace(count=0) %}
{{- strftime_now('') }}
{%- for message in messages %}
    {%- set ns.count = ns.count + 1 %}
    {%- if ns.count > 5 %}{% break %}{% endif %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}
    {%- else %}
        {{- message.content | tojson + dict(a=1) | tojson(indent=2) + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if tools is defined and tools %}{{ raise_exception('no tools') }}{% endif %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
    directory = save_tokenizer(tmp_path, "chatml", template)
    renderer, other = Renderer(Tokenizer.load(directory)), reference(directory)
    messages = [Message("user", 'a "quoted" <ä>'), Message("assistant", "b"), Message("user", "c")]
    want = other.apply_chat_template(as_dicts(messages), add_generation_prompt=True, return_dict=False)
    assert renderer.context_row(messages).tokens.tolist() == want
    assert any("today's date" in note for note in renderer.notes)
