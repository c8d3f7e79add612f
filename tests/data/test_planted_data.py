"""The silent bugs of the field that the data layer makes impossible: each is planted here and must be caught.

Rows of docs' list of known failures: 1 stop token, 2 mask, 3 BOS, 4 template, 10 silent cuts, 11 leaks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from templates_for_tests import CHATML, HIDDEN_THINK
from tokenizers_for_tests import FAMILIES, save_tokenizer

from finetooth.config.task import Task, build_task
from finetooth.data.render.overlong import fit_rows
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import DataError
from finetooth.quality.prepare import assemble, prepare
from finetooth.tree import PrefixTree, Row
from finetooth.types import Answer, Example, Message

QUESTION = Message("user", "Which way?")
EXAMPLE = Example("x", (QUESTION,), (Answer("left"),))


def task(train: list[dict[str, Any]], **data: Any) -> Task:
    return build_task({"data": {"train": train, **data}})


def rows(start: int, count: int) -> list[dict[str, Any]]:
    return [{"text": f"message {k}", "label": "ab"[k % 2]} for k in range(start, start + count)]


# Known failure 1: the stop token is never learned.


def test_1_pad_equal_to_the_stop_token_takes_nothing_away(tmp_path: Path) -> None:
    """Planted: pad_token = eos_token, which other trainers mask out of the labels."""
    plain = Renderer(Tokenizer.load(save_tokenizer(tmp_path / "a"))).rows(EXAMPLE)[0]
    planted = Renderer(Tokenizer.load(save_tokenizer(tmp_path / "b", pad_token="<|im_end|>"))).rows(EXAMPLE)[
        0
    ]
    tokenizer = Tokenizer.load(tmp_path / "b")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == planted.tokens[-1]
    assert planted.weight[-1] == 1.0
    assert planted.tokens.tolist() == plain.tokens.tolist()


def test_1_a_template_that_ends_an_answer_without_a_special_token_is_refused(tmp_path: Path) -> None:
    """Planted: the turn is closed by words, so a stop could never be learned as one token."""
    template = CHATML.replace("'<|im_end|>'", "'[end]'")
    with pytest.raises(DataError, match="never learn to stop"):
        Renderer(Tokenizer.load(save_tokenizer(tmp_path, template=template)))


def test_1_the_stop_token_is_the_templates_and_not_the_tokenizers_eos(tmp_path: Path) -> None:
    """Planted: the tokenizer's EOS is <|endoftext|>, the template closes turns with <|im_end|>."""
    directory = save_tokenizer(tmp_path, eos_token="<|endoftext|>", extra_special_tokens=["<|im_end|>"])
    renderer = Renderer(Tokenizer.load(directory))
    (row,) = renderer.rows(EXAMPLE)
    assert renderer.tokenizer.text_of(row.tokens[-1]) == "<|im_end|>"
    assert row.weight[-1] == 1.0


# Known failure 2: all-zero or wrong masks.


@pytest.mark.parametrize("family", FAMILIES)
def test_2_every_turn_is_trained_though_no_template_marks_generations(family: str, tmp_path: Path) -> None:
    """Planted: stock templates without generation marks, and a conversation of three answers."""
    assert "generation %}" not in str(FAMILIES[family][0])
    context = (QUESTION, Message("assistant", "left"), QUESTION, Message("assistant", "right"), QUESTION)
    renderer = Renderer(Tokenizer.load(save_tokenizer(tmp_path, family)))
    turns = renderer.rows(Example("x", context, (Answer("both"),)))
    tree = PrefixTree.build(turns)
    assert [renderer.tokenizer.decode(row.tokens[row.weight > 0][:-1]).strip() for row in turns] == [
        "left",
        "right",
        "both",
    ]
    assert tree.count("token") == sum(int(row.weight.sum()) for row in turns)


def test_2_an_answer_that_repeats_the_question_is_still_scored_in_its_own_place(tmp_path: Path) -> None:
    """Planted: question, answer and role words are the same text; a search would find the wrong one."""
    renderer = Renderer(Tokenizer.load(save_tokenizer(tmp_path)))
    (row,) = renderer.rows(Example("x", (Message("user", "assistant"),), (Answer("assistant"),)))
    start = int(np.flatnonzero(row.weight)[0])
    assert renderer.tokenizer.decode(row.tokens[:start]).endswith("<|im_start|>assistant\n")
    assert renderer.tokenizer.decode(row.tokens[start:]) == "assistant<|im_end|>"


def test_2_a_mask_that_is_off_by_one_at_the_start_is_refused() -> None:
    """Planted: the first token is scored, though nothing predicts it."""
    with pytest.raises(DataError, match=r"weight\[0\] must be 0"):
        Row([1, 2, 3], [1, 1, 1])


def test_2_an_empty_answer_is_set_aside_by_line(tmp_path: Path) -> None:
    """Planted: an empty answer among 1,000 rows, whose mask would be all zero."""
    source = rows(0, 1000)
    source[40] = {"text": "message 40", "label": " "}
    (rejected,) = assemble(task(source)).rejected
    assert (rejected.line, rejected.reason) == (41, "label is empty")


# Known failure 3: doubled or missing BOS.


def test_3_a_bos_from_template_and_text_is_refused(tmp_path: Path) -> None:
    """Planted: template and question both begin with BOS."""
    template = "{{ bos_token }}{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"
    renderer = Renderer(Tokenizer.load(save_tokenizer(tmp_path, "llama2", template)))
    with pytest.raises(DataError, match="twice"):
        renderer.context_row([Message("user", "<s>Which way?")])
    with pytest.raises(DataError, match=r"Row x.*twice"):
        renderer.rows(Example("x", (Message("user", "<s>Which way?"),), (Answer("left"),)))


@pytest.mark.parametrize("template", ["auto", "instruction", "plain"])
def test_3_a_tokenizer_that_adds_bos_and_a_template_that_writes_it_give_one(
    template: str, tmp_path: Path
) -> None:
    """Planted: Llama 3 writes BOS in the template, and its post-processor would add another."""
    tokenizer = Tokenizer.load(save_tokenizer(tmp_path, "llama3"))
    renderer = Renderer(tokenizer, template)
    (row,) = renderer.rows(EXAMPLE)
    assert tokenizer.prefix_ids == (tokenizer.bos_token_id,)
    assert row.tokens.tolist().count(tokenizer.bos_token_id) == 1
    assert row.tokens[0] == renderer.context_row([QUESTION]).tokens[0] == tokenizer.bos_token_id


# Known failure 4: the training template is not the serving one.


def test_4_a_hidden_thought_in_front_of_the_answer_is_refused(tmp_path: Path) -> None:
    """Planted: the full rendering opens every answer with an empty thought that no server would send."""
    with pytest.raises(DataError) as caught:
        Renderer(Tokenizer.load(save_tokenizer(tmp_path, template=HIDDEN_THINK)))
    message = str(caught.value)
    assert "answer: " in message and "added:  '<think>" in message and "template: instruction" in message


def test_4_a_switch_that_does_not_help_leaves_the_refusal_as_it_was(tmp_path: Path) -> None:
    """Planted: the template knows enable_thinking, but opens contexts with another thought than answers."""
    other = "{% if enable_thinking is false %}{{ '<think>none</think>' }}{% endif %}"
    with pytest.raises(DataError, match=r"what it adds for an answer is not the answer") as caught:
        Renderer(Tokenizer.load(save_tokenizer(tmp_path, template=HIDDEN_THINK.rstrip() + other)))
    assert "added:  '<think>\\n\\n</think>" in str(caught.value)


def test_4_a_generation_prompt_that_the_full_rendering_does_not_have_is_refused(tmp_path: Path) -> None:
    """Planted: training would see another opening of the answer than serving."""
    template = CHATML.replace("'<|im_start|>assistant\\n'", "'<|im_start|>assistant:\\n'")
    assert template != CHATML
    with pytest.raises(DataError) as caught:
        Renderer(Tokenizer.load(save_tokenizer(tmp_path, template=template)))
    message = str(caught.value)
    assert "without: " in message and "assistant:" in message and "with:    " in message


def test_4_a_hidden_default_system_prompt_is_in_training_as_in_serving(tmp_path: Path) -> None:
    """Planted: the template adds a system prompt of its own."""
    renderer = Renderer(Tokenizer.load(save_tokenizer(tmp_path, "chatml-default-system")))
    (row,) = renderer.rows(EXAMPLE)
    context = renderer.context_row([QUESTION])
    assert "You are a helpful assistant." in renderer.tokenizer.decode(context.tokens)
    assert row.tokens[: len(context)].tolist() == context.tokens.tolist()


def test_4_an_answer_that_the_template_shortens_is_refused(tmp_path: Path) -> None:
    """Planted: the template drops the part of an answer before </think>, so it would be trained half."""
    template = CHATML.replace("message['content']", "message['content'].split('</think>')[-1]")
    renderer = Renderer(Tokenizer.load(save_tokenizer(tmp_path, template=template)))
    with pytest.raises(DataError, match="what it adds for an answer is not the answer"):
        renderer.rows(Example("x", (QUESTION,), (Answer("<think>hm</think>left"),)))


def test_4_keys_of_a_message_that_would_be_dropped_are_named() -> None:
    """Planted: sound beside the content, which this shape of an example cannot hold."""
    message = {"role": "assistant", "content": "left", "audio": {"id": "1"}}
    source = [{"messages": [{"role": "user", "content": "a"}, message]}]
    data = assemble(task(source))
    assert "audio" in data.rejected[0].reason
    assert [(one.rule, one.severity) for one in data.findings] == [("broken-rows", "block")]


# Known failure 10: rows are cut silently.


def test_10_nothing_is_cut_by_default(tmp_path: Path) -> None:
    """Planted: a long row, a limit in tokenizer_config.json, truncation left in tokenizer.json."""
    directory = save_tokenizer(tmp_path, model_max_length=16)
    spec = json.loads((directory / "tokenizer.json").read_text())
    spec["truncation"] = {"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
    (directory / "tokenizer.json").write_text(json.dumps(spec))
    renderer = Renderer(Tokenizer.load(directory))
    answer = "Left, then right. " * 40
    made = renderer.rows(Example("x", (QUESTION,), (Answer(answer),)))
    assert renderer.tokenizer.decode(made[0].tokens[made[0].weight > 0]) == answer + "<|im_end|>"
    with pytest.raises(DataError, match="longer than 64 tokens"):
        fit_rows(made, 64, "raise")


# Known failure 11: test rows in training.


@pytest.mark.parametrize("side", ["validation", "test"])
@pytest.mark.parametrize("copy", ["message 7", "Message  7!", "ＭＥＳＳＡＧＥ 7", " message\n7. "])
def test_11_a_copy_that_the_user_brings_stops_the_run(side: str, copy: str, tmp_path: Path) -> None:
    """Planted: one row of the training file in the validation or test file, in another writing."""
    brought = [*rows(1000, 50), {"text": copy, "label": "b"}]
    with pytest.raises(DataError) as caught:
        prepare(task(rows(0, 200), **{side: brought}), tmp_path)
    message = str(caught.value)
    assert "1 row (or group) is on two sides" in message
    assert "(rows, line 8)" in message and "(rows, line 51)" in message
    assert not (tmp_path / "data" / "sealed.jsonl").exists()


def test_11_a_row_in_both_files_that_the_user_brings(tmp_path: Path) -> None:
    """Planted: validation and test share a row that training does not have."""
    shared = {"text": "shared", "label": "a"}
    with pytest.raises(DataError, match=r"test \S+-2 \(rows, line 10\): = validation "):
        prepare(task(rows(0, 50), validation=[*rows(100, 9), shared], test=[*rows(200, 9), shared]), tmp_path)


def test_11_copies_in_one_file_go_to_one_side(tmp_path: Path) -> None:
    """Planted: every row three times, with other labels and other punctuation."""
    source = [{"text": text, "label": "abc"[c]} for k in range(200) for c, text in enumerate(
        (f"message {k}", f"Message {k}!", f"MESSAGE  {k}"))]  # fmt: skip
    data = assemble(task(source))
    assert not data.findings
    numbers = {
        side: {row.context[0].content.split()[-1].strip("!") for row in rows}
        for side, rows in data.sides.items()
    }
    assert not numbers["train"] & numbers["test"] and not numbers["train"] & numbers["validation"]
    assert sum(map(len, numbers.values())) == 200


def test_11_one_conversation_stays_on_one_side() -> None:
    """Planted: many rows of the same thread, each with another text."""
    source = [{"text": f"message {k}", "label": "a", "thread": f"t{k % 40}"} for k in range(400)]
    data = assemble(task(source, group="thread"))
    threads = [{row.tags["group"] for row in rows} for rows in data.sides.values()]
    assert sum(map(len, threads)) == len(set.union(*threads)) == 40
