"""Weights as they lie on disk: shards, half precision, tied embeddings, and files that are not whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from models_for_tests import assert_same_gradients, forest, gradients, tiny_model_dir
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from finetooth.errors import ModelError
from finetooth.model.api import Model
from finetooth.tree import PrefixTree

TREE = PrefixTree.build(forest(1))


def shard(directory: Path, dtype: torch.dtype = torch.float32) -> list[Path]:
    """Store the model of a directory again, in many files."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
    (directory / "model.safetensors").unlink()
    model.save_pretrained(directory, max_shard_size="20KB")
    files = sorted(directory.glob("*.safetensors"))
    assert len(files) > 2 and (directory / "model.safetensors.index.json").is_file()
    return files


def test_shards_are_one_model(tmp_path: Path) -> None:
    whole = Model.load(tiny_model_dir(tmp_path)).digest()
    shard(tmp_path)
    assert Model.load(tmp_path).digest() == whole


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    tiny_model_dir(tmp_path)
    files = shard(tmp_path)
    files[1].unlink()
    missing = f"1 of {len(files)} weight files are missing, among them {files[1].name}"
    with pytest.raises(ModelError, match=missing):
        Model.load(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{")
    with pytest.raises(ModelError, match=r"index\.json cannot be read"):
        Model.load(tmp_path)


def test_a_shard_that_is_cut_off_is_named(tmp_path: Path) -> None:
    tiny_model_dir(tmp_path)
    file = shard(tmp_path)[1]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=f"{file.name}: the file is damaged or cut off"):
        Model.load(tmp_path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    tiny_model_dir(tmp_path)
    files = shard(tmp_path, dtype)
    stored = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    weights = Model.load(tmp_path).hf.state_dict()
    assert stored.keys() == weights.keys()
    for name, tensor in stored.items():
        assert weights[name].dtype == torch.float32
        assert torch.equal(weights[name], tensor.float())


def test_tied_embeddings_are_one_weight(tmp_path: Path) -> None:
    """Stored once, loaded tied, trained once; its gradient is that of both its uses together."""
    model = Model.load(tiny_model_dir(tmp_path / "base", "qwen2"))
    assert model.hf.lm_head.weight is model.hf.model.embed_tokens.weight
    assert sum("embed" in name or "lm_head" in name for name in model.named_trainable()) == 1
    apart = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    apart.config.tie_word_embeddings = False
    apart.lm_head.weight = torch.nn.Parameter(apart.lm_head.weight.detach().clone())
    Model(apart, None, "rows", frozenset()).logprobs(TREE).sum().backward()
    want = gradients(apart)
    want["model.embed_tokens.weight"] += want.pop("lm_head.weight")
    model.logprobs(TREE).sum().backward()
    assert_same_gradients(gradients(model.hf), want, 1e-5)
    with torch.no_grad():
        model.hf.lm_head.weight.add_(0.1)
    model.save(tmp_path / "saved")
    assert "lm_head.weight" not in load_file(tmp_path / "saved" / "model.safetensors")
    again = Model.load(tmp_path / "saved")
    assert again.hf.lm_head.weight is again.hf.model.embed_tokens.weight
    assert again.digest() == model.digest()


def test_the_routing_loss_that_is_not_there_is_said(tmp_path: Path) -> None:
    notes = Model.load(tiny_model_dir(tmp_path / "mixtral", "mixtral")).notes
    assert any("load-balancing loss is not part of the loss" in note for note in notes)
    assert not any("experts" in note for note in Model.load(tiny_model_dir(tmp_path / "llama")).notes)


@pytest.mark.slow
def test_half_a_billion_weights_train_in_six_gib(tmp_path: Path, root: Path) -> None:
    """benchmarks/memory.py: Qwen2.5-0.5B's shape, LoRA, 16 rows of about 200 tokens a step, on the CPU."""
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, root / "benchmarks" / "memory.py", "--steps", "2"], capture_output=True, check=True
    )
    found = json.loads(done.stdout.decode().splitlines()[-1])
    assert found["peak_gib"] < 6.0
    assert 180 < found["tokens_per_row"] < 220
