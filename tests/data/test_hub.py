"""Finding a model's files: embedded, local, hub cache; a clear message for everything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetooth.config.named_models import named_models
from finetooth.data import fetch, hub
from finetooth.errors import DataError, ModelError


def test_a_local_directory(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelError, match=r"Expected a config\.json, found notes\.txt"):
        hub.model_directory(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert hub.model_directory(str(tmp_path)) == tmp_path
    with pytest.raises(ModelError, match="a file"):
        hub.model_directory(str(tmp_path / "config.json"))


def test_a_folder_of_that_name_does_not_hide_the_embedded_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "milktooth"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert hub.model_directory("milktooth").resolve() != folder.resolve()
    assert hub.model_directory("./milktooth").resolve() == folder.resolve()


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/dir", "milktoth", "a/b/c"])
def test_what_is_no_model(name: str) -> None:
    with pytest.raises(ModelError, match=r"no such directory\. Expected a local model directory, a hub id"):
        hub.model_directory(name)


def test_a_hub_id_comes_from_the_cache_or_says_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"org/model: not a local path, not in Hugging Face's cache"):
        hub.model_directory("org/model")
    snapshot = tmp_path / "models--org--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--org--model" / "refs").mkdir()
    (tmp_path / "models--org--model" / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    assert hub.model_directory("org/model", weights=False) == snapshot
    with pytest.raises(ModelError, match="no safetensors weights"):
        hub.model_directory("org/model")
    (snapshot / "model.safetensors").write_bytes(b"")
    assert hub.model_directory("org/model") == snapshot


def test_a_hub_id_may_name_a_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for revision, commit in (("main", "abc"), ("v1.0", "def")):
        snapshot = tmp_path / "models--org--model" / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text("{}")
        (snapshot / "model.safetensors").write_bytes(b"")
        (tmp_path / "models--org--model" / "refs").mkdir(exist_ok=True)
        (tmp_path / "models--org--model" / "refs" / revision).write_text(commit)
    assert hub.model_directory("org/model").name == "abc"
    assert hub.model_directory("org/model@v1.0").name == "def"
    with pytest.raises(ModelError, match=r"org/model@v2: not a local path, not in Hugging Face's cache"):
        hub.model_directory("org/model@v2")


@pytest.mark.parametrize(
    ("config", "length"),
    [({"max_position_embeddings": 64}, 64), ({"n_positions": 32, "n_ctx": 16}, 32), ({}, None), (None, None)],
)
def test_the_context_length_of_a_config(
    config: dict[str, int] | None, length: int | None, tmp_path: Path
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    assert hub.context_length(tmp_path) == length


def test_the_context_length_of_a_model_with_several_parts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 96}}))
    assert hub.context_length(tmp_path) == 96


def test_a_misspelt_model_is_asked_about() -> None:
    with pytest.raises(ModelError, match=r"Did you mean milktooth\?$"):
        hub.model_directory("miltooth")


def test_the_message_of_the_hub_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to do stands at its end, behind an address of any length."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("FINETOOTH_CACHE", str(tmp_path / "cache"))
    said = f"Cannot reach the hub at {'x' * 400}\n\nTo use cached files only, set HF_HUB_OFFLINE=1"

    def refuse(*_: object, **__: object) -> None:
        raise OSError(said)

    monkeypatch.setattr("finetooth.data.hub_cache.download", refuse)
    for find, name in ((hub.model_directory, "org/model"), (hub.dataset_directory, "org/rows")):
        with pytest.raises((ModelError, DataError)) as refused:
            find(name)
        assert f"({' '.join(said.split())}). Check the name" in str(refused.value)
    with pytest.raises(ModelError) as refused:
        fetch.fetch(named_models()["smollm2-360m"], lambda _: None, from_hub=True)
    assert f"could not be fetched ({' '.join(said.split())}). On a machine" in str(refused.value)
