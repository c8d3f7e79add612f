"""`finetooth models`, and tasks that call a model by its name or by a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import finetooth
from gguf_for_tests import tiny_llama, write_gguf

from finetooth.config.named_models import named_models
from finetooth.data.cache import CACHE


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def write_task(folder: Path, model: str) -> Path:
    rows = [f"message number {index} about {'bills' if index % 2 else 'parcels'}" for index in range(30)]
    labels = ["billing" if index % 2 else "delivery" for index in range(30)]
    lines = [f"{text},{label}" for text, label in zip(rows, labels, strict=True)]
    (folder / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    (folder / "task.yaml").write_text(f"model: {model}\ndata: {{train: rows.csv}}\n")
    return folder / "task.yaml"


def test_the_list_says_what_is_here_and_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetooth.machine.memory", lambda: 8 << 30)
    done = finetooth(tmp_path, "models", "--json")
    assert done.returncode == 0
    found = {model["name"]: model for model in json.loads(done.stdout)["models"]}
    assert list(found) == list(named_models())
    assert [name for name, model in found.items() if model["path"]] == ["milktooth"]
    assert found["smollm2-135m"]["fits"] == {"lora": True, "full": True, "4-bit": True}
    assert found["qwen3-0.6b"]["fits"] == {"lora": True, "full": False, "4-bit": True}
    assert found["llama2-7b"]["fits"] == {"lora": False, "full": False, "4-bit": True}
    assert found["qwen3-8b"]["fits"] == {"lora": False, "full": False, "4-bit": False}
    assert found["gemma3-270m"]["licence"] == "Gemma terms of use"
    done = finetooth(tmp_path, "models")
    assert done.returncode == 0 and "8 GiB of memory" in done.stdout and done.stdout.endswith("get NAME\n")
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("qwen3-0.6b"))
    assert line.split() == [
        "qwen3-0.6b",
        "596",
        "M",
        "40,960",
        "chat",
        *["–", "yes", "–", "yes"],
        "Apache-2.0",
    ]


def test_names_that_are_none(tmp_path: Path) -> None:
    done = finetooth(tmp_path, "models", "get", "smolm2-135m")
    assert done.returncode == 2
    assert done.stderr.startswith("smolm2-135m: no model of this name. Did you mean smollm2-135m")
    done = finetooth(tmp_path, "models", "smollm2-135m")
    assert done.returncode == 2 and "to fetch this model: finetooth models get smollm2-135m" in done.stderr
    done = finetooth(tmp_path, "models", "get")
    assert done.returncode == 2 and done.stderr.startswith("models get: name a model.")
    done = finetooth(tmp_path, "models", "no.csv")
    assert done.returncode == 2 and "models no.csv: no such file or verb. Expected `finetooth" in done.stderr
    done = finetooth(tmp_path, "check", write_task(tmp_path, "smolm2-135m"))
    assert done.returncode == 2 and "Did you mean smollm2-135m" in done.stderr
    done = finetooth(tmp_path, "models", "get", "milktooth")
    assert done.returncode == 0 and "licence: Apache-2.0" in done.stdout
    done = finetooth(tmp_path, "models", "get", "milktooth", "--hub")
    assert done.returncode == 2 and "part of finetooth" in done.stderr


@pytest.mark.parametrize("verb", ["check", "run", "chat"])
def test_a_named_model_that_is_not_here_is_not_fetched(tmp_path: Path, verb: str) -> None:
    """A folder of that name is not taken for it either."""
    (tmp_path / "smollm2-135m").mkdir()
    target = "smollm2-135m" if verb == "chat" else write_task(tmp_path, "smollm2-135m")
    done = finetooth(tmp_path, verb, target)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == (
        "smollm2-135m is not on this machine yet (98 MB, Apache-2.0). To fetch it: finetooth models get "
        "smollm2-135m"
    )
    assert not (tmp_path / "cache" / "models").exists()


def test_a_gguf_file_is_checked_trained_and_chatted_with(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", tiny_llama(), "Q8_0")
    task = write_task(tmp_path, "tiny.gguf")
    flags = ["--train.preflight", "off", "--train.max_steps", "2", "--evaluate.limit", "2"]
    done = finetooth(tmp_path, "run", task, "--out", "run", *flags)
    assert done.returncode == 0, done.stderr
    assert "model: dequantised from Q8_0, not the original weights (tiny.gguf)" in done.stderr
    lines = done.stderr.splitlines()
    converting, dequantising = (
        [at for at, line in enumerate(lines) if line.startswith(f"model: tiny.gguf: {verb}")]
        for verb in ("converting its tokenizer", "dequantising weights from Q8_0")
    )
    assert len(converting) == len(dequantising) == 1 and converting < dequantising
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert "dequantised from Q8_0, not the original weights (tiny.gguf)" in environment["model"]["notes"]
    done = finetooth(tmp_path, "chat", "run", "--max-tokens", "2", given="Hello\n")
    assert done.returncode == 0, done.stderr
    done = finetooth(tmp_path, "chat", "tiny.gguf", "--max-tokens", "2", given="Hello\n")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all"])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.gguf").write_bytes(content)
    done = finetooth(tmp_path, "check", write_task(tmp_path, "broken.gguf"))
    assert done.returncode == 2 and "broken.gguf: " in done.stderr and "Download it again" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    done = finetooth(tmp_path, "check", write_task(tmp_path, "absent.gguf"))
    assert done.returncode == 2 and "absent.gguf: no such file." in done.stderr
