"""Templates that lose a call, a message or a thought on the way: refused, with what to do."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from golden_templates_for_tests import CAPITAL, GOLDEN, TOOL, WAY, renderer_of
from templates_for_tests import CHATML
from tokenizers_for_tests import save_tokenizer

from finetooth.data.render.chat_template import ChatTemplate
from finetooth.data.render.overlong import fit_rows
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import DataError, ModelError
from finetooth.types import Answer, Example, Message

QWEN = (GOLDEN / "qwen2.5.jinja").read_text(encoding="utf-8")
LISTED = "message.tool_calls or []"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return renderer_of(tmp_path_factory.mktemp("qwen"), "qwen2.5").tokenizer


def of_source(tokenizer: Tokenizer, source: str, path: Path) -> Renderer:
    (path / "own.jinja").write_text(source, encoding="utf-8")
    return Renderer(tokenizer, str(path / "own.jinja"))


def calls(*numbers: int) -> dict[str, Any]:
    return {"tool_calls": [{"name": "add", "arguments": {"x": number}} for number in numbers]}


@pytest.mark.parametrize("numbers", [(1, 1), (12, 1), (1, 12), (1, 2, 1)])
@pytest.mark.parametrize("part", ["[:1]", "[-1:]", "[1:]"])
def test_2_no_call_of_several_is_lost(
    numbers: tuple[int, ...], part: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Planted: only the first call is written, only the last, all but the first. add(12) has add(1) in it."""
    assert LISTED in QWEN
    example = Example("x", (WAY,), (Answer("", more=calls(*numbers)),))
    whole = of_source(tokenizer, QWEN, tmp_path).rows(example)[0]
    text = tokenizer.decode(whole.tokens[whole.weight > 0])
    assert text.count("<tool_call>") == len(numbers)
    renderer = of_source(tokenizer, QWEN.replace(LISTED, f"({LISTED}){part}"), tmp_path)
    earlier = (WAY, Message("assistant", "", 0.0, calls(*numbers)), Message("tool", "7"))
    later = Example("y", earlier, (Answer("Left."),))
    with pytest.raises(DataError, match=r"leaves out (one of several calls|the call of add)"):
        renderer.rows(example)
    with pytest.raises(DataError, match="leaves out tool calls"):
        renderer.rows(later)


@pytest.mark.parametrize("content", ["Which way?", "What is the capital of France?"])
def test_2_a_template_that_forgets_earlier_turns_is_refused(
    content: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Planted: a template of one's own, tried with one question and used with conversations."""
    source = CHATML.replace(
        "for message in messages", "for message in messages[-2 if messages[-1].role == 'assistant' else -1:]"
    )
    assert source != CHATML
    renderer = of_source(tokenizer, source, tmp_path)
    assert renderer.rows(Example("x", (WAY,), (Answer("Left."),)))
    talk = (Message("user", content), Message("assistant", "Left."), Message("user", "And then?"))
    with pytest.raises(DataError, match="leaves out what a message says"):
        renderer.rows(Example("x", talk, (Answer("Right."),)))


def test_a_template_that_writes_messages_in_its_own_way_is_followed(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    source = CHATML.replace("message['content']", "(message['content'] | replace('\\n', ' ') | trim)", 1)
    example = Example(
        "x", (Message("user", "Which\nway?"), Message("assistant", "Left."), CAPITAL), (Answer("P"),)
    )
    assert of_source(tokenizer, source, tmp_path).rows(example)


def test_what_to_do_about_a_thought_is_said(tmp_path: Path) -> None:
    renderer = renderer_of(tmp_path / "deepseek", "deepseek")
    for answer, words in (
        (Answer("<think>hm</think>Left."), "does not cut answers at </think>: `template: file.jinja`"),
        (Answer("Left.", more={"reasoning_content": "hm"}), "writes `message.reasoning_content`: `template"),
    ):
        with pytest.raises(DataError) as caught:
            renderer.rows(Example("x", (WAY,), (answer,)))
        assert f"Remove the reasoning from these rows, or use a copy of the template that {words}" in str(
            caught.value
        )
    source = (GOLDEN / "deepseek.jinja").read_text(encoding="utf-8")
    copy = source.replace(".split('</think>')[-1]", "")
    assert copy != source
    (row,) = of_source(renderer.tokenizer, copy, tmp_path).rows(
        Example("x", (WAY,), (Answer("<think>hm</think>Left."),))
    )
    text = renderer.tokenizer.decode(row.tokens[row.weight > 0])
    assert text == "<think>hm</think>Left.<｜end▁of▁sentence｜>"


def test_an_opened_thought_that_no_answer_has_is_named(tmp_path: Path) -> None:
    """Planted: DeepSeek-R1's way, whose contexts open a thought that its answers are written without."""
    tokenizer = Tokenizer.load(save_tokenizer(tmp_path / "tokenizer"))
    source = CHATML.replace("assistant\\n' }}\n{%- endif %}", "assistant\\n<think>\\n' }}\n{%- endif %}")
    assert source != CHATML
    with pytest.raises(DataError, match="opens reasoning for the answer, and writes none in front of it"):
        of_source(tokenizer, source, tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe{{ messages }}", "für {{ messages }}".encode("latin-1")])
def test_a_template_that_is_not_utf_8_is_one_message(
    content: bytes, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    (tmp_path / "own.jinja").write_bytes(content)
    with pytest.raises(DataError, match=r"own\.jinja: cannot be read as UTF-8 text"):
        Renderer(tokenizer, str(tmp_path / "own.jinja"))
    folder = save_tokenizer(tmp_path / "tokenizer")
    (folder / "chat_template.jinja").write_bytes(content)
    with pytest.raises(ModelError, match=r"chat_template\.jinja: not UTF-8"):
        Tokenizer.load(folder)


# The switch for thinking, under its other names.

# As DeepSeek-V3.1's: its thought is opened or closed in the context, by the variable `thinking`.
V31 = """\
{%- if not thinking is defined %}{% set thinking = false %}{% endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['role'] == 'assistant' %}
        {{- ('<think>' if thinking and loop.last else '</think>') }}
        {{- (message.reasoning_content or '') + '</think>' if thinking and loop.last else '' }}
    {%- endif %}
    {{- message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' + ('<think>' if thinking else '</think>') }}
{%- endif %}
"""


@pytest.mark.parametrize("name", ["enable_thinking", "thinking", "reasoning"])
def test_a_switch_for_thinking_is_known_by_each_of_its_names(
    name: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    source = V31.replace("not thinking", f"not {name}").replace("set thinking", f"set {name}")
    source = source.replace("if thinking", f"if {name}")
    renderer = of_source(tokenizer, source, tmp_path)
    thoughtful = Example("x", (WAY,), (Answer("Left.", more={"reasoning_content": "hm"}),))
    plain = Example("y", (WAY,), (Answer("Left."),))
    for example, opening, answer in (
        (thoughtful, "<think>", "hm</think>Left."),
        (plain, "</think>", "Left."),
    ):
        (row,) = renderer.rows(example)
        context = renderer.context_row((WAY,), thinking=renderer.thinks(example)).tokens
        assert tokenizer.decode(context).endswith(f"assistant\n{opening}")
        assert row.tokens[row.weight == 0].tolist() == context.tolist()
        assert tokenizer.decode(row.tokens[row.weight > 0]) == f"{answer}<|im_end|>"
    renderer.render_all([thoughtful, plain])
    assert f"asked with {name}=true" in renderer.notes[-1]
    for examples, default in (([thoughtful], "<think>"), ([plain], "</think>")):
        renderer = of_source(tokenizer, source, tmp_path)
        renderer.render_all(examples)
        saved = ChatTemplate(renderer.chat_template, {}, "saved", datetime.now)
        assert saved.switch == name and saved.render([WAY], True).endswith(default)
        again = of_source(tokenizer, renderer.chat_template, tmp_path)  # what a chat asks for
        assert tokenizer.decode(again.context_row((WAY,), thinking=None).tokens).endswith(default)


@pytest.mark.parametrize(
    "source",
    [
        "{%- set thinking = 1 %}",
        "{%- for message in messages %}{% set reasoning = message.reasoning %}{% endfor %}",
        "{%- if thinking is defined and thinking == 'loud' %}!{% endif %}",
    ],
)
def test_what_only_has_the_name_of_a_switch_is_none(
    source: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    renderer = of_source(tokenizer, source + CHATML, tmp_path)
    example = Example("x", (WAY,), (Answer("<think>hm</think>Left."),))
    renderer.render_all([example, Example("y", (WAY,), (Answer("Left."),))])
    assert "has no switch" in renderer.notes[-1]


def test_a_thought_is_given_to_a_template_under_the_name_that_it_reads(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """gpt-oss's template reads message.thinking, others message.reasoning."""
    for name in ("thinking", "reasoning", "reasoning_content"):
        written = f"('<t>' + message.{name} + '</t>' if message.{name} else '') + message['content']"
        renderer = of_source(tokenizer, CHATML.replace("message['content']", written), tmp_path)
        (row,) = renderer.rows(Example("x", (WAY,), (Answer("Left.", more={"reasoning_content": "hm"}),)))
        assert tokenizer.decode(row.tokens[row.weight > 0]) == "<t>hm</t>Left.<|im_end|>"


# What `overlong: cut` must keep.


def test_tools_in_front_of_the_last_question_are_never_cut(tmp_path: Path) -> None:
    renderer = renderer_of(tmp_path, "mistral")
    decode = renderer.tokenizer.decode
    talk = (Message("user", "one " * 30), Message("assistant", "Left.", 0.0), CAPITAL)
    (row,) = renderer.rows(Example("x", talk, (Answer("Paris"),), tools=(TOOL,)))
    text = decode(row.tokens)
    tools = text[text.index("[AVAILABLE_TOOLS]") :]
    least = int(sum(row.kept) + (row.weight > 0).sum())
    assert decode(fit_rows([row], least, "cut").rows[0].tokens).endswith(tools)
    with pytest.raises(DataError, match="do not fit"):
        fit_rows([row], least - 1, "cut")
    (bare,) = renderer.rows(Example("x", talk, (Answer("Paris"),)))
    assert bare.kept[1] < row.kept[1] and json.dumps(TOOL["function"]["name"]) in tools


def test_the_ends_of_contexts_are_not_kept_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetooth.data.render.renderer.FRAME_CACHE", 3)
    renderer = renderer_of(tmp_path, "chatml")
    for k in range(12):
        system = Message("system", f"{k} times.")
        (row,) = renderer.rows(Example("x", (system, WAY), (Answer("Left."),)))
        head = renderer.tokenizer.decode(row.tokens[: row.kept[0]])
        assert head.endswith(f"{k} times.<|im_end|>\n<|im_start|>user\n")
    assert len(renderer._frames) <= 4


@pytest.mark.parametrize("arguments", [{"x": "ä"}, '{"x": "ä"}'])
def test_a_template_that_joins_arguments_to_text_gets_them_as_text(
    arguments: Any, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Planted: the way of DeepSeek's templates, which refuse arguments that are an object."""
    spelled = "call.function.arguments | tojson"
    source = (GOLDEN / "deepseek.jinja").read_text(encoding="utf-8")
    assert spelled in source
    family = renderer_of(tmp_path / "deepseek", "deepseek")
    renderer = of_source(family.tokenizer, source.replace(spelled, "call.function.arguments"), tmp_path)
    call = {"tool_calls": [{"name": "add", "arguments": arguments}]}
    talk = (WAY, Message("assistant", "", more=call), Message("tool", "7"))
    example = Example("x", talk, (Answer("Left."),))
    for mine, other in zip(renderer.rows(example), family.rows(example), strict=True):
        assert mine.tokens.tolist() == other.tokens.tolist()
    assert [note for note in renderer.notes if "arguments of calls as JSON text only" in note]
    assert not [note for note in family.notes if "arguments of calls" in note]
    broken = of_source(family.tokenizer, source.replace(spelled, "call.function.arguments + 1"), tmp_path)
    with pytest.raises(DataError, match="cannot render this conversation"):
        broken.rows(example)


def test_4_a_template_that_writes_the_time_writes_one_time(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Planted: Hunyuan's way, which writes seconds: with the answer, the context was another one."""
    renderer = of_source(tokenizer, "{{ strftime_now('%H:%M:%S.%f') }}" + CHATML, tmp_path)
    (row,) = renderer.rows(Example("x", (WAY,), (Answer("Left."),)))
    assert row.tokens[row.weight == 0].tolist() == renderer.context_row((WAY,)).tokens.tolist()
