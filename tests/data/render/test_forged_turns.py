"""Nobody but the template writes control tokens: what people write is text, whatever it spells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from golden_templates_for_tests import FAMILIES, renderer_of
from tokenizers_for_tests import save_tokenizer

from finetooth.data.render.literal import MARK, LiteralEncoder
from finetooth.data.render.renderer import SAME_TOKENS, Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import DataError
from finetooth.types import Answer, Example, Message

LEFT = Answer("left")
TOKENIZERS = ("gpt2", "chatml", "llama3", "metaspace-base", "llama2-metaspace")


def special(renderer: Renderer, ids: list[int]) -> list[int]:
    return [index for index in ids if index in renderer.tokenizer.special_ids]


def forged(renderer: Renderer) -> str:
    """Every special token of the tokenizer, alone and among words."""
    return (
        "hello " + "\nno ".join(renderer.tokenizer.special_texts) + "".join(renderer.tokenizer.special_texts)
    )


def conversation(text: str) -> list[Message]:
    return [Message("user", f"a {text} b"), Message("assistant", f"c {text} d"), Message("user", f"{text}")]


def assert_no_token_of_the_user(renderer: Renderer, answer: Answer = LEFT) -> None:
    plain, written = conversation("x"), conversation(forged(renderer))
    asked = renderer.context_row(written).tokens.tolist()
    assert special(renderer, asked) == special(renderer, renderer.context_row(plain).tokens.tolist())
    decode = renderer.tokenizer.decode
    for text in renderer.tokenizer.special_texts:
        assert text in decode(asked) and MARK not in decode(asked)
    (row,) = renderer.rows(Example("e", (written[0],), (answer,)))
    (other,) = renderer.rows(Example("e", (plain[0],), (answer,)))
    scored = row.tokens[row.weight > 0].tolist()
    assert scored == other.tokens[other.weight > 0].tolist()
    assert special(renderer, row.tokens.tolist()) == special(renderer, other.tokens.tolist())


@pytest.mark.parametrize("family", FAMILIES)
def test_no_template_lets_a_user_write_a_token(family: str, tmp_path: Path) -> None:
    thinks = {"reasoning_content": "They ask."} if family == "qwen3-thinking" else {}
    assert_no_token_of_the_user(renderer_of(tmp_path, family), Answer("left", more=thinks))


@pytest.mark.parametrize("template", ["auto", "instruction", "plain"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_no_tokenizer_reads_a_token_in_a_question(name: str, template: str, tmp_path: Path) -> None:
    assert_no_token_of_the_user(Renderer(Tokenizer.load(save_tokenizer(tmp_path, name)), template))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_text_around_a_marked_token_has_the_ids_that_it_has_alone(name: str, tmp_path: Path) -> None:
    """A text without special tokens has the same ids from the literal encoder, behind any special token."""
    tokenizer = Tokenizer.load(save_tokenizer(tmp_path, name))
    literal = LiteralEncoder(tokenizer)
    first, words = tokenizer.special_texts[0], " Which way?  Left.\n"
    marked = literal.mark([Message("user", f"{first}{words}")])[0].content
    part = literal._literal(f"{first}{words}", len(first), len(first + words), [])[0]
    assert part == tokenizer.encode(f"{first}{words}")[1:]
    ids, spans = literal.encode_with_offsets(f"{first}{marked}{first}")
    assert [at for at, index in enumerate(ids) if index in tokenizer.special_ids] == [0, len(ids) - 1]
    assert spans[-1] == (len(first + marked), len(first + marked + first))
    assert all(start <= end for start, end in spans) and tokenizer.decode(ids).count(first) == 3


def test_what_a_tool_returns_or_is_called_with_is_text(tmp_path: Path) -> None:
    renderer = renderer_of(tmp_path, "chatml")
    asked = [Message("system", "<|im_end|>"), Message("user", "a")]
    plain = [Message("system", "x"), Message("user", "a")]
    assert special(renderer, renderer.context_row(asked).tokens.tolist()) == special(
        renderer, renderer.context_row(plain).tokens.tolist()
    )
    row = Example("e", tuple(asked), (Answer("left"),))
    assert renderer.special_text(row) == "<|im_end|>"
    assert not renderer.special_text(replace(row, context=tuple(plain)))


def test_an_answer_with_a_token_is_refused_with_what_to_do(tmp_path: Path) -> None:
    renderer = renderer_of(tmp_path, "chatml")
    with pytest.raises(DataError, match=r"'<\|im_end\|>'.*for example '< \|im_end\|>', or remove the row"):
        renderer.rows(Example("e", (Message("user", "a"),), (Answer("b <|im_end|>"),)))


def test_a_pair_with_the_same_tokens_is_none(tmp_path: Path) -> None:
    name = tmp_path / "trim.jinja"
    name.write_text(
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n"
        "{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    renderer = Renderer(Tokenizer.load(save_tokenizer(tmp_path / "t", "chatml")), str(name))
    answers = (Answer("Sorry.", "chosen"), Answer("Sorry.\n", "rejected"))
    with pytest.raises(DataError, match=SAME_TOKENS[:40]):
        renderer.pair(Example("e", (Message("user", "a"),), answers))


@pytest.mark.parametrize(
    ("messages", "times"),
    [
        ([Message("system", "Name the team."), Message("user", "a")], 1),
        ([Message("system", "Name the team.\nBe brief."), Message("user", "a")], 1),
        ([Message("user", "Name the team.\n\nMy parcel is late.")], 1),
        ([Message("system", "Be brief."), Message("user", "a")], 1),
        ([Message("system", "Name the team. No."), Message("user", "a")], 2),
    ],
)
def test_an_instruction_that_a_row_has_stands_once(
    messages: list[Message], times: int, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.load(save_tokenizer(tmp_path, "chatml"))
    renderer = Renderer(tokenizer, "instruction", instruction="Name the team.")
    assert tokenizer.decode(renderer.context_row(messages).tokens).count("Name the team.") == times
