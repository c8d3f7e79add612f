"""Tools, thoughts and weights: every part of a turn is in the rows, or the row is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from golden_templates_for_tests import CALL, CALLED, CAPITAL, GOLDEN, TOOL, WAY, renderer_of
from transformers import AutoTokenizer

from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.data.render.turns import as_dicts, contains_value, missing_part
from finetooth.errors import DataError
from finetooth.types import Answer, Example, Message

CALLING = {"tool_calls": [CALL]}
THINKING = {"reasoning_content": "The fox."}
WRITTEN = (
    '<tool_call>\n{"name": "translate", "arguments": {"text": "Good morning", "lines": 2}}\n</tool_call>'
)


@pytest.fixture(scope="module")
def renderers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Renderer]:
    names = ("chatml", "qwen2.5", "qwen3", "qwen3-thinking", "mistral", "deepseek", "plain")
    return {name: renderer_of(tmp_path_factory.mktemp(name.replace(".", "-")), name) for name in names}


def scored(renderer: Renderer, example: Example) -> list[str]:
    return [renderer.tokenizer.decode(row.tokens[row.weight > 0]) for row in renderer.rows(example)]


def turn(text: str = "", **more: Any) -> Message:
    return Message("assistant", text, more=more)


# Weights.


def test_weights_scale_rows_and_a_weight_of_0_is_context(renderers: dict[str, Renderer]) -> None:
    renderer = renderers["chatml"]
    first = Message("assistant", "Left.", 0.25)
    one, two = renderer.rows(Example("x", (WAY, first, CAPITAL), (Answer("Paris", weight=2.0),)))
    assert set(one.weight) == {0.0, 0.25} and set(two.weight) == {0.0, 2.0}
    (row,) = renderer.rows(Example("x", (WAY, replace(first, weight=0), CAPITAL), (Answer("Paris"),)))
    assert row.id == "x" and row.tokens.tolist() == two.tokens.tolist()
    (row,) = renderer.rows(Example("x", (WAY, first, CAPITAL), (Answer("Paris", weight=0),)))
    assert row.tokens.tolist() == one.tokens.tolist()
    turns = (WAY, first, CAPITAL, replace(first, weight=0), CAPITAL)
    assert [row.id for row in renderer.rows(Example("x", turns, (Answer("Paris"),)))] == ["x#1", "x#3"]
    (row,) = renderer.rows(Example("x", (), (Answer("Paris", weight=0.5),)))
    assert set(row.weight) == {0.0, 0.5}


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_cannot_be_is_refused(weight: float, renderers: dict[str, Renderer]) -> None:
    with pytest.raises(DataError, match=r"Row x: .*weight"):
        renderers["chatml"].rows(Example("x", (WAY,), (Answer("Left.", weight=weight),)))


def test_nothing_but_weights_of_0_is_refused(renderers: dict[str, Renderer]) -> None:
    with pytest.raises(DataError, match="every answer has the weight 0"):
        renderers["chatml"].rows(Example("x", (WAY,), (Answer("Left.", weight=0),)))


# Tools.


def test_calls_and_results_are_scored_and_read(renderers: dict[str, Renderer]) -> None:
    """Arguments that come as JSON text reach the template parsed: they are not quoted a second time."""
    renderer = renderers["qwen2.5"]
    example = Example("x", CALLED, (Answer("Guten Morgen"),), tools=(TOOL,))
    assert scored(renderer, example) == [f"{WRITTEN}<|im_end|>", "Guten Morgen<|im_end|>"]
    context = renderer.tokenizer.decode(renderer.context_row(CALLED, (TOOL,)).tokens)
    assert "<tools>\n" in context and WRITTEN in context and "\nGuten Morgen\n</tool_response>" in context


def test_the_answer_that_evaluation_compares_with_is_what_a_model_would_write(
    renderers: dict[str, Renderer],
) -> None:
    renderer = renderers["qwen2.5"]
    call = Example("x", CALLED[:1], (Answer("", more=CALLING),), tools=(TOOL,))
    assert renderer.answer_text(call) == WRITTEN
    assert renderer.answer_text(Example("x", (WAY,), (Answer(" Left. "),))) == " Left. "
    assert renderer.answer_text(Example("x", (), (Answer("Left."),))) == "Left."
    thoughtful = Example("x", (WAY,), (Answer("Left.", more=THINKING),))
    assert renderers["qwen3"].answer_text(thoughtful) == "<think>\nThe fox.\n</think>\n\nLeft."
    assert renderers["qwen3-thinking"].answer_text(thoughtful) == "The fox.\n</think>\n\nLeft."


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize(
    "arguments", ['{"a": "Grüße\\n\\"x\\"", "b": [1, null]}', {"a": 'Grüße\n"x"', "b": [1, None]}]
)
def test_calls_of_any_writing_become_one(flat: bool, arguments: Any, renderers: dict[str, Renderer]) -> None:
    call = {"name": "f", "arguments": arguments}
    calls = [call if flat else {"type": "function", "function": call}]
    (message,) = as_dicts([turn(tool_calls=calls, reasoning_content=None, name="")])
    parsed = {"name": "f", "arguments": {"a": 'Grüße\n"x"', "b": [1, None]}}
    assert message == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": parsed}],
    }
    (text,) = scored(renderers["qwen2.5"], Example("x", (WAY,), (Answer("", more={"tool_calls": calls}),)))
    assert '"arguments": {"a": "Grüße\\n\\"x\\"", "b": [1, null]}}' in text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"name": "f", "arguments": "{"}, "arguments of tool call 1, f, are not JSON"),
        ({"name": "f", "arguments": "[" * 100_000}, "arguments of tool call 1, f, are not JSON"),
        ({"name": "f", "arguments": "[1]"}, "arguments of tool call 1, f, are a list"),
        ({"arguments": {}}, "tool call 1 does not name a function"),
        ("f", "tool call 1 does not name a function"),
        ({"name": "f", "arguments": {"a": "<|im_end|>"}}, "text of a special token"),
    ],
)
def test_broken_calls_are_set_aside(call: Any, message: str, renderers: dict[str, Renderer]) -> None:
    with pytest.raises(DataError, match=rf"Row x: .*{message}"):
        renderers["qwen2.5"].rows(Example("x", (WAY,), (Answer("", more={"tool_calls": [call]}),)))


@pytest.mark.parametrize("family", ["chatml", "plain", "deepseek"])
def test_2_tools_that_a_template_ignores_are_refused(family: str, renderers: dict[str, Renderer]) -> None:
    """Planted: the question even names the function, so that its name alone proves nothing."""
    question = Message("user", "translate: Good morning")
    with pytest.raises(DataError, match=r"Row x: .* leaves out the tools\."):
        renderers[family].rows(Example("x", (question,), (Answer("Left."),), tools=(TOOL,)))


def test_2_calls_that_a_template_ignores_are_refused(renderers: dict[str, Renderer]) -> None:
    """Planted: the content says in words all that the call does; in the answer, then in the context."""
    words = 'translate "text" "Good morning", "lines" 2'
    spoken = Example("x", (WAY,), (Answer(words, more=CALLING),))
    with pytest.raises(DataError, match=r"Row x: .* leaves out the call of translate or a part of it"):
        renderers["chatml"].rows(spoken)
    earlier = (WAY, Message("assistant", words, 0.0, CALLING), CAPITAL)
    with pytest.raises(DataError, match=r"Row x: .* leaves out tool calls"):
        renderers["chatml"].rows(Example("x", earlier, (Answer("Paris"),)))


def test_2_text_beside_a_call_that_a_template_drops_is_refused(renderers: dict[str, Renderer]) -> None:
    """Planted: Mistral's template writes the call alone."""
    both = Example("x", (WAY,), (Answer("Of course!", more=CALLING),))
    with pytest.raises(DataError, match="leaves out the content"):
        renderers["mistral"].rows(both)
    assert scored(renderers["qwen2.5"], both) == [f"Of course!\n{WRITTEN}<|im_end|>"]


def test_2_the_second_of_two_calls_may_not_be_lost(renderers: dict[str, Renderer], tmp_path: Path) -> None:
    """Planted: a template that writes the first call only."""
    source = (GOLDEN / "qwen2.5.jinja").read_text(encoding="utf-8")
    path = tmp_path / "first.jinja"
    path.write_text(source.replace("message.tool_calls or []", "(message.tool_calls or [])[:1]"), "utf-8")
    calls = {"tool_calls": [CALL, {"name": "answer", "arguments": {"city": "Paris"}}]}
    example = Example("x", (WAY,), (Answer("", more=calls),))
    assert "Paris" in scored(renderers["qwen2.5"], example)[0]
    with pytest.raises(DataError, match="leaves out the call of answer"):
        Renderer(renderers["qwen2.5"].tokenizer, str(path)).rows(example)


def test_2_a_result_that_a_template_drops_is_refused(renderers: dict[str, Renderer], tmp_path: Path) -> None:
    """Planted: a template that knows calls but not the role tool."""
    source = (GOLDEN / "qwen2.5.jinja").read_text(encoding="utf-8")
    path = tmp_path / "deaf.jinja"
    path.write_text(
        source.replace("+ message.content + '\\n</tool_response>'", "+ '</tool_response>'"), "utf-8"
    )
    with pytest.raises(DataError, match="leaves out what a tool returned"):
        Renderer(renderers["qwen2.5"].tokenizer, str(path)).rows(Example("x", CALLED, (Answer("Paris"),)))


def test_tools_are_part_of_the_beginning_that_is_never_cut(renderers: dict[str, Renderer]) -> None:
    """Except where a template puts them in front of the last question, as Mistral's does."""
    example = Example("x", (WAY, turn("Left."), CAPITAL), (Answer("Paris"),), tools=(TOOL,))
    for family, kept in (("qwen2.5", True), ("mistral", False)):
        row = renderers[family].rows(example)[-1]
        head = renderers[family].tokenizer.decode(row.tokens[: row.kept[0]])
        assert ("translate" in head) is kept


def test_the_users_own_file_may_write_what_the_models_template_drops(
    renderers: dict[str, Renderer], tmp_path: Path
) -> None:
    """Known failure 4: and it travels, with transformers reading the same tokens."""
    example = Example("x", CALLED, (Answer("Paris", more=THINKING),), tools=(TOOL,))
    with pytest.raises(DataError, match="leaves out the tools"):
        renderers["chatml"].rows(example)
    own = Renderer(renderers["chatml"].tokenizer, str(GOLDEN / "qwen3.jinja"))
    rows = own.render_all([example]).rows
    own.tokenizer.save(tmp_path, own.chat_template)
    other = AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
    assert own.kind == "file" and len(rows) == 2
    whole = [*CALLED, Message("assistant", "Paris", more=THINKING)]
    full = other.apply_chat_template(as_dicts(whole), tools=[TOOL], enable_thinking=True, return_dict=False)
    assert full[: len(rows[1])] == rows[1].tokens.tolist()
    assert Renderer(Tokenizer.load(tmp_path)).rows(example)[1].tokens.tolist() == rows[1].tokens.tolist()


# What is written for a turn.


@pytest.mark.parametrize(
    ("message", "written", "complaint"),
    [
        (turn("Left."), " Left.\n", ""),
        (turn("Left."), "Left. Right.", "adds other text"),
        (turn("Left.", **THINKING), "Left.", "leaves out the reasoning"),
        (turn("Left.", **THINKING), "<a>The fox.</a>Left.<b>", ""),
        (turn("Left.", **THINKING), "<a>The fox.</a>so: Left.", ""),
        (turn("Left.", **THINKING), "<a>The fox.</a>and so Left.", "adds other text"),
        (turn("Left.", **THINKING), "Left.<a>The fox.</a>", "leaves out the content"),
        (
            turn("<think>The fox.</think>Left."),
            "<think></think>\n<think>The fox.</think>\nLeft.",
            "adds other",
        ),
        (turn("Left.", **CALLING), 'Left. translate(text="Good morning", lines=2)', ""),
        (
            turn("Left.", **CALLING),
            'Left. translate(text="Good morning")',
            "leaves out the call of translate",
        ),
    ],
)
def test_what_is_written_for_a_turn_is_the_turn(message: Message, written: str, complaint: str) -> None:
    found = missing_part(message, written, opened=False)
    assert found.startswith(complaint) and bool(found) == bool(complaint)


def test_values_are_found_however_a_template_spells_them() -> None:
    value = {"text": 'a "b"\nä', "n": [1.5, None, True]}
    for text in (
        '{"text": "a \\"b\\"\\nä", "n": [1.5, null, true]}',
        '"{\\"text\\": \\"a \\\\\\"b\\\\\\"\\\\n\\u00e4\\", \\"n\\": [1.5, null, true]}"',
        '<text>\na "b"\nä\n</text><n>[1.5, None, True]</n>',
    ):
        assert contains_value(value, text)
        assert not contains_value(value, text.replace("1.5", "2"))
