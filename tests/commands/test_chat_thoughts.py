"""What a run learned to think about is asked for with a thought in a chat too, as its rows were."""

from __future__ import annotations

from pathlib import Path

import pytest
from contexts_for_tests import of_run
from gate import gate
from models_for_tests import tiny_model_dir

from finetooth.cli.app import invoke
from finetooth.rundir import write_json, write_jsonl
from finetooth.runs import conversation
from finetooth.types import Message

QUESTION = "Which way?"


@pytest.mark.parametrize("thinks", gate([True, False], [True]))
def test_4_a_chat_asks_as_the_rows_were_asked(thinks: bool, tmp_path: Path) -> None:
    """Planted: Qwen3's template, which thinks unless told not to, and a chat that always tells it so."""
    tiny_model_dir(tmp_path / "model", tokenizer="qwen3")
    thought = {"reasoning_content": "Two ways."} if thinks else {}
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{k}?"},
                {"role": "assistant", "content": "Left.", **thought},
            ]
        }
        for k in range(20)
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    task = {"model": "model", "data": {"train": "rows.jsonl"}, "train": {"max_steps": 1, "preflight": "off"}}
    write_json(tmp_path / "task.yaml", task)  # JSON is YAML
    assert invoke(["train", str(tmp_path / "task.yaml"), "--out", str(tmp_path / "run"), "--quiet"]) == 0
    renderer = of_run(tmp_path / "run").renderer
    expected = renderer.context_row([Message("user", QUESTION)], thinking=thinks).tokens.tolist()
    other = renderer.context_row([Message("user", QUESTION)], thinking=not thinks).tokens.tolist()
    assert expected != other
    for place in (tmp_path / "run", tmp_path / "run" / "train" / "adapter"):
        for speaker in conversation.speakers(str(place), both=True):
            assert speaker.context("", QUESTION)[1].tokens.tolist() == expected
