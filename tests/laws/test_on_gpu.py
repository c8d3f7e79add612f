"""Laws 1 to 3 on a GPU, and what only a GPU has: bfloat16 by itself, no waiting inside a step.

Every law runs on the CPU too, with the back-ends that it has there, so that the tests themselves are known to
be right. The reference is the stock model in float64 on the CPU, one row a call.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gate import gate
from models_for_tests import CONFIGS, VOCABULARY, forest, tiny_model_dir
from training_for_tests import fit, load, rows, settings
from transformers import AttentionInterface

from finetooth.model.api import Model
from finetooth.model.attention import interface
from finetooth.model.tiny_copy import random_model
from finetooth.training import optimizer as optimizers
from finetooth.training.objectives import Signals, supervised
from finetooth.training.step import deterministic, evaluate_rows, train_step
from finetooth.tree import PrefixTree, Row
from finetooth.types import Sampling

FAMILIES = ("llama", "qwen2", "mistral", "gemma2", "gemma3", "gpt2", "opt")
PLACES = [
    ("cpu", "dense"),
    ("cpu", "segment"),
    pytest.param("cuda", "dense", marks=pytest.mark.gpu),
    pytest.param("cuda", "flex", marks=pytest.mark.gpu),
]
on_each = pytest.mark.parametrize(("device", "kind"), PLACES)


@pytest.fixture(autouse=True)
def _registered() -> None:
    AttentionInterface.register(interface.NAME, interface.attention)


def wide(family: str) -> Any:
    """A random model with heads of 16 numbers, the fewest that CUDA kernels take."""
    config = copy.deepcopy(CONFIGS[family])
    for name in ("hidden_size", "n_embd", "word_embed_proj_dim", "head_dim"):
        if getattr(config, name, None) in (8, 32):
            setattr(config, name, 2 * getattr(config, name))
    return random_model(config)


def over_trees(hf: Any, device: str, kind: str) -> Model:
    hf.set_attn_implementation(interface.NAME)
    return Model(hf.to(device), None, kind, frozenset())


def gradients(hf: Any) -> dict[str, torch.Tensor]:
    return {n: w.grad.double().cpu() for n, w in hf.named_parameters() if w.grad is not None}


def require_same(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> None:
    assert got.keys() == want.keys()
    largest = max(float(grad.abs().max()) for grad in want.values())
    for name, grad in want.items():
        if name.endswith("k_proj.bias"):  # truly 0 without rotary positions: both sides hold rounding
            continue
        bound = 1e-5 * max(float(grad.abs().max()), 1e-3 * largest)
        assert float((got[name] - grad).abs().max()) <= bound, name


@on_each
@pytest.mark.parametrize(
    "family",  # on the CPU test_tree_equals_rows.py has the same law
    gate(FAMILIES, ["llama"]),
)
def test_law_1_the_tree_computes_what_rows_do(family: str, device: str, kind: str) -> None:
    hf, tree = wide(family), PrefixTree.build(forest(0, scale=6))
    assert len(tree) > 128
    exact = copy.deepcopy(hf).double()
    want_M = Model(exact, None, "rows", frozenset()).logprobs(tree)
    want_M.sum().backward()
    got_M = over_trees(hf, device, kind).logprobs(tree)
    got_M.sum().backward()
    assert torch.allclose(got_M.cpu().double(), want_M, atol=1e-5)
    require_same(gradients(hf), gradients(exact))


@on_each
def test_law_1_with_adapters(device: str, kind: str) -> None:
    hf, tree = wide("qwen2"), PrefixTree.build(forest(1, scale=6))
    Model(hf, None, "rows", frozenset()).add_lora(4, 0)
    with torch.no_grad():
        for name, weight in hf.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(len(name)))
    exact = copy.deepcopy(hf).double()
    Model(exact, None, "rows", frozenset()).logprobs(tree).sum().backward()
    over_trees(hf, device, kind).logprobs(tree).sum().backward()
    require_same(gradients(hf), gradients(exact))


@on_each
def test_law_2_the_budget_changes_nothing(device: str, kind: str) -> None:
    model, batch = over_trees(wide("llama"), device, kind), forest(2, scale=6)
    found = []
    for budget in (10**6, 60, 1):
        sgd = torch.optim.SGD(model.trainable(), lr=0.0)
        sgd.zero_grad = lambda **_: None  # type: ignore[method-assign]  # to look at the gradients
        result = train_step(model, supervised, batch, sgd, budget=budget, max_norm=1e9)
        found.append((result.loss, evaluate_rows(model, batch, budget=budget)[0], gradients(model.hf)))
        model.hf.zero_grad()
    for loss, evaluated, grads in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-6)
        assert evaluated == pytest.approx(found[0][1], rel=1e-6)
        require_same(grads, found[0][2])


@on_each
@pytest.mark.parametrize("family", ("llama", "mistral"))
def test_law_3_other_rows_do_not_reach_a_row(family: str, device: str, kind: str) -> None:
    hf = wide(family)
    model, tree = over_trees(hf, device, kind), PrefixTree.build(forest(3, scale=6))
    kept: list[torch.Tensor] = []

    def keep(module: Any, args: Any, out: torch.Tensor) -> None:
        kept.append(out)

    for index in (0, 2, 4):  # a forward pass for each: a compiled graph allows one backward pass
        with hf.get_input_embeddings().register_forward_hook(keep):
            logp_M = model.logprobs(tree)
        own = torch.from_numpy(tree.row_M == index).to(device)
        grad_ND = torch.autograd.grad(logp_M[own].sum(), kept.pop())[0][0].cpu()
        inside = torch.from_numpy(np.isin(np.arange(len(tree)), tree.path_R[index]))
        assert float(grad_ND[~inside].abs().max()) == 0.0 < float(grad_ND[inside].abs().max())


@on_each
def test_law_3_other_content_changes_no_bit(device: str, kind: str) -> None:
    model = over_trees(wide("llama"), device, kind)
    draw = np.random.default_rng(0)

    def first(seed: int) -> torch.Tensor:
        other = np.random.default_rng(seed)
        lists = [[1, *own], [2, *other.integers(0, VOCABULARY, 150)], [3, *other.integers(0, VOCABULARY, 9)]]
        tree = PrefixTree.build([Row(tokens, [0.0] + [1.0] * (len(tokens) - 1)) for tokens in lists])
        with torch.no_grad():
            return model.logprobs(tree)[: len(own)].cpu()

    own = draw.integers(0, VOCABULARY, 60)
    assert torch.equal(first(1), first(2))


@on_each
def test_answers_are_those_of_rows(device: str, kind: str) -> None:
    hf = wide("qwen2")
    slow = Model(copy.deepcopy(hf), None, "rows", frozenset())
    model = over_trees(hf, device, kind)
    contexts = [Row(row.tokens, np.zeros(len(row))) for row in forest(2, scale=3)]
    options = [[3, 5, 7], [3, 8], [4, 1]]
    told = []
    for each in (slow, model):
        done = sorted(each.generate(contexts, Sampling(max_tokens=6)), key=lambda answer: answer.row)
        chosen = sorted(each.choose(contexts, options))
        told.append(([answer.tokens for answer in done], [choice.option for choice in chosen]))
    assert told[0] == told[1]


# Only where there is a GPU ---------------------------------------------------------------------------------


@pytest.mark.gpu
def test_auto_is_flex_and_bfloat16(tmp_path: Path) -> None:
    model = Model.load(_with_wide_heads(tmp_path), device="cuda")
    assert (model.attention, model.dtype) == ("flex", torch.bfloat16), model.notes
    model.add_lora(4, 0)
    assert {weight.dtype for weight in model.trainable()} == {torch.float32}


def _with_wide_heads(directory: Path) -> Path:
    tiny_model_dir(directory, "qwen2")
    config = copy.deepcopy(CONFIGS["qwen2"])
    config.hidden_size, config.vocab_size = 64, 448
    random_model(config).save_pretrained(directory)
    return directory


@pytest.mark.gpu
@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_a_training_in_bfloat16_repeats_itself(tmp_path: Path, adapter: str) -> None:
    """The same run twice gives the same weights, and its losses are near those of float32 on the CPU."""
    directory = _with_wide_heads(tmp_path / "model")
    digests, losses = [], []
    for place, dtype in (("cuda", "auto"), ("cuda", "auto"), ("cpu", "float32")):
        model = Model.load(directory, device=place, dtype=dtype, master_weights=adapter == "none")
        if adapter == "lora":
            model.add_lora(4, 0)
        run = tmp_path / str(len(losses))
        losses.append(fit(model, run, settings(adapter=adapter, learning_rate=1e-3)).best_loss)
        digests.append(model.digest())
    assert digests[0] == digests[1]
    assert losses[0] == pytest.approx(losses[2], rel=2e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_nothing_waits_inside_a_step(tmp_path: Path, adapter: str) -> None:
    """From tokens to gradients the host never waits for the device; only the step's result may."""
    directory = _with_wide_heads(tmp_path / "model")
    model = Model.load(directory, device="cuda", master_weights=adapter == "none")
    if adapter == "lora":
        model.add_lora(4, 0)
    optimizer = optimizers.build(model.train(), settings(adapter=adapter))
    tree = PrefixTree.build(rows(6))
    for mode in ("default", "error"):  # first once to compile
        with deterministic(model.device), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.cuda.set_sync_debug_mode(mode)
            try:
                loss_U, _ = supervised.loss(Signals.of(tree, model.logprobs(tree)))
                loss_U.sum().backward()
                optimizer.step()
                optimizer.zero_grad()
            finally:
                torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_a_saved_state_continues_on_the_gpu(tmp_path: Path) -> None:
    model = load(tmp_path).train()
    assert model.device.type == "cuda"
    optimizer = optimizers.build(model, settings())
    train_step(model, supervised, rows(4), optimizer, budget=64, max_norm=1.0)
    state = optimizers.state(model, optimizer)
    optimizers.load_state(model, again := optimizers.build(model, settings()), state)
    for weight in model.trainable():
        assert again.state[weight]["step"].device.type == "cuda"
    train_step(model, supervised, rows(4), again, budget=64, max_norm=1.0)
