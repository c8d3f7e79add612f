"""Evaluation asks a row as it was trained: with its tools, and for a thought where the answer has one."""

from __future__ import annotations

from pathlib import Path

import pytest
from models_for_tests import tiny_model_dir
from templates_for_tests import QWEN3

from finetooth.data.render.renderer import Renderer
from finetooth.evaluation.candidates import ModelCandidate
from finetooth.evaluation.prompts import Prompt
from finetooth.model.api import Model
from finetooth.types import Answer, Example, Message, Sampling

QUESTION = (Message("user", "Which way?"),)
TOOL = {"type": "function", "function": {"name": "turn", "parameters": {"type": "object"}}}
WITH_TOOLS = "{%- for tool in tools or [] %}{{- tool | tojson + '\\n' }}{%- endfor %}\n" + QWEN3


@pytest.mark.parametrize("shape", ["plain", "tools", "thought"])
def test_the_context_that_is_asked_is_the_trained_one(shape: str, tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text(WITH_TOOLS, encoding="utf-8")
    model = Model.load(tiny_model_dir(tmp_path / "model"), device="cpu", seed=1)
    assert model.tokenizer is not None
    renderer = Renderer(model.tokenizer, str(tmp_path / "own.jinja"))
    more = {"reasoning_content": "left is shorter"} if shape == "thought" else {}
    tools = (TOOL,) if shape == "tools" else ()
    example = Example("x", QUESTION, (Answer("left", more=more),), tools=tools)
    candidate = ModelCandidate("plain", model, renderer, Prompt("plain"), Sampling(max_tokens=2))
    asked = candidate._row(example, QUESTION).tokens.tolist()
    (row,) = renderer.rows(example)
    assert row.tokens[row.weight == 0].tolist() == asked
    (answer,) = candidate.predict([example])
    assert answer.prompt_tokens == len(asked)
