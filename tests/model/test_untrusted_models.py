"""Model directories from strangers: nothing of them is run or unpickled, and no size takes the memory."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from models_for_tests import tiny_model_dir
from safetensors.torch import load_file, save_file

from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import ModelError
from finetooth.model.api import Model

CODE = "from pathlib import Path\nPath({mark!r}).write_text('ran')\n"
MAP = {
    "AutoConfig": "evil.C",
    "AutoModelForCausalLM": "evil.M",
    "AutoTokenizer": ["evil.T", "evil.T"],
}


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model directory whose files all name code; whoever is asked on stdin says yes."""
    monkeypatch.setattr("sys.stdin", io.StringIO("1\ny\nyes\n" * 20))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    directory = tmp_path / "model"
    tiny_model_dir(directory)
    code = CODE.format(mark=str(tmp_path / "mark"))
    (directory / "evil.py").write_text(code)
    (directory / "custom_generate").mkdir()
    (directory / "custom_generate" / "generate.py").write_text(code)
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        change(directory / name, auto_map=MAP, custom_generate="custom_generate/generate.py")
    return directory


def change(path: Path, **values: object) -> None:
    known = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(known | values))


def test_code_beside_a_known_architecture_is_ignored(stranger: Path) -> None:
    model = Model.load(stranger)
    assert model.tokenizer is not None and model.tokenizer.encode("a")
    model.save(stranger.parent / "saved")
    Model.load(stranger.parent / "saved")
    assert not (stranger.parent / "mark").exists()


@pytest.mark.parametrize("what", ["model", "base of an adapter", "tokenizer"])
def test_code_that_would_be_needed_is_refused(stranger: Path, what: str) -> None:
    target = stranger
    if what == "tokenizer":
        (stranger / "tokenizer.json").unlink()
        (stranger / "vocab.txt").write_text("a\nb\n")
        change(stranger / "tokenizer_config.json", tokenizer_class="EvilTokenizer")
    else:
        change(stranger / "config.json", model_type="evilx")
    if what == "base of an adapter":
        target = stranger.parent / "adapter"
        target.mkdir()
        change(target / "adapter_config.json", peft_type="LORA", base_model_name_or_path=str(stranger))
        save_file({}, target / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"evil\.py\), which is never run") as error:
        Model.load(target)
    assert "\n" not in str(error.value) and not (stranger.parent / "mark").exists()


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.bin", "optimizer.pt", "model.pth"])
@pytest.mark.parametrize("beside", [True, False])
def test_pickles_are_never_loaded(tmp_path: Path, name: str, beside: bool) -> None:
    directory = tmp_path / "model"
    tiny_model_dir(directory)
    torch.save(Bomb(tmp_path / "mark"), directory / name)
    if beside:
        Model.load(directory)
    else:
        (directory / "model.safetensors").unlink()
        with pytest.raises(ModelError, match="pickled"):
            Model.load(directory)
    assert not (tmp_path / "mark").exists()


def test_a_pickled_adapter_is_never_loaded(tmp_path: Path) -> None:
    model = Model.load(tiny_model_dir(tmp_path / "model"))
    model.add_lora(2, seed=0)
    model.save(tmp_path / "adapter")
    torch.save(Bomb(tmp_path / "mark"), tmp_path / "adapter" / "adapter_model.bin")
    Model.load(tmp_path / "model", adapter=tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="pickled adapters are not loaded"):
        Model.load(tmp_path / "model", adapter=tmp_path / "adapter")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vocab_size", 10**12),
        ("vocab_size", -1),
        ("num_hidden_layers", 10**6),
        ("num_hidden_layers", 0),
        ("num_attention_heads", 0),
        ("num_key_value_heads", 3),
        ("hidden_size", "x"),
        ("hidden_size", 32.5),
        ("hidden_size", 1_000_000),
        ("intermediate_size", -48),
        ("max_position_embeddings", 10**15),
        ("head_dim", 0),
        ("model_type", None),
        ("model_type", ["llama"]),
        ("rope_parameters", "x"),
        ("rms_norm_eps", "x"),
        ("hidden_act", "no such function"),
        ("eos_token_id", "x"),
        ("eos_token_id", [[1]]),
        ("torch_dtype", "float7"),
    ],
)
def test_absurd_configurations_are_one_line(tmp_path: Path, key: str, value: object, weights: bool) -> None:
    tiny_model_dir(tmp_path, weights=weights)
    change(tmp_path / "config.json", **{key: value})
    try:
        Model.load(tmp_path)
    except ModelError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
    else:
        assert key in ("torch_dtype", "num_key_value_heads", "max_position_embeddings", "eos_token_id")


def test_weights_of_other_sizes_are_named(tmp_path: Path) -> None:
    tiny_model_dir(tmp_path)
    change(tmp_path / "config.json", intermediate_size=64)
    with pytest.raises(ModelError, match=r"proj.weight is \[32, 48\] in .* asks for \[32, 64\]"):
        Model.load(tmp_path)


def _without(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(list(tensors.items())[1:])


def _nan_shape(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight[:1] for name, weight in tensors.items()}


@pytest.mark.parametrize("damage", [_without, _nan_shape, lambda tensors: {}])
def test_damaged_weights_are_one_line(tmp_path: Path, damage: Callable[..., dict[str, torch.Tensor]]) -> None:
    tiny_model_dir(tmp_path)
    tensors = damage(load_file(tmp_path / "model.safetensors"))
    save_file({name: weight.contiguous() for name, weight in tensors.items()}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError) as error:
        Model.load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        {"r": 10**9},
        {"rank_pattern": {"q_proj": 10**9}},
        {"target_modules": "(.*.*)*.*=x"},
        {"peft_type": "NOTHING"},
        {"megatron_config": {"a": 1}, "megatron_core": "evil"},
        *(
            pytest.param(values, marks=pytest.mark.full)
            for values in (
                {"r": -1},
                {"r": "x"},
                {"target_modules": "(" * 50},
                {"target_modules": 7},
                {"peft_type": 3},
                {"task_type": "x"},
                {"base_model_name_or_path": 7},
            )
        ),
    ],
)
def test_absurd_adapters_are_one_line(
    tmp_path: Path, values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetooth.model.lora.PATTERN_SECONDS", 2.0)
    model = Model.load(tiny_model_dir(tmp_path / "model"))
    model.add_lora(2, seed=0)
    model.save(tmp_path / "adapter")
    change(tmp_path / "adapter" / "adapter_config.json", **values)
    with pytest.raises(ModelError) as error:
        if "base_model_name_or_path" in values:
            Model.load(tmp_path / "adapter")
        Model.load(tmp_path / "model", adapter=tmp_path / "adapter")
    assert "\n" not in str(error.value)


def _set(where: str, value: object) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        path = directory / "tokenizer.json"
        content = json.loads(path.read_text())
        *parts, last = where.split(".")
        inner = content
        for part in parts:
            inner = inner[part]
        inner[last] = value
        path.write_text(json.dumps(content))

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        _set("model", {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}),
        _set("model", {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "zz"}),
        _set("model", {"type": "Unigram", "vocab": [], "unk_id": 7}),
        _set("model", {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 7}),
        _set("model.vocab", {"a": 2**32 - 1, "b": 2**40}),
        _set("model.vocab", []),
        _set("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"}),
        _set("post_processor", {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": 3}),
        _set("added_tokens", [{"id": -1, "content": "x", "special": True}]),
        _set("added_tokens", "x"),
        lambda directory: (directory / "tokenizer.json").write_bytes(b"\xff\xfe\x00{"),
        lambda directory: (directory / "tokenizer.json").write_text("[" * 100_000),
        lambda directory: change(directory / "tokenizer_config.json", added_tokens_decoder=["x"]),
        lambda directory: change(directory / "tokenizer_config.json", added_tokens_decoder={"x": {}}),
        lambda directory: change(directory / "tokenizer_config.json", extra_special_tokens=7),
        lambda directory: (directory / "tokenizer_config.json").write_text('{"a":' * 100_000),
    ],
)  # fmt: skip
def test_broken_tokenizers_are_one_line(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    shutil.copytree(tiny_model_dir(tmp_path / "model"), tmp_path / "broken")
    damage(tmp_path / "broken")
    try:
        tokenizer = Tokenizer.load(tmp_path / "broken")
    except ModelError as error:
        assert "\n" not in str(error)
    else:
        tokenizer.encode("a word")
