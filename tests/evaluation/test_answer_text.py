"""Answers with thoughts and calls of tools: what a model writes for the expected one has full marks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from models_for_tests import tiny_model_dir
from rich.console import Console
from templates_for_tests import QWEN3

import finetooth as ft
from finetooth.commands import train
from finetooth.config.load import load_task
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.evaluation.answer_text import answer_normaliser, identity
from finetooth.evaluation.candidates import Prediction
from finetooth.evaluation.graders import BUILT_IN, exact
from finetooth.evaluation.runner import evaluate
from finetooth.rundir import read_jsonl
from finetooth.runs import setup
from finetooth.runs.context import RunContext
from finetooth.types import Answer, Example, Message

CALLS = (
    "{%- for message in messages %}{{- message.role + ': ' + (message.content or '') }}"
    "{%- for call in message.tool_calls or [] %}{{- '<call>' + (call.function | tojson) + '</call>' }}"
    "{%- endfor %}{{- eos_token }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- 'assistant: ' }}{%- endif %}"
)
CALL = {"tool_calls": [{"name": "turn", "arguments": {"to": "left"}}]}


def rendered_by(source: str, place: Path) -> Renderer:
    directory = tiny_model_dir(place / "model")
    (place / "own.jinja").write_text(source, encoding="utf-8")
    return Renderer(Tokenizer.load(directory), str(place / "own.jinja"))


def asked(*answers: Answer) -> Example:
    return Example("x", (Message("user", "Which way?"),), answers)


FIELD = asked(Answer("Left.", more={"reasoning_content": "It is shorter."}))
BLOCK = asked(Answer("<think>It is shorter.</think>Left."))
CALLING = asked(Answer("", more=CALL))


@pytest.mark.parametrize(
    ("source", "example"), [(QWEN3, FIELD), (QWEN3, BLOCK), (CALLS, CALLING)], ids=["field", "block", "call"]
)
@pytest.mark.parametrize("name", ["exact", "contains", "f1", "rouge", "chrf"])
def test_what_a_model_writes_for_the_expected_answer_has_full_marks(
    tmp_path: Path, source: str, example: Example, name: str
) -> None:
    renderer = rendered_by(source, tmp_path)
    compared = answer_normaliser(renderer)
    (row,) = renderer.rows(example)
    written = renderer.tokenizer.decode(row.tokens[row.weight > 0][:-1])
    if name == "exact":
        assert exact(example, written).value == 0  # the planted bug: what the template writes counts
    assert BUILT_IN[name](*compared(example, written)).value == 1
    wrong = written.replace("Left", "Right").replace("left", "right")
    assert BUILT_IN[name](*compared(example, wrong)).value != 1


def test_thoughts_are_ways_to_an_answer_and_not_compared(tmp_path: Path) -> None:
    compared = answer_normaliser(rendered_by(QWEN3, tmp_path))
    for text in ("<think>\nAnother way.\n</think>\n\nLeft.", "Another way.\n</think>\n\nLeft.", "Left."):
        assert BUILT_IN["exact"](*compared(FIELD, text)).value == 1
    unfinished = compared(FIELD, "<think>\nSo it is Left.")[1]
    assert BUILT_IN["exact"](FIELD, unfinished).value == 0
    plain = asked(Answer("Left."))
    assert compared(plain, "Left.") == (plain, "Left.")
    assert compared(plain, "<think>hm</think>\nLeft.") == (plain, "Left.")
    assert compared(plain, "a </think> b") == (plain, "a </think> b")  # no thought: it did not begin with one
    assert identity(plain, "<think>hm</think>Left.") == (plain, "<think>hm</think>Left.")


@dataclass
class Says:
    name: str
    text: str
    notes: list[str] = field(default_factory=list)

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        return (Prediction(index, self.text) for index in range(len(examples)))


def test_the_corpus_score_compares_the_same(tmp_path: Path) -> None:
    thoughtful = "<think>\nIt is shorter.\n</think>\n\nLeft."
    result = evaluate(
        [FIELD], [Says("tuned", thoughtful)], BUILT_IN["chrf"], "chrf", "validation",
        normalise=answer_normaliser(rendered_by(QWEN3, tmp_path)),
    )  # fmt: skip
    (entry,) = result.summary["candidates"]
    assert entry["score"] == 1 and entry["corpus"]["value"] == pytest.approx(100)
    assert result.records[0].text == thoughtful and result.records[0].want == "Left."


def test_a_run_compares_what_is_written(tmp_path: Path) -> None:
    model = tiny_model_dir(tmp_path / "model")
    (tmp_path / "own.jinja").write_text(QWEN3, encoding="utf-8")
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": f"{n}?"},
                      {"role": "assistant", "content": f"{n}!", "reasoning_content": "Easy."}]}
        for n in range(60)
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = load_task(
        {
            "model": str(model),
            "template": str(tmp_path / "own.jinja"),
            "data": {"train": str(tmp_path / "rows.jsonl")},
        },
        {"train.rank": 4, "train.max_steps": 2, "evaluate.shots": [0], "train.preflight": "off"},
    )
    done = ft.run(task, tmp_path / "run", quiet=True)
    records = list(read_jsonl(done.path / "evaluate" / "test" / "records.jsonl"))
    assert records and all(record["want"].endswith("!") and len(record["want"]) < 4 for record in records)
    context = RunContext(task, done.path, Console(quiet=True))
    setup.set_up(context, True)
    answers = train._answer_validator(context)
    assert answers is not None
    assert answers.normalise(FIELD, "<think>\nHm.\n</think>\n\nLeft.")[1] == "Left."
