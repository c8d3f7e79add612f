"""GGUF files as models: weights, tokenizer and stop tokens are those of the file; others are told apart."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
import torch
from gate import gate
from gguf_for_tests import tiny_llama, write_gguf
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from finetooth.data.cache import CACHE
from finetooth.data.hub import model_directory
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import ModelError
from finetooth.model import dequantise
from finetooth.model.api import Model
from finetooth.tree import Row
from finetooth.types import Sampling

STATED = "llama.feed_forward_length"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / dequantise.WEIGHTS)


@pytest.mark.parametrize(("kind", "dtype"), [("F32", torch.float32), ("F16", torch.float16)])
def test_weights_that_were_not_quantised_are_the_original_ones(
    tmp_path: Path, kind: str, dtype: torch.dtype
) -> None:
    hf = tiny_llama()
    write_gguf(tmp_path / "m.gguf", hf, kind)
    model = Model.load(tmp_path / "m.gguf")
    assert f"read from m.gguf ({kind})" in model.notes
    original, loaded = hf.state_dict(), model.hf.state_dict()
    assert original.keys() == loaded.keys()
    for name, weight in original.items():
        expected = weight.to(dtype).float() if weight.ndim > 1 else weight
        assert torch.equal(loaded[name], expected), name
    stored = weights(model_directory(str(tmp_path / "m.gguf")))
    assert stored["model.layers.0.mlp.up_proj.weight"].dtype == dtype


@pytest.mark.parametrize("kind", gate(["Q8_0", "Q4_1"], ["Q4_1"]))
def test_a_quantised_file_is_what_transformers_reads(tmp_path: Path, kind: str) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_llama(), kind)
    model = Model.load(tmp_path)  # a directory with one
    assert f"dequantised from {kind}, not the original weights (m.gguf)" in model.notes
    stock = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="m.gguf", dtype=torch.float32, trust_remote_code=False
    )
    for name, weight in stock.state_dict().items():
        assert torch.equal(model.hf.state_dict()[name], weight), name
    # The file itself, without transformers: one matrix that is not permuted.
    (packed,) = (
        one for one in gguf.GGUFReader(tmp_path / "m.gguf").tensors if one.name == "blk.1.ffn_up.weight"
    )
    values = torch.from_numpy(gguf.dequantize(packed.data, packed.tensor_type))
    assert torch.equal(model.hf.state_dict()["model.layers.1.mlp.up_proj.weight"], values)


def test_tokenizer_template_and_stop_token_are_those_of_the_file(tmp_path: Path) -> None:
    vocabulary = write_gguf(tmp_path / "m.gguf", tiny_llama())
    original = Tokenizer.load(tmp_path / "tokenizer")
    tokenizer = Tokenizer.load(model_directory(str(tmp_path / "m.gguf"), weights=False))
    for text in (
        "What is 1234?\n\nLeft, then right.",
        "<|im_start|>user\nGuten Morgen<|im_end|>\n",
        "   é ∑",
    ):
        assert tokenizer.encode(text) == original.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.chat_template == original.chat_template
    assert tokenizer.special_ids >= {vocabulary["<|im_start|>"], vocabulary["<|im_end|>"]}
    model = Model.load(tmp_path / "m.gguf")
    assert model.stop_ids == {vocabulary["<|im_end|>"]} and model.max_tokens == 256
    (answer,) = model.generate([Row([5, 6, 7], [0, 0, 0])], Sampling(max_tokens=4))
    assert answer.tokens


def test_digits_stand_alone_where_the_file_says_so(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_llama(), pre="smollm")
    tokenizer = Tokenizer.load(model_directory(str(tmp_path / "m.gguf"), weights=False))
    assert [tokenizer.decode([index]) for index in tokenizer.encode("456")] == ["4", "5", "6"]


def test_a_file_is_dequantised_once_and_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_llama(), "Q8_0")
    capsys.readouterr()
    digest = Model.load(tmp_path / "m.gguf").digest()
    assert capsys.readouterr() == ("", "")
    (tmp_path / "m.gguf").rename(tmp_path / "moved.gguf")
    monkeypatch.setattr(dequantise, "_read", None)
    moved = Model.load(tmp_path / "moved.gguf")
    assert moved.digest() == digest and "(moved.gguf)" in " ".join(moved.notes)


def test_an_interrupted_dequantisation_leaves_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_llama(), "Q8_0")

    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dequantise, "_save", killed)
        with pytest.raises(KeyboardInterrupt):
            Model.load(tmp_path / "m.gguf")
    directory = model_directory(str(tmp_path / "m.gguf"))
    assert not (directory / dequantise.WEIGHTS).exists()
    assert not Model.load(directory).fresh  # the cached directory itself is never initialised from the seed
    assert (directory / dequantise.WEIGHTS).is_file()


def test_a_full_disk_and_too_little_memory_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_llama())

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(dequantise, "_save", full)
        with pytest.raises(ModelError, match=r"The disk of .* is full: .* FINETOOTH_CACHE"):
            Model.load(tmp_path / "m.gguf")
    with monkeypatch.context() as patch:
        patch.setattr("finetooth.machine.memory", lambda: 1000)
        with pytest.raises(ModelError, match=r"dequantising takes .* of memory"):
            Model.load(tmp_path / "m.gguf")


def test_metadata_that_asks_for_other_weights(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_llama(), **{STATED: 9_000_000})
    with pytest.raises(ModelError, match=r"its metadata describes [\d,]+ weights, but its tensors hold"):
        Model.load(tmp_path / "m.gguf")


def test_sizes_that_no_model_has(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_llama(), **{STATED: 1 << 31})
    with pytest.raises(ModelError, match=r"intermediate_size is '2147483648'"):
        Model.load(tmp_path / "m.gguf")


def test_an_architecture_that_transformers_cannot_read(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_llama(), architecture="plamo")
    with pytest.raises(
        ModelError, match=r"of the architecture 'plamo', which cannot be used \(.*\)\. Take the"
    ):
        model_directory(str(tmp_path / "m.gguf"), weights=False)


def test_a_cache_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_llama())
    monkeypatch.setenv(CACHE, "")
    with pytest.raises(ModelError, match="Models need a cache directory"):
        Model.load(tmp_path / "m.gguf")


def test_the_narrowest_type_holds_every_value() -> None:
    values = torch.randn(64)
    assert dequantise.narrowest(values).dtype == torch.float32
    assert dequantise.narrowest(values.half().float()).dtype == torch.float16
    large = (values * 1e30).bfloat16().float()
    assert dequantise.narrowest(large).dtype == torch.bfloat16
    assert torch.equal(dequantise.narrowest(large).float(), large)


def test_dequantising_is_told_when_it_begins_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_llama(), "Q8_0")
    told: list[str] = []
    read = dequantise._read

    def watched(*given: object) -> object:
        told.append("reading")
        return read(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(dequantise, "_read", watched)
    Model.load(tmp_path / "m.gguf", say=told.append)
    first, second, third = told
    assert first == "m.gguf: converting its tokenizer; this happens once"
    assert second.startswith("m.gguf: dequantising weights from Q8_0 into the cache, ") and "once" in second
    assert third == "reading"
    Model.load(tmp_path / "m.gguf", say=told.append)
    assert len(told) == 3
