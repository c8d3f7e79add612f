"""The real models that a wheel brings: read from GGUF, trained two steps, saved, and loaded again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from command_line import finetooth
from transformers import AutoModelForCausalLM

from finetooth.config.named_models import named_models
from finetooth.data import fetch
from finetooth.data.hub import model_directory
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.model.api import Model
from finetooth.rundir import sha256_file
from finetooth.tree import Row
from finetooth.types import Sampling

TOPICS = ("a cat", "the sea", "7 + 15", "an unpaid invoice", "Guten Morgen")
FORMS = (
    "Write one sentence about {}.",
    "What is {}?",
    "Once upon a time there was {}",
    "Translate into French: {}",
    "def about():\n    # returns {}\n    return",
    "Classify the message as billing or delivery.\nMessage: {}\nLabel:",
    "The opposite of {} is",
    "List three words that go with {}:",
    "Question: who first wrote about {}?\nAnswer:",
    "{} and 2,048 others",
)
NAMES = ("smollm2-135m", "gemma3-270m")
PARAMETERS = {"smollm2-135m": 134_515_008, "gemma3-270m": 268_098_176}
KINDS = {"smollm2-135m": "Q4_1", "gemma3-270m": "Q5_0"}
real = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.models(name)) for name in NAMES])


def gguf_of(name: str) -> Path:
    directory = fetch.local(named_models()[name])
    wheels = named_models()[name].pypi
    if directory is None or wheels is None or not (directory / wheels.file).is_file():
        pytest.skip(f"{name} is here from the hub, not as the wheel's GGUF file")
    return directory / wheels.file


def prompts() -> list[str]:
    return [form.format(topic) for form in FORMS for topic in TOPICS]


@real
def test_the_file_is_the_one_of_the_table(name: str) -> None:
    wheels = named_models()[name].pypi
    assert wheels is not None and sha256_file(gguf_of(name)) == wheels.sha256
    model = Model.load(name)
    assert len(prompts()) == len(set(prompts())) == 50
    assert model.hf.num_parameters() == PARAMETERS[name]
    kind = KINDS[name]
    assert f"dequantised from {kind}, not the original weights ({wheels.file})" in model.notes


@pytest.mark.slow
@real
def test_greedy_answers_are_those_of_transformers_reading_of_the_file(name: str) -> None:
    file = gguf_of(name)
    model, tokenizer = Model.load(name), Tokenizer.load(model_directory(name))
    stock = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
    )
    for (left, ours), (right, theirs) in zip(
        model.hf.state_dict().items(), stock.state_dict().items(), strict=True
    ):
        assert left == right and torch.equal(ours, theirs), left
    contexts = [[*tokenizer.prefix_ids, *tokenizer.encode(prompt)] for prompt in prompts()]
    rows = [Row(ids, [0.0] * len(ids)) for ids in contexts]
    ours = {done.row: list(done.tokens) for done in model.generate(rows, Sampling(max_tokens=16))}
    stops = sorted(model.stop_ids)
    for index, ids in enumerate(contexts):
        with torch.no_grad():
            out = stock.generate(
                torch.tensor([ids]), max_new_tokens=16, do_sample=False, eos_token_id=stops, pad_token_id=0
            )
        assert ours[index] == out[0, len(ids) :].tolist(), prompts()[index]


@pytest.mark.slow
@real
def test_two_steps_saved_and_loaded_again(name: str, tmp_path: Path) -> None:
    lines = [f"message {index} about {'bills' if index % 2 else 'parcels'}" for index in range(20)]
    rows = [f"{text},{'billing' if index % 2 else 'delivery'}" for index, text in enumerate(lines)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (tmp_path / "task.yaml").write_text(f"model: {name}\ndata: {{train: rows.csv}}\n")
    flags = ["--train.preflight", "off", "--train.max_steps", "2", "--train.batch_size", "2"]
    done = finetooth(tmp_path, "train", "task.yaml", "--out", "run", *flags)
    assert done.returncode == 0, done.stderr
    metrics = (tmp_path / "run" / "train" / "metrics.jsonl").read_text().splitlines()
    assert sum("loss" in json.loads(line) for line in metrics) == 2
    done = finetooth(tmp_path, "chat", "run", "--max-tokens", "3", given="message 4 about parcels\n")
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_a_real_model_in_the_wrong_cache_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETOOTH_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", os.devnull)
    assert [name for name in NAMES if fetch.local(named_models()[name])] == []
