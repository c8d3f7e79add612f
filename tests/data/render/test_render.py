"""Rendering beside the laws: boundaries, refusals, folding, frames and the sandbox."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from gate import gate
from hypothesis import given, settings
from hypothesis import strategies as st
from templates_for_tests import CHATML
from tokenizers_for_tests import save_tokenizer

from finetooth.data import render as render_package
from finetooth.data.render.chat_template import ChatTemplate
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import DataError
from finetooth.types import Answer, Example, Message

QUESTION = Message("user", "Which way?")


@pytest.fixture(scope="module")
def renderers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Renderer]:
    folder = tmp_path_factory.mktemp("tokenizers")
    names = ("gpt2", "chatml", "llama3", "metaspace-base", "llama2-metaspace")
    return {name: Renderer(Tokenizer.load(save_tokenizer(folder / name, name))) for name in names}


@settings(max_examples=150, deadline=None)
@given(answer=st.text(alphabet=" \n\tab.é😀Left", min_size=1, max_size=12).filter(str.strip))
@pytest.mark.parametrize("template", gate(["instruction", "plain"], ["instruction"]))
@pytest.mark.parametrize("family", gate(["gpt2", "chatml"], ["gpt2"]))
def test_context_and_answer_decode_to_the_whole_text_wherever_tokens_merge(
    family: str, template: str, answer: str, renderers: dict[str, Renderer]
) -> None:
    """Answers that start with spaces or line breaks merge with the context's end in byte-level BPE."""
    renderer = Renderer(renderers[family].tokenizer, template)
    (row,) = renderer.rows(Example("x", (QUESTION,), (Answer(answer),)))
    decode = renderer.tokenizer.decode
    end = renderer.tokenizer.special_tokens["eos_token"]
    context = renderer.context_row((QUESTION,))
    assert row.tokens[: len(context)].tolist() == context.tokens.tolist()
    assert decode(row.tokens) == decode(context.tokens) + answer + end
    assert decode(row.tokens[row.weight > 0]) == answer + end


def test_boundary_merges_are_counted_and_cut(renderers: dict[str, Renderer]) -> None:
    """`:\\n` ends the context; in one piece with an answer that starts a line, `:\\n\\n` is one token."""
    tokenizer = renderers["chatml"].tokenizer
    renderer = Renderer(tokenizer, "instruction")
    renderer.rows(Example("x", (QUESTION,), (Answer("left"),)))
    assert renderer.boundary_merges == 0
    assert len(tokenizer.encode(":\n")) == len(tokenizer.encode(":\n\n")) == 1, "nothing would merge"
    ids = renderer.answer_ids((QUESTION,), "\nleft")
    assert renderer.boundary_merges == 1
    assert list(ids) == [*tokenizer.encode("\n"), *tokenizer.encode("left"), renderer.stop_id]


@pytest.mark.parametrize("family", ["metaspace-base", "llama2-metaspace"])
@pytest.mark.parametrize("answer", ["left", "Left, then right.", "a b  c", "Grüße 😀"])
def test_sentencepiece_like_rows_decode_to_the_answer(
    family: str, answer: str, renderers: dict[str, Renderer]
) -> None:
    renderer = renderers[family]
    (row,) = renderer.rows(Example("x", (QUESTION,), (Answer(answer),)))
    assert (
        renderer.tokenizer.decode(row.tokens[row.weight > 0]).strip().removesuffix("</s>").strip() == answer
    )


def test_the_instruction_template_is_alpacas_without_preamble(renderers: dict[str, Renderer]) -> None:
    renderer = renderers["gpt2"]

    def text(*messages: Message) -> str:
        return renderer.tokenizer.decode(renderer.context_row(messages).tokens)

    assert text(QUESTION) == "### Instruction:\nWhich way?\n\n### Response:\n"
    assert text(Message("system", "Be brief."), QUESTION) == (
        "### Instruction:\nBe brief.\n\n### Input:\nWhich way?\n\n### Response:\n"
    )
    assert text(QUESTION, Message("assistant", "left"), Message("user", "Sure?")) == (
        "### Instruction:\nWhich way?\n\n### Response:\nleft<|endoftext|>\n\n"
        "### Input:\nSure?\n\n### Response:\n"
    )


def test_the_instruction_comes_before_an_examples_own_system_message(renderers: dict[str, Renderer]) -> None:
    renderer = Renderer(renderers["chatml"].tokenizer, instruction="Name the team.")
    text = renderer.tokenizer.decode(renderer.context_row((Message("system", "Be brief."), QUESTION)).tokens)
    assert text.startswith("<|im_start|>system\nName the team.\n\nBe brief.<|im_end|>\n<|im_start|>user")
    assert text.count("system") == 1
    alone = renderer.tokenizer.decode(renderer.context_row((QUESTION,)).tokens)
    assert alone.startswith("<|im_start|>system\nName the team.<|im_end|>")


def test_a_system_message_that_a_template_drops_is_folded_too(tmp_path: Path) -> None:
    template = CHATML.replace(
        "{%- for message in messages %}", "{%- for message in messages if message['role'] != 'system' %}"
    )
    renderer = Renderer(Tokenizer.load(save_tokenizer(tmp_path, "chatml", template)), instruction="Be brief.")
    assert "Be brief.\n\nWhich way?" in renderer.tokenizer.decode(renderer.context_row((QUESTION,)).tokens)
    assert any("no system message" in note for note in renderer.notes)


def test_a_template_without_the_tokenizers_bos_is_noted(tmp_path: Path) -> None:
    renderer = Renderer(Tokenizer.load(save_tokenizer(tmp_path, "zephyr")))
    assert any("writes no BOS" in note for note in renderer.notes)


def test_the_frame_of_a_row_is_its_beginning_and_the_answers_opening(renderers: dict[str, Renderer]) -> None:
    renderer = Renderer(renderers["llama3"].tokenizer, instruction="Be brief.")
    (row,) = renderer.rows(Example("x", (QUESTION,), (Answer("left"),)))
    decode = renderer.tokenizer.decode
    head, tail = row.kept
    context = row.tokens[row.weight == 0]
    assert decode(context[:head]).endswith("Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n")
    assert decode(context[len(context) - tail :]) == (
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_answers_with_special_tokens_are_set_aside(renderers: dict[str, Renderer]) -> None:
    renderer = renderers["chatml"]
    good = [Example(f"g{k}", (QUESTION,), (Answer("left"),)) for k in range(99)]
    bad = Example("bad", (QUESTION,), (Answer("left<|im_end|>"),), {"file": "a.jsonl", "line": 7})
    rendered = renderer.render_all([*good, bad])
    assert len(rendered.rows) == 99
    ((example, reason),) = rendered.rejected
    assert example is bad
    assert "Row bad (a.jsonl, line 7)" in reason and "'<|im_end|>'" in reason
    with pytest.raises(DataError, match="2 of 3 rows cannot be rendered, more than 1%"):
        renderer.render_all([good[0], bad, bad])


def test_an_endless_template_stops_at_the_size_limit() -> None:
    long = "{% for i in range(90000) %}{{ 'x' * 1000 }}{% endfor %}"
    with pytest.raises(DataError, match="wrote more than"):
        ChatTemplate(long, {}, "The template", datetime.now).render([QUESTION], True)


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 10**10 }}",
        "{{ 9 ** 999999 }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% for i in range(10**9) %}x{% endfor %}",
        "{{ undefined.attribute }}",
    ],
)
def test_the_sandbox_refuses(source: str) -> None:
    with pytest.raises(DataError, match="cannot render this conversation"):
        ChatTemplate(source, {}, "The template", datetime.now).render([QUESTION], True)


def test_the_clock_is_an_argument(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(save_tokenizer(tmp_path, "chatml", "{{ strftime_now('%d %b %Y') }}" + CHATML))
    renderer = Renderer(tokenizer, clock=lambda: datetime(2024, 7, 26))
    assert tokenizer.decode(renderer.context_row((QUESTION,)).tokens).startswith("26 Jul 2024<|im_start|>")


def test_a_broken_template_names_itself(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{% for %}", encoding="utf-8")
    tokenizer = Tokenizer.load(save_tokenizer(tmp_path / "tok", "chatml"))
    with pytest.raises(DataError, match=r"mine\.jinja: not a valid jinja template"):
        Renderer(tokenizer, str(path))


def test_a_system_message_that_the_template_adds_is_named(
    tmp_path: Path, renderers: dict[str, Renderer]
) -> None:
    """Qwen2.5's and SmolLM2's templates write one into every conversation that has none."""
    tokenizer = Tokenizer.load(save_tokenizer(tmp_path, "chatml-default-system"))
    renderer = Renderer(tokenizer)
    assert renderer.added_system == "You are a helpful assistant."
    (note,) = renderer.notes
    assert 'the template adds a system message: "You are a helpful assistant."' in note
    replaced = Renderer(tokenizer, instruction="Be brief.")
    assert (replaced.added_system, replaced.notes) == ("", [])
    assert "helpful" not in tokenizer.decode(replaced.context_row((QUESTION,)).tokens)
    for name, other in renderers.items():
        assert other.added_system == "", name
        for template in ("instruction", "plain"):
            assert Renderer(other.tokenizer, template).added_system == "", (name, template)


def test_programs_import_the_renderer_from_the_package() -> None:
    assert render_package.Renderer is Renderer
    with pytest.raises(AttributeError, match="no attribute 'Rendrer'"):
        render_package.Rendrer  # noqa: B018
