"""Proofs that are kept, and models that share a base: for other weights, other software, another adapter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from gate import gate
from models_for_tests import forest, tiny_model_dir

from finetooth.data import cache
from finetooth.model import capability
from finetooth.model.api import Model
from finetooth.training.gradient_checkpointing import enable_gradient_checkpointing
from finetooth.tree import PrefixTree

TREE = PrefixTree.build(forest(1))
FAMILIES = ["llama", "qwen2", "gpt2", "gemma2", "opt", "mixtral", "gpt-oss", "gpt-neo"]


# Kept proofs ------------------------------------------------------------------------------------------------


@pytest.fixture
def proofs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a proof was made, and a random copy for one, with an empty cache to begin with."""
    monkeypatch.setenv(cache.CACHE, str(tmp_path / "cache"))
    calls = {"prove": 0, "small_copy": 0}

    def counted(name: str) -> Any:
        function = getattr(capability, name)

        def call(*args: Any) -> Any:
            calls[name] += 1
            return function(*args)

        return call

    for name in calls:
        monkeypatch.setattr(capability, name, counted(name))
    return calls


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.json"))


def test_a_proof_is_made_once_for_an_architecture(proofs: dict[str, int], tmp_path: Path) -> None:
    first = Model.load(tiny_model_dir(tmp_path / "a"))
    assert proofs["prove"] == 1 and proofs["small_copy"] > 0 and len(kept(tmp_path)) == 1
    copies = proofs["small_copy"]
    for directory in (tmp_path / "a", tiny_model_dir(tmp_path / "b", seed=3)):
        again = Model.load(directory)
        assert (again.attention, again.trimmed) == (first.attention, first.trimmed) == ("segment", True)
        assert any("segment, proven" in note for note in again.notes), "a kept proof is in the log too"
    with torch.no_grad():
        assert torch.equal(Model.load(tmp_path / "a").logprobs(TREE), first.logprobs(TREE))
    assert proofs == {"prove": 1, "small_copy": copies}


def test_rows_are_kept_as_a_result_too(proofs: dict[str, int], tmp_path: Path) -> None:
    loaded = [Model.load(tiny_model_dir(tmp_path / "a", "bloom")) for _ in range(2)]
    assert proofs["prove"] == 1
    assert [(model.attention, model.padded) for model in loaded] == [("rows", True)] * 2


@pytest.mark.parametrize("change", ["architecture", "dtype", "attention"])
def test_what_a_proof_depends_on_has_a_proof_of_its_own(
    change: str, proofs: dict[str, int], tmp_path: Path
) -> None:
    Model.load(tiny_model_dir(tmp_path / "a"))
    if change == "architecture":
        Model.load(tiny_model_dir(tmp_path / "b", "mistral"))
    elif change == "dtype":
        Model.load(tmp_path / "a", dtype="float64")
    else:
        assert Model.load(tmp_path / "a", attention="dense").attention == "dense"
    assert proofs["prove"] == 2 and len(kept(tmp_path)) == 2


@pytest.mark.parametrize(
    "content",
    gate(
        [
            b"",
            b'{"attention": "segm',
            b"\xff\xfe",
            *(b"[]", b"null", b"{}"),
            b'{"attention": "segment", "unknown": 1}',
            b'{"attention": "flash"}',
            b'{"attention": ["segment"]}',
            b'{"attention": "segment", "variant": "quick"}',
            b'{"attention": "segment", "padded": "no"}',
        ],
        [b"\xff\xfe", b"{}", b'{"attention": ["segment"]}', b'{"attention": "segment", "variant": "quick"}'],
    ),
)
def test_a_damaged_file_is_no_proof(content: bytes, proofs: dict[str, int], tmp_path: Path) -> None:
    Model.load(tiny_model_dir(tmp_path / "a"))
    (file,) = kept(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(content)
    assert Model.load(tmp_path / "a").attention == "segment"
    assert proofs["prove"] == 2
    assert file.read_bytes() == whole, "the new proof takes its place"


@pytest.mark.parametrize("obstacle", ["a file", "a folder", "no permission"])
def test_a_cache_that_cannot_be_used_costs_time_alone(
    obstacle: str, proofs: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_model_dir(tmp_path / "a")
    if obstacle == "a file":
        (tmp_path / "cache").write_text("not a folder")
    elif obstacle == "a folder":
        Model.load(tmp_path / "a")
        (file,) = kept(tmp_path)
        file.unlink()
        (file / "in the way").mkdir(parents=True)
    else:  # chmod does not stop root, so the system's answer is planted

        def refusing(method: Any) -> Any:
            def call(path: Path, *args: Any, **kwargs: Any) -> Any:
                if path.is_relative_to(tmp_path / "cache"):
                    raise PermissionError(13, "Permission denied", str(path))
                return method(path, *args, **kwargs)

            return call

        for name in ("is_file", "read_text", "open", "mkdir"):
            monkeypatch.setattr(Path, name, refusing(getattr(Path, name)))
    before = proofs["prove"]
    assert [Model.load(tmp_path / "a").attention for _ in range(2)] == ["segment"] * 2
    assert proofs["prove"] == before + 2


@pytest.mark.parametrize("changed", gate(["torch", "transformers", "peft", "source"], ["torch", "source"]))
def test_other_software_makes_a_new_proof(
    changed: str, proofs: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Model.load(tiny_model_dir(tmp_path / "a"))
    software = capability._software()
    assert len(software) == 4 and len(software[-1]) == 64
    at = ["torch", "transformers", "peft", "source"].index(changed)
    other = [f"{part}.1" if number == at else part for number, part in enumerate(software)]
    monkeypatch.setattr(capability, "_software", lambda: other)
    for _ in range(2):
        Model.load(tmp_path / "a")
    assert proofs["prove"] == 2 and len(kept(tmp_path)) == 2
    monkeypatch.setattr(capability, "_software", lambda: software)
    Model.load(tmp_path / "a")
    assert proofs["prove"] == 2, "back to what the first proof is for"


def test_an_empty_variable_keeps_nothing(
    proofs: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.CACHE, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for _ in range(2):
        Model.load(tiny_model_dir(tmp_path / "a"))
    assert proofs["prove"] == 2 and not kept(tmp_path)


def test_without_the_variable_it_is_the_users_cache(
    proofs: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(cache.CACHE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Model.load(tiny_model_dir(tmp_path / "a"))
    (file,) = kept(tmp_path)
    assert file.parent == tmp_path / "cache" / "finetooth" / "capability"
    assert json.loads(file.read_text())["attention"] == "segment"


@pytest.mark.full
def test_a_requested_back_end_that_fails_is_not_kept(proofs: dict[str, int], tmp_path: Path) -> None:
    tiny_model_dir(tmp_path / "a", "bloom")
    for _ in range(2):
        with pytest.raises(capability.ModelError, match="does not work for bloom"):
            Model.load(tmp_path / "a", attention="dense")
    assert proofs["prove"] == 2 and not kept(tmp_path)


# Adapters that share a base ---------------------------------------------------------------------------------


def logprobs(model: Model) -> torch.Tensor:
    with torch.no_grad():
        return model.logprobs(TREE)


def saved_adapter(base: Path, directory: Path, seed: int, stop: int | None = None) -> Path:
    model = Model.load(base)
    model.add_lora(4, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.trainable():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.05)
    if stop is not None:
        model.add_stop(stop)
    model.save(directory)
    return directory


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proofs")


@pytest.fixture
def _kept_proofs(proven: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests plant nothing that a proof would have to see, so one for each family is enough."""
    monkeypatch.setenv(cache.CACHE, str(proven))


@contextmanager
def undisturbed(model: Model) -> Iterator[None]:
    """Everything about the model stays as it was: weights, flags, modes, forwards, configuration."""

    def state() -> Any:
        modules = list(model.hf.named_modules())
        return (
            {name: (weight.requires_grad, weight.data_ptr()) for name, weight in model.hf.named_parameters()},
            {name: (type(module), module.training) for name, module in modules},
            {name: vars(module).get("forward") for name, module in modules},
            model.hf.config.to_dict(),
            (model.attention, model.stop_ids, model.name, model.digest(), model.digest(adapter=False)),
            list(model.named_trainable()),
        )

    before, want_M = state(), logprobs(model)
    yield
    assert state() == before
    assert torch.equal(logprobs(model), want_M)


def base_pointers(model: Model) -> dict[str, int]:
    """Where the weights without the adapter's lie."""
    weights = {n.replace(".base_layer", ""): w for n, w in model.hf.named_parameters() if ".lora_" not in n}
    return {name: weight.data_ptr() for name, weight in weights.items()}


@pytest.mark.usefixtures("_kept_proofs")
@pytest.mark.parametrize("family", gate(FAMILIES, ["llama"]))
def test_another_adapter_over_the_same_base(family: str, tmp_path: Path) -> None:
    base = tiny_model_dir(tmp_path / "base", family)
    first = saved_adapter(base, tmp_path / "first", 1, stop=11)
    second = saved_adapter(base, tmp_path / "second", 2, stop=13)
    want = Model.load(base, adapter=second)
    model = Model.load(base, adapter=first)
    with undisturbed(model):
        other = model.with_adapter(second)
        assert base_pointers(other) == base_pointers(model)
        assert torch.allclose(logprobs(other), logprobs(want), atol=1e-6, rtol=0)
        assert float((logprobs(other) - logprobs(model)).abs().max()) > 1e-2
        assert other.digest() == want.digest()
        assert other.digest(adapter=False) == want.digest(adapter=False)
        assert not other.training
        for name in ("attention", "variant", "trimmed", "padded", "dtype", "name", "stop_ids", "max_tokens"):
            assert getattr(other, name) == getattr(want, name), name
        assert set(other.named_trainable()) == set(want.named_trainable())
        other.logprobs(TREE).sum().backward()
        want.logprobs(TREE).sum().backward()
        for name, weight in want.named_trainable().items():
            assert weight.grad is not None
            theirs = other.named_trainable()[name].grad
            assert torch.allclose(theirs, weight.grad, atol=1e-5), name  # type: ignore[arg-type]
    assert all(weight.grad is None for weight in model.hf.parameters())


@pytest.mark.usefixtures("_kept_proofs")
@pytest.mark.parametrize("family", gate(FAMILIES, ["gpt-oss"]))
def test_while_the_first_is_in_training(family: str, tmp_path: Path) -> None:
    """As at the end of a run: gradient checkpointing on, training mode on, the adapter fresh, gradients."""
    base = tiny_model_dir(tmp_path / "base", family)
    saved = saved_adapter(base, tmp_path / "saved", 1)
    model = Model.load(base)
    model.add_lora(4, seed=5)
    assert enable_gradient_checkpointing(model) == 2
    model.train().logprobs(TREE).sum().backward()
    trained = model.named_trainable()
    gradients = {name: weight.grad.clone() for name, weight in trained.items()}  # type: ignore[union-attr]
    with undisturbed(model):
        other = model.with_adapter(saved)
        assert not other.training and model.training
        assert torch.allclose(logprobs(other), logprobs(Model.load(base, adapter=saved)), atol=1e-6, rtol=0)
        other.train()
        assert torch.allclose(logprobs(other), logprobs(Model.load(base, adapter=saved)), atol=1e-6, rtol=0)
    for name, weight in model.named_trainable().items():
        assert torch.equal(weight.grad, gradients[name])  # type: ignore[arg-type]
    layers: list[Any] = []
    for module in model.hf.modules():
        module.register_forward_hook(lambda module, args, out: layers.append(module))
    other.logprobs(TREE)
    assert not layers, "a layer of the first model was called"
    del other
    model.logprobs(TREE).sum().backward()


def test_an_adapter_of_another_shape(tmp_path: Path) -> None:
    """Another rank is fine; what does not fit is refused, and the first model does not notice."""
    base = tiny_model_dir(tmp_path / "base")
    saved = saved_adapter(base, tmp_path / "saved", 1)
    model = Model.load(base)
    model.add_lora(2, seed=0)
    foreign = saved_adapter(tiny_model_dir(tmp_path / "gpt2", "gpt2"), tmp_path / "foreign", 1)
    with undisturbed(model):
        want = logprobs(Model.load(base, adapter=saved))
        assert torch.allclose(logprobs(model.with_adapter(saved)), want, atol=1e-6, rtol=0)
        with pytest.raises(capability.ModelError, match="does not fit this model"):
            model.with_adapter(foreign)
        with pytest.raises(capability.ModelError, match="not an adapter directory"):
            model.with_adapter(base)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.usefixtures("_kept_proofs")
@pytest.mark.parametrize("family", gate(FAMILIES, ["llama", "gpt-oss"]))
def test_the_base_below_an_adapter(family: str, fails: bool, tmp_path: Path) -> None:
    base = tiny_model_dir(tmp_path / "base", family)
    want = Model.load(base)
    model = Model.load(base, adapter=saved_adapter(base, tmp_path / "saved", 1, stop=11))
    frozen = next(iter(model.named_trainable().values()))
    frozen.requires_grad_(False)
    with undisturbed(model):
        assert float((logprobs(model) - logprobs(want)).abs().max()) > 1e-2
        try:
            with model.without_adapter() as inside:
                assert torch.allclose(logprobs(inside), logprobs(want), atol=1e-6, rtol=0)
                with inside.without_adapter():
                    pass
                assert torch.allclose(logprobs(inside), logprobs(want), atol=1e-6, rtol=0), "still off"
                if fails:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass


def test_the_base_of_a_model_without_an_adapter_is_itself(tmp_path: Path) -> None:
    model = Model.load(tiny_model_dir(tmp_path))
    with undisturbed(model), model.without_adapter() as inside:
        assert inside is model
