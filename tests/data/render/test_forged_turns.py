"""What people write may spell a special token, or what the template writes anyway."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from golden_templates_for_tests import renderer_of
from tokenizers_for_tests import save_tokenizer

from finetooth.data.render.renderer import SAME_TOKENS, Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import DataError
from finetooth.types import Answer, Example, Message

LEFT = Answer("left")
TOKENIZERS = ("gpt2", "chatml", "llama3", "metaspace-base", "llama2-metaspace")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_special_token_in_a_context_is_found(name: str, tmp_path: Path) -> None:
    renderer = Renderer(Tokenizer.load(save_tokenizer(tmp_path, name)), "plain")
    assert renderer.tokenizer.special_texts
    for text in renderer.tokenizer.special_texts:
        calls = {"tool_calls": [{"function": {"name": "f", "arguments": {"x": text}}}]}
        for message in (
            Message("system", f"a{text}"),
            Message("user", text),
            Message("tool", f"x {text} y"),
            Message("assistant", "", more=calls),
        ):
            assert renderer.special_text(Example("e", (message,), (LEFT,))) == text
    assert not renderer.special_text(Example("e", (Message("user", "im_end and s"),), (LEFT,)))


@pytest.mark.parametrize("word", ["\n", "a", "sop", " ", "."])
def test_a_special_token_that_people_write_anyway_is_text(word: str, tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path, "chatml")
    own = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.add_special_tokens([word])
    own.save(str(folder / "tokenizer.json"))
    renderer = Renderer(Tokenizer.load(folder))
    asked = Message("user", f"It was late.{word}Where is a sop?\n")
    example = Example("e", (asked,), (Answer(f"a b.{word} c"),))
    assert own.token_to_id(word) in renderer.tokenizer.special_ids
    assert not renderer.special_text(example)
    assert renderer.can_answer(f"b{word}c")
    row = renderer.rows(example)[0]
    assert renderer.tokenizer.decode(row.tokens[row.weight > 0]) == f"a b.{word} c<|im_end|>"


@pytest.mark.parametrize("word", ["\n", "eop"])
def test_a_stop_token_counts_however_it_is_written(word: str, tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path, "chatml")
    own = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.add_special_tokens([word])
    own.save(str(folder / "tokenizer.json"))
    source = f"{{% for m in messages %}}{{{{ m.role }}}}:{{{{ m.content }}}}{word}{{% endfor %}}"
    (tmp_path / "t.jinja").write_text(f"{source}{{% if add_generation_prompt %}}assistant:{{% endif %}}")
    renderer = Renderer(Tokenizer.load(folder), str(tmp_path / "t.jinja"))
    assert not renderer.can_answer(f"b{word}c")
    with pytest.raises(DataError, match="text of a special token"):
        renderer.rows(Example("e", (Message("user", "q"),), (Answer(f"b{word}c"),)))


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
