"""`finetooth models DATA`: which base model for this data."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import finetooth
from html_for_tests import Page, harmless
from models_for_tests import tiny_model_dir
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetooth.data.examples import read_examples
from finetooth.types import Example

LABELS = ("billing", "delivery")
TRAIN = ("--train.adapter", "none", "--train.learning_rate", "0.005", "--train.preflight", "off")
TRAIN += ("--train.max_steps", "12", "--train.batch_size", "8", "--train.epochs", "10")


@pytest.fixture(autouse=True)
def no_other_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetooth.data.fetch.local", lambda model: None)


def write_task(folder: Path, more: str = "") -> Path:
    lines = [
        f"message number {index} about {'bills' if index % 2 else 'parcels'},{LABELS[1 - index % 2]}"
        for index in range(60)
    ]
    (folder / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    (folder / "task.yaml").write_text(f"model: toy\ndata: {{train: rows.csv{more}}}\n")
    return folder / "task.yaml"


def stock_bits(hf: Any, tokenizer: Any, example: Example) -> float:
    """Bits of the answer and its stop token behind the zero-shot prompt, by transformers alone."""
    messages = [
        {"role": "system", "content": f"Answer with one of: {', '.join(LABELS)}."},
        {"role": "user", "content": example.context[0].content},
    ]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    before = tokenizer(prompt, add_special_tokens=False).input_ids
    ids = tokenizer(f"{prompt}{example.target}<|im_end|>", add_special_tokens=False).input_ids
    assert ids[: len(before)] == before
    with torch.no_grad():
        logp_TV = hf(torch.tensor([ids])).logits[0].log_softmax(-1)
    return -sum(float(logp_TV[at - 1, ids[at]]) for at in range(len(before), len(ids))) / math.log(2)


def test_a_model_that_knows_the_answers_is_ranked_before_one_that_does_not(tmp_path: Path) -> None:
    """Bits per byte are those of transformers, no row of the test is asked, and what cannot load is named."""
    toy = tiny_model_dir(tmp_path / "toy")
    task = write_task(tmp_path)
    done = finetooth(tmp_path, "train", task, "--out", "run", *TRAIN)
    assert done.returncode == 0, done.stderr
    words = ("models", task, "--model", "run/train/model", "--model", "nowhere", "--rows", "20")
    done = finetooth(tmp_path, *words, "--out", "choice", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert [model["name"] for model in found["models"]] == ["run/train/model", "toy"]
    assert found["chosen"] == "run/train/model"
    assert [entry["name"] for entry in found["failed"]] == ["nowhere"]
    assert "no such directory" in found["failed"][0]["reason"]
    rows = {
        side: {example.id: example for example in read_examples(tmp_path / "run" / "data" / f"{side}.jsonl")}
        for side in ("train", "validation", "sealed")
    }
    open_rows = rows["train"] | rows["validation"]
    assert len(set(found["ids"])) == 20 and set(found["ids"]) <= set(open_rows)
    assert found["rows"] == {"validation": len(rows["validation"]), "training": 20 - len(rows["validation"])}
    for model, directory in zip(found["models"], (tmp_path / "run/train/model", toy), strict=True):
        sample = [open_rows[id] for id in found["ids"]]
        hf = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(directory)
        bits = sum(stock_bits(hf, tokenizer, example) for example in sample)
        size = sum(len(example.target) for example in sample)
        assert model["bits_per_byte"]["value"] == pytest.approx(bits / size, rel=1e-4)
        assert model["bits_per_byte"]["low"] < bits / size < model["bits_per_byte"]["high"]
        assert model["rows"] == 20 and model["seconds"] > 0 and model["fits"] and model["context"] == 256
    assert [entry["name"] for entry in found["baselines"]] == ["majority", "bag-of-words"]
    assert found["baselines"][1]["score"] == 1.0 and "scores 100.0% on it" in found["baseline"]
    written = json.loads((tmp_path / "choice" / "models" / "ranking.json").read_text())
    assert written == found
    page = Page((tmp_path / "choice" / "models" / "report.html").read_text())
    harmless(page)


def test_the_table_names_the_base_to_start_from_and_the_next_command(tmp_path: Path) -> None:
    tiny_model_dir(tmp_path / "toy")
    done = finetooth(tmp_path, "models", write_task(tmp_path), "--rows", "8")
    assert done.returncode == 0, done.stderr
    assert "Start from toy: no other could be compared with it" in " ".join(done.stdout.split())
    assert "8 rows this is a weak comparison" in " ".join(done.stdout.split())
    assert "rows, none of the sealed test" in done.stdout
    assert done.stdout.endswith(f"Next: finetooth run {tmp_path / 'task.yaml'} --model toy\n")
    assert "toy: loading" in done.stderr
    name = next(path.parent.name for path in (tmp_path / "runs").glob("*/models"))
    assert f"runs/{name}/models/report.html" in done.stdout
    quiet = finetooth(tmp_path, "models", "task.yaml", "--rows", "8", "--quiet")
    assert quiet.returncode == 0 and quiet.stderr == ""


def test_a_test_file_is_not_opened(tmp_path: Path) -> None:
    tiny_model_dir(tmp_path / "toy")
    task = write_task(tmp_path, ", test: test.csv")
    (tmp_path / "test.csv").write_bytes(b"\x00\xff this is no table")
    assert finetooth(tmp_path, "check", task).returncode == 2
    done = finetooth(tmp_path, "models", task, "--rows", "4", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["models"][0]["name"] == "toy"


def test_a_model_whose_context_is_too_short_is_named(tmp_path: Path) -> None:
    """Of its rows the long ones are left out; without any, the model is."""
    toy = tiny_model_dir(tmp_path / "toy")
    config = json.loads((toy / "config.json").read_text())
    (toy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8}))
    done = finetooth(tmp_path, "models", write_task(tmp_path), "--rows", "4", "--json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["models"] == [] and found["chosen"] is None and found["failed"][0]["name"] == "toy"
    assert "4 of 4 rows cannot be asked" in found["failed"][0]["reason"]
    assert found["advice"] == "No candidate could be measured."


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--model", "toy"), "--model belongs to `finetooth models DATA`"),
        (("get", "milktooth", "--rows", "3"), "--rows belongs to `finetooth models DATA`"),
        (("task.yaml", "--hub"), "--hub belongs to `finetooth models get NAME`"),
        (("absent.csv",), "Expected `finetooth models` or `finetooth models get NAME`"),
    ],
)
def test_flags_of_another_use(tmp_path: Path, words: tuple[str, ...], error: str) -> None:
    write_task(tmp_path)
    done = finetooth(tmp_path, "models", *words)
    assert done.returncode == 2 and error in done.stderr


def test_plain_text_has_no_answers(tmp_path: Path) -> None:
    (tmp_path / "text.csv").write_text(
        "text\n" + "".join(f"line {number} of a text\n" for number in range(40))
    )
    (tmp_path / "task.yaml").write_text("data: {train: text.csv, format: text}\n")
    done = finetooth(tmp_path, "models", "task.yaml")
    assert done.returncode == 2 and "the data format is text" in done.stderr
