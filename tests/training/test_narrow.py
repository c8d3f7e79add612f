"""Computing in bfloat16: what is trained stays float32, and no law but the exactness of numbers gives way.

All of it runs on the CPU; on CUDA `auto` chooses the same types (test_on_gpu.py).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from gate import gate
from models_for_tests import tiny_model_dir
from safetensors.torch import load_file
from training_for_tests import fit, load, rows, settings

from finetooth.errors import Interrupted, TrainError
from finetooth.model import device, head
from finetooth.model.api import Model
from finetooth.training import optimizer as optimizers
from finetooth.training.objectives import supervised
from finetooth.training.step import train_step
from finetooth.training.verification import outputs, save_model, verify_saved
from finetooth.tree import PrefixTree, Row
from finetooth.types import Sampling

BF16 = torch.bfloat16
ROWS = rows(6)
TREE = PrefixTree.build(ROWS)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_dir(tmp_path_factory.mktemp("model"))


def narrow(directory: Path, adapter: str, attention: str = "auto") -> Model:
    """As `auto` loads on a GPU: a bfloat16 base under LoRA, or float32 master_weights."""
    model = Model.load(directory, dtype="bfloat16", master_weights=adapter == "none", attention=attention)
    if adapter == "lora":
        model.add_lora(4, 0)
    return model


def dtypes(weights: list[torch.Tensor]) -> set[torch.dtype]:
    return {weight.dtype for weight in weights}


def test_what_auto_means() -> None:
    cpu = torch.device("cpu")
    assert device.resolve_dtype("auto", cpu) == torch.float32
    assert device.resolve_dtype("bfloat16", cpu) == BF16
    assert device.describe_dtypes(torch.float32, BF16) == "bfloat16 over float32 weights"
    assert device.describe_dtypes(BF16, BF16) == "bfloat16"


@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_only_trained_weights_are_wide(models: Path, adapter: str) -> None:
    model = narrow(models, adapter)
    assert model.dtype == BF16 and model.master_weights == (adapter == "none")
    assert dtypes(model.trainable()) == {torch.float32}
    frozen = [weight for weight in model.hf.parameters() if not weight.requires_grad]
    assert dtypes(frozen) == ({BF16} if adapter == "lora" else set())
    with torch.no_grad():
        assert model.logprobs(TREE).dtype == torch.float32


def test_narrow_weights_are_not_trained(models: Path) -> None:
    model = Model.load(models, dtype="bfloat16")
    with pytest.raises(TrainError, match="master_weights=True"):
        optimizers.build(model, settings(adapter="none"))


@pytest.mark.parametrize("chunk", [1 << 20, 1 << 11])
def test_a_sure_token_is_sure(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A logit of 40 is rounded by 0.1 in bfloat16. Log-probabilities near 0 must not have that error."""
    monkeypatch.setitem(head.CHUNK_NUMBERS, "cpu", chunk)
    generator = torch.Generator().manual_seed(0)
    linear = torch.nn.Linear(64, 500, bias=False, dtype=BF16).requires_grad_(False)
    linear.weight.normal_(0, 1, generator=generator)
    token = torch.randint(500, (32,), generator=generator)
    hidden_KD = linear.weight[token] * 0.6 + torch.randn(32, 64, generator=generator).to(BF16) * 0.1
    exact_M = torch.log_softmax(hidden_KD.double() @ linear.weight.double().T, -1)[torch.arange(32), token]
    assert exact_M.min() > -1e-4 and (linear(hidden_KD).amax(-1) > 20).all()
    found_M = head.logprobs(head.Head(linear), hidden_KD, np.arange(32), token.numpy(), 1.0)
    assert found_M.dtype == torch.float32 and -1e-4 < found_M.min() <= found_M.max() <= 0


@pytest.mark.parametrize("attention", ["dense", "segment", "rows"])
def test_every_gradient_arrives(models: Path, attention: str) -> None:
    """Near the exact one, and float32; the head's weight has one too."""
    exact, model = Model.load(models), narrow(models, "none", attention)
    for each in (exact, model):
        each.logprobs(TREE).sum().backward()
    want, got = exact.named_trainable(), model.named_trainable()
    for name, weight in want.items():
        ours = got[name].grad
        assert ours is not None and ours.dtype == torch.float32, name
        alike = torch.nn.functional.cosine_similarity(ours.flatten(), weight.grad.flatten(), 0)
        assert alike > 0.99, name
        assert not torch.equal(ours, weight.grad), name  # it was computed in bfloat16


@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_a_step_is_near_the_exact_one(models: Path, adapter: str) -> None:
    results = []
    for model in (load(models, adapter), narrow(models, adapter)):
        optimizer = optimizers.build(model, settings(adapter=adapter))
        results += [train_step(model, supervised, ROWS, optimizer, budget=64, max_norm=1.0) for _ in range(2)]
        assert dtypes(model.trainable()) == {torch.float32}
    exact, _, found, _ = results
    assert found.loss == pytest.approx(exact.loss, rel=5e-3) and found.loss != exact.loss
    assert found.grad_norm == pytest.approx(exact.grad_norm, rel=3e-2)


@pytest.mark.parametrize("adapter", gate(["lora", "none"], ["lora"]))
def test_resume_is_exact(models: Path, tmp_path: Path, adapter: str) -> None:
    config = settings(adapter=adapter)
    straight, first, second = (narrow(models, adapter) for _ in range(3))
    want = fit(straight, tmp_path / "straight", config)
    calls = iter(range(1, 100))
    with pytest.raises(Interrupted):
        fit(first, tmp_path / "broken", config, stop=lambda: next(calls) == 3)
    assert fit(second, tmp_path / "broken", config) == want
    assert second.digest() == straight.digest()


@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_what_is_saved_is_wide_and_loads_as_it_was(models: Path, tmp_path: Path, adapter: str) -> None:
    model = narrow(models, adapter)
    fit(model, tmp_path, settings(adapter=adapter))
    path = save_model(model, tmp_path, None)
    tensors = load_file(next(path.glob("*.safetensors")))
    assert dtypes(list(tensors.values())) == {torch.float32}
    options = {"dtype": "bfloat16", "master_weights": model.master_weights}
    with torch.no_grad():
        want_M = model.logprobs(TREE)
    saved = partial(Model.load, models) if adapter == "lora" else Model.load
    again = verify_saved(
        model,
        path,
        lambda path: saved(adapter=path, **options) if adapter == "lora" else saved(path, **options),
        ROWS,
        outputs(narrow(models, adapter), ROWS),
    )
    if adapter == "lora":
        assert dtypes(again.trainable()) == {torch.float32}
        with torch.no_grad():
            assert torch.equal(again.logprobs(TREE), want_M)


@pytest.mark.parametrize("adapter", gate(["lora", "none"], ["lora"]))
@pytest.mark.parametrize("attention", gate(["dense", "segment", "flex", "rows"], ["segment", "rows"]))
def test_answers_carry_their_logprobs(models: Path, adapter: str, attention: str) -> None:
    """Near what a float32 model with the same rounded weights says of these tokens."""
    exact, model = load(models, "none"), narrow(models, adapter, attention)
    with torch.no_grad():
        for weight in exact.hf.parameters():
            weight.copy_(weight.to(BF16))
    contexts = [Row(row.tokens, [0.0] * len(row)) for row in ROWS]
    with torch.no_grad():
        for answer in model.generate(contexts, Sampling(max_tokens=8, temperature=1.0, seed=1)):
            asked, count = ROWS[answer.row].tokens.tolist(), len(answer.tokens)
            row = Row([*asked, *answer.tokens], [0.0] * len(asked) + [1.0] * count)
            want = exact.logprobs(PrefixTree.build([row])).tolist()
            assert list(answer.logprobs) == pytest.approx(want, abs=0.1)
        options = [[3, 5], [7], [9, 4, 1]]
        found, want = (sorted(each.choose(contexts, options)) for each in (model, exact))
    for ours, theirs in zip(found, want, strict=True):
        assert ours.logprob == pytest.approx(theirs.logprob, abs=0.1)
