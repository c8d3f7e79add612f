"""Loading: what is accepted, what is refused with a clear message, and what the notes say about it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from models_for_tests import TREE_FAMILIES, families, tiny, tiny_model_dir
from safetensors.torch import load_file, save_file
from transformers import BloomConfig, Gemma3Config

from finetooth.errors import ModelError
from finetooth.model import capability, load, tiny_copy
from finetooth.model.api import Model
from finetooth.model.attention import interface
from finetooth.tree import PrefixTree, Row
from finetooth.types import Sampling


# docs/test_models.py proves every architecture in the gate, too
@pytest.mark.parametrize("family", families())
def test_the_proof_chooses_the_back_end(family: str, tmp_path: Path) -> None:
    model = Model.load(tiny_model_dir(tmp_path, family))
    assert model.attention == ("segment" if family in TREE_FAMILIES else "rows"), model.notes
    assert any(note.startswith(f"attention: {model.attention}") for note in model.notes)
    if family not in TREE_FAMILIES:
        with pytest.raises(ModelError, match="does not work for"):
            Model.load(tmp_path, attention="dense")
    else:
        assert Model.load(tmp_path, attention="dense").attention == "dense"
    assert Model.load(tmp_path, attention="rows").attention == "rows"


@pytest.mark.parametrize("name", ["unknown_argument", "logit_scale", "ignored_window", "ignored_positions"])
def test_the_proof_catches_what_is_not_implemented(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Differences that real families have, planted one at a time: each selects `rows`, with the reason."""
    family = "mistral" if name == "ignored_window" else "llama"
    tiny_model_dir(tmp_path, family)
    plain = interface.attention
    if name == "unknown_argument":
        monkeypatch.setattr(
            "finetooth.model.attention.interface.attention",
            lambda *args, **kwargs: plain(*args, temperature=30.0, **kwargs),
        )
    elif name == "logit_scale":
        forward = torch.nn.Linear.forward
        head = [0]

        def scaled(self: torch.nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
            out = forward(self, hidden)
            head[0] += 1
            return out * 1.01 if out.shape[-1] == tiny_copy.VOCABULARY and hidden.ndim == 3 else out

        monkeypatch.setattr(torch.nn.Linear, "forward", scaled)
    elif name == "ignored_window":
        monkeypatch.setattr(
            "finetooth.model.attention.interface.attention",
            lambda *args, sliding_window=None, **kwargs: plain(*args, **kwargs),
        )
    else:
        trunk = Model._trunk
        monkeypatch.setattr(
            Model,
            "_trunk",
            lambda self, token, depth, plan, nodes: trunk(self, token, np.arange(len(depth)), plan, nodes),
        )
    model = Model.load(tmp_path)
    assert model.attention == "rows"
    reason = "does not implement temperature" if name == "unknown_argument" else "log-probabilities differ"
    assert any("not proven" in note and reason in note for note in model.notes), model.notes


@pytest.mark.parametrize("name", ["finetooth/tree.py", "finetooth/model/attention/softmax.py"])
def test_the_source_that_a_proof_depends_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees too: every tree of a proof is built by tree.py."""
    before, read = capability._software.__wrapped__(), Path.read_bytes

    def edited(path: Path) -> bytes:
        return read(path) + (b"# edited" if path.as_posix().endswith(name) else b"")

    monkeypatch.setattr(Path, "read_bytes", edited)
    assert capability._software.__wrapped__() != before


def test_fresh_weights_come_from_the_seed(tmp_path: Path) -> None:
    tiny_model_dir(tmp_path, weights=False)
    one, same, other = (Model.load(tmp_path, seed=seed) for seed in (1, 1, 2))
    assert one.fresh and one.digest() == same.digest() != other.digest()
    assert any("initialised from seed 1" in note for note in one.notes)


def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such directory"):
        Model.load(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"config\.json"):
        Model.load(tmp_path)
    model = tiny_model_dir(tmp_path / "model")
    (model / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        Model.load(model)
    pickled = tiny_model_dir(tmp_path / "pickled", weights=False)
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="pickled"):
        Model.load(pickled)
    with pytest.raises(ModelError, match="attention"):
        Model.load(model, attention="flash")
    with pytest.raises(ModelError, match="dtype"):
        Model.load(tiny_model_dir(tmp_path / "dtype"), dtype="int8")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    path = tiny_model_dir(tmp_path) / "model.safetensors"
    whole = path.read_bytes()
    tensors = load_file(path)
    name = next(name for name in tensors if "up_proj" in name)
    save_file({key: value for key, value in tensors.items() if key != name}, path, {"format": "pt"})
    with pytest.raises(ModelError, match=f"missing keys: .*{name}"):
        Model.load(tmp_path)
    save_file({**tensors, name: tensors[name][:-1]}, path, {"format": "pt"})
    with pytest.raises(ModelError):
        Model.load(tmp_path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be loaded"):
        Model.load(tmp_path)


def test_remote_code_and_encoder_decoders_are_refused(tmp_path: Path) -> None:
    config = tiny_model_dir(tmp_path) / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}))
    with pytest.raises(ModelError):
        Model.load(tmp_path)
    config.write_text(json.dumps({"model_type": "t5", "is_encoder_decoder": True}))
    with pytest.raises(ModelError, match="encoder-decoder"):
        Model.load(tmp_path)


def test_tokenizer_and_model_must_belong_together(tmp_path: Path) -> None:
    tiny_model_dir(tmp_path)
    tiny("llama").save_pretrained(tmp_path)  # embeds 96 tokens
    with pytest.raises(ModelError, match="do not belong together"):
        Model.load(tmp_path)


def test_dropout_is_off_even_in_training_mode(tmp_path: Path) -> None:
    """Known failure 17: GPT-2 and OPT have dropout 0.1 in their configurations; training mode changes
    nothing.
    """
    row = Row(list(range(20)), [0.0] + [1.0] * 19)
    for family in ("gpt2", "opt", "gpt-neo"):
        model = Model.load(tiny_model_dir(tmp_path / family, family))
        tree = PrefixTree.build([row])
        with torch.no_grad():
            still = model.eval().logprobs(tree)
            assert torch.equal(model.train().logprobs(tree), still)


def test_the_longest_row_of_a_model_with_several_parts() -> None:
    config = Gemma3Config(text_config={"max_position_embeddings": 96})
    assert load.context_length(config) == load.context_length(config.text_config) == 96
    assert load.context_length(BloomConfig()) == 1 << 20, "ALiBi has no limit"


def test_rows_that_do_not_fit(tmp_path: Path) -> None:
    model = Model.load(tiny_model_dir(tmp_path))
    with pytest.raises(ModelError, match="257 tokens is longer than the model's 256"):
        model.logprobs(PrefixTree.build([Row([1] * 257, [0.0] * 256 + [1.0])]))
    assert model.logprobs(PrefixTree.build([Row([1, 2], [0.0, 0.0])])).shape == (0,)
    texts = [answer.text for answer in model.generate([Row([5, 6], [0, 0])], Sampling(max_tokens=4))]
    assert len(texts) == 1 and isinstance(texts[0], str)


@pytest.mark.parametrize("kind", ["Bert", "DistilBert"])
def test_an_encoder_is_named_as_such(kind: str, tmp_path: Path) -> None:
    sizes = {
        "Bert": {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    }
    sizes["DistilBert"] = {"dim": 8, "hidden_dim": 8, "n_layers": 1, "n_heads": 1}
    config = getattr(transformers, f"{kind}Config")(vocab_size=300, **sizes[kind])
    getattr(transformers, f"{kind}ForMaskedLM")(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError) as refused:
        Model.load(str(tmp_path))
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{tmp_path}: {kind.lower()} is an encoder") and "causal model" in line


def test_a_bert_that_is_a_decoder_is_no_encoder(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = transformers.BertConfig(vocab_size=300, is_decoder=True, **sizes)
    transformers.BertLMHeadModel(config).save_pretrained(tmp_path)
    assert load.load_config(tmp_path).model_type == "bert"
