"""The embedded model as it is shipped: small, whole, attributed, and able to answer and stop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import finetooth as ft
from finetooth.data.hub import model_directory
from finetooth.data.render.renderer import Renderer
from finetooth.tree import PrefixTree


@pytest.fixture(scope="module")
def model() -> ft.Model:
    return ft.Model.load("milktooth")


def test_it_is_small_and_attributed() -> None:
    directory = model_directory("milktooth")
    assert sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) < 10_000_000
    names = {path.name for path in directory.iterdir()}
    assert {"model.safetensors", "tokenizer.json", "chat_template.jinja", "NOTICE", "MODEL_CARD.md"} <= names
    notice = (directory / "NOTICE").read_text()
    assert "OpenStax" in notice and "CC BY 4.0" in notice
    assert "sgd" not in notice.lower()


def test_it_runs_on_the_fast_back_end(model: ft.Model) -> None:
    assert model.attention == "segment"
    assert model.max_tokens == 2048
    assert {weight.dtype for weight in model.trainable()} == {torch.float32}


def test_it_knows_some_english(model: ft.Model) -> None:
    """Far better than its untrained self (8.8 nats a token), and word order matters to it."""
    assert model.tokenizer is not None

    def nats(text: str) -> float:
        ids = [model.tokenizer.eos_token_id, *model.tokenizer.encode(text)]  # type: ignore[union-attr]
        with torch.no_grad():
            row = ft.Row(ids, [0.0] + [1.0] * (len(ids) - 1))
            return -float(model.logprobs(PrefixTree.build([row])).mean())

    plain = nats(" He went to the door and looked out of the window, but there was no one in the street.")
    shuffled = nats(" Window the in went but street out and was of there to looked he no the door, the one.")
    assert plain < 6.0
    assert plain < shuffled - 0.5


def test_it_answers_and_stops(model: ft.Model, tmp_path: Path) -> None:
    assert model.tokenizer is not None
    renderer = Renderer(model.tokenizer)
    assert renderer.kind == "chat" and renderer.stop_id in model.stop_ids
    contexts = [
        renderer.context_row([ft.Message("user", text)])
        for text in (
            "Repeat: green lamp",
            "Is seven more than two?",
            "Answer with one of: red, blue. The sky is",
        )
    ]
    answers = list(model.generate(contexts, ft.Sampling(max_tokens=48)))
    assert sum(answer.stop == "stop" for answer in answers) >= 2
    assert all("<|im_" not in answer.text for answer in answers if answer.stop == "stop")
