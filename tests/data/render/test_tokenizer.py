"""Tokenizer files as they occur: templates in lists and files, tokens as objects, absurd limits, no files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from templates_for_tests import CHATML
from tokenizers import models
from tokenizers_for_tests import byte_level, save_tokenizer

from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import ModelError


def test_a_directory_without_a_tokenizer_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no tokenizer\. Looked for tokenizer\.json.*found config\.json"):
        Tokenizer.load(tmp_path)
    with pytest.raises(ModelError, match="no such directory"):
        Tokenizer.load(tmp_path / "missing")


def test_broken_files_are_named(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer_config\.json: not valid JSON"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(ModelError, match="expected a JSON object, found list"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json: not a tokenizer file"):
        Tokenizer.load(tmp_path)


def test_templates_in_a_list_and_in_a_file(tmp_path: Path) -> None:
    templates = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    save_tokenizer(tmp_path, chat_template=templates)
    assert Tokenizer.load(tmp_path).chat_template == "D"
    (tmp_path / "chat_template.jinja").write_text("F", encoding="utf-8")
    assert Tokenizer.load(tmp_path).chat_template == "F"


def test_special_tokens_as_objects_and_from_the_old_map(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, "llama2", bos_token={"content": "<s>", "lstrip": False}, eos_token=None)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "</s>"}}))
    tokenizer = Tokenizer.load(tmp_path)
    assert (tokenizer.special_tokens["bos_token"], tokenizer.special_tokens["eos_token"]) == ("<s>", "</s>")
    assert tokenizer.eos_token_id == tokenizer.id_of("</s>")


@pytest.mark.parametrize("config", [{}, {"model_max_length": 1024}, None])
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_a_directory_that_names_no_token_takes_the_ids_of_the_model(
    file: str, config: dict[str, int] | None, tmp_path: Path
) -> None:
    """gpt2 and distilgpt2 as they are on the hub: their tokenizer_config.json names nothing."""
    save_tokenizer(tmp_path, "gpt2")
    (tmp_path / "tokenizer_config.json").unlink()
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    index = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).token_to_id("<|endoftext|>")
    ids = {"eos_token_id": [index, 7], "bos_token_id": index, "pad_token_id": 10**6}
    (tmp_path / file).write_text(json.dumps({"model_type": "gpt2", **ids}))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.special_tokens == {"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}
    assert tokenizer.eos_token_id == index and tokenizer.pad_token_id is None
    assert Renderer(tokenizer).stop_id == index
    tokenizer.save(tmp_path / "adapter")  # where the model's config.json does not go
    assert Tokenizer.load(tmp_path / "adapter").special_tokens == tokenizer.special_tokens


def test_a_tokenizer_that_names_its_tokens_is_not_overruled_by_the_model(tmp_path: Path) -> None:
    """Qwen names no BOS, though its config.json has a bos_token_id: transformers gives its template none."""
    save_tokenizer(tmp_path, "chatml")
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 5, "bos_token_id": 6}))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.bos_token_id is None and tokenizer.special_tokens["eos_token"] == "<|im_end|>"


def test_null_is_no_additional_token(tmp_path: Path) -> None:
    nulls = {"additional_special_tokens": None, "extra_special_tokens": None, "added_tokens_decoder": None}
    save_tokenizer(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | nulls))
    assert Tokenizer.load(tmp_path).eos_token_id is not None


@pytest.mark.parametrize(("value", "limit"), [(1e30, None), (2048, 2048), (None, None)])
def test_the_absurd_limit_is_none(value: float | None, limit: int | None, tmp_path: Path) -> None:
    assert Tokenizer.load(save_tokenizer(tmp_path, model_max_length=value)).model_max_length == limit


def test_tokens_that_only_the_config_declares_are_recognised(tmp_path: Path) -> None:
    backend = byte_level(["<|im_end|>"])
    fresh = backend.get_vocab_size()
    backend.save(str(tmp_path / "tokenizer.json"))
    entry = {"content": "<|im_start|>", "special": True}
    config = {"added_tokens_decoder": {str(fresh): entry}, "eos_token": "<|im_end|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode("<|im_start|>")[0] == fresh and fresh in tokenizer.special_ids
    config["added_tokens_decoder"] = {str(fresh + 5): entry}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="not of one model"):
        Tokenizer.load(tmp_path)


def test_truncation_and_padding_in_the_file_do_nothing(tmp_path: Path) -> None:
    """Known failure 10: a limit left in tokenizer.json by another tool must not shorten rows."""
    save_tokenizer(tmp_path)
    backend = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    backend.enable_truncation(4)
    backend.enable_padding(length=64)
    backend.save(str(tmp_path / "tokenizer.json"))
    text = "The quick brown fox jumps over the lazy dog"
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_saving_copies_the_files_and_the_template_that_was_used(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(save_tokenizer(tmp_path / "a"))
    tokenizer.save(tmp_path / "b")
    assert (tmp_path / "b" / "tokenizer.json").read_bytes() == (
        tmp_path / "a" / "tokenizer.json"
    ).read_bytes()
    assert Tokenizer.load(tmp_path / "b").chat_template == CHATML
    tokenizer.save(tmp_path / "c", "another")
    assert Tokenizer.load(tmp_path / "c").chat_template == "another"
    assert "chat_template" not in json.loads((tmp_path / "c" / "tokenizer_config.json").read_text())


def test_old_tokenizer_files_are_converted(tmp_path: Path) -> None:
    """A model with vocab.json and merges.txt alone: the same ids as its tokenizer.json would give."""
    backend = byte_level(["<|endoftext|>"])
    backend.save(str(tmp_path / "whole.json"))
    spec = json.loads((tmp_path / "whole.json").read_text())["model"]
    old = tmp_path / "old"
    old.mkdir()
    models.BPE(spec["vocab"], [tuple(merge) for merge in spec["merges"]]).save(str(old))
    (old / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>"})
    )
    (old / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    tokenizer = Tokenizer.load(old)
    for text in ("The quick brown fox", "a\n\nb <|endoftext|>"):
        assert tokenizer.encode(text) == backend.encode(text).ids
    tokenizer.save(tmp_path / "new")
    assert Tokenizer.load(tmp_path / "new").encode("brown fox") == backend.encode("brown fox").ids


def test_loading_needs_neither_torch_nor_transformers(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    code = (
        "import sys; from finetooth.data.render.tokenizer import Tokenizer; "
        "from finetooth.data.render.renderer import Renderer; "
        "Renderer(Tokenizer.load(sys.argv[1])); assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
