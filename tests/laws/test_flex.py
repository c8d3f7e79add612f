"""The flex back-end on the CPU: its block masks are torch's own, and its forward pass keeps laws 1 and 3.

FlexAttention has no backward pass on the CPU; gradients are compared where there is a GPU (test_on_gpu.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models_for_tests import TREE_FAMILIES, VOCABULARY, families, forest, tiny, tiny_model_dir
from torch._dynamo.utils import counters
from torch.nn.attention.flex_attention import create_block_mask
from transformers import AttentionInterface

from finetooth.errors import ModelError
from finetooth.model.api import Model
from finetooth.model.attention import flex, interface
from finetooth.tree import PrefixTree, Row
from finetooth.types import Sampling

CPU = torch.device("cpu")
PARTS = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")
PARTS += ("q_num_blocks", "q_indices", "full_q_num_blocks", "full_q_indices")


@pytest.fixture(autouse=True)
def _registered() -> None:
    AttentionInterface.register(interface.NAME, interface.attention)


def over_trees(hf: Any) -> Model:
    hf.set_attn_implementation(interface.NAME)
    return Model(hf, None, "flex", frozenset())


def grown(seed: int, rows: int, longest: int) -> PrefixTree:
    """A forest in which every row leaves an earlier one somewhere, or starts anew."""
    draw = np.random.default_rng(seed)
    lists: list[list[int]] = []
    for _ in range(rows):
        above = lists[draw.integers(len(lists))] if lists and draw.random() < 0.8 else []
        keep = int(draw.integers(len(above) + 1))
        lists.append(above[:keep] + draw.integers(0, VOCABULARY, draw.integers(1, longest)).tolist())
    return PrefixTree.build([Row(tokens, [0.0] * len(tokens)) for tokens in lists])


def require_torchs_mask(tree: PrefixTree, window: int | None) -> tuple[int, int]:
    """Our block mask is the one torch makes from all pairs; returns how many blocks are mixed and full."""
    found = flex.TreeBlockMasks(tree, CPU).mask(window)
    size = flex.bucket(len(tree))
    want = create_block_mask(found.mask_mod, None, None, size, size, CPU, BLOCK_SIZE=flex.BLOCK)
    assert found.shape == want.shape and found.BLOCK_SIZE == want.BLOCK_SIZE
    for name in PARTS:
        ours, theirs = getattr(found, name), getattr(want, name)
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs), name
    return int(found.kv_num_blocks.sum()), int(found.full_kv_num_blocks.sum())


@pytest.mark.parametrize("window", [None, 3, 9, 40])
def test_block_masks_are_torchs(window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "BLOCK", 8)
    full = 0
    for seed in range(30):
        tree = grown(seed, rows=1 + seed, longest=2 + 2 * seed)
        full += require_torchs_mask(tree, window)[1]
    assert full > 0 or window in (3, 9)  # of narrow windows no block of 8 x 8 is seen in full


def test_block_masks_of_real_size() -> None:
    tree = grown(1, rows=12, longest=400)
    assert len(tree) > 5 * flex.BLOCK
    mixed, full = require_torchs_mask(tree, None)
    assert full > 0 and mixed < (flex.bucket(len(tree)) // flex.BLOCK) ** 2 / 2


def test_the_mask_follows_the_trees_rule() -> None:
    """Node by node, against the definition: ancestors, in a windowed layer the near ones."""
    tree = grown(3, rows=12, longest=20)
    above = [set() for _ in range(len(tree))]
    for node, parent in enumerate(tree.parent_N):
        above[node] = {node} | (above[parent] if parent >= 0 else set())
    for window in (None, 6):
        mask_mod = flex.TreeBlockMasks(tree, CPU).mask(window).mask_mod
        for node in range(0, len(tree), 7):
            zero, key = torch.tensor(0), torch.arange(len(tree))
            seen = set(mask_mod(zero, zero, torch.tensor(node), key).nonzero()[:, 0].tolist())
            near = {j for j in above[node] if window is None or tree.depth_N[node] - tree.depth_N[j] < window}
            assert seen == near


def test_a_wrong_mask_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: windows are forgotten where blocks are counted as full."""
    real = flex.visible_blocks

    def forgetful(end_P: Any, depth_P: Any, window: int | None) -> Any:
        return real(end_P, depth_P, window)[0], real(end_P, depth_P, None)[1]

    monkeypatch.setattr(flex, "BLOCK", 8)
    monkeypatch.setattr(flex, "visible_blocks", forgetful)
    with pytest.raises(AssertionError):
        require_torchs_mask(grown(5, rows=9, longest=60), 20)


def test_lengths_are_few() -> None:
    sizes = [flex.bucket(size) for size in range(1, 32769)]
    assert len(set(sizes)) == 16 and all(size % flex.BLOCK == 0 for size in sizes)
    assert all(size >= n for n, size in enumerate(sizes, 1))
    assert all(size < 1.5 * (n + flex.BLOCK) for n, size in enumerate(sizes, 1))


@pytest.mark.parametrize("family", families(TREE_FAMILIES, ["gpt-oss"]))
def test_logprobs_are_those_of_rows(family: str) -> None:
    hf, rows = tiny(family), forest(0, scale=6)
    tree = PrefixTree.build(rows)
    assert len(tree) > flex.BLOCK
    with torch.no_grad():
        want_M = Model(hf, None, "rows", frozenset()).logprobs(tree)
        assert torch.allclose(over_trees(hf).logprobs(tree), want_M, atol=1e-5)


@pytest.mark.parametrize("family", families(["llama", "mistral"], ["llama"]))
def test_other_rows_change_nothing(family: str) -> None:
    model = over_trees(tiny(family))
    lists = [row.tokens.tolist() for row in forest(0, scale=6)]
    shared = lists[0][:6]

    def logprobs(lists: list[list[int]]) -> torch.Tensor:
        tree = PrefixTree.build([Row(tokens, [0.0] + [1.0] * (len(tokens) - 1)) for tokens in lists])
        with torch.no_grad():
            return model.logprobs(tree)[torch.tensor(tree.row_M == 0)]

    here = logprobs(lists)
    other = [[(token + 1) % VOCABULARY for token in tokens] for tokens in lists]
    kept = [tokens if tokens[:6] == shared else other[index] for index, tokens in enumerate(lists)]
    assert kept != lists and torch.equal(here, logprobs(kept))
    assert torch.allclose(here, logprobs(lists[:3]), atol=1e-5)


def test_answers_are_those_of_rows() -> None:
    hf = tiny("qwen2")
    contexts = [Row(row.tokens, np.zeros(len(row))) for row in forest(2, scale=3)]
    options = [[3, 5, 7], [3, 8], [4, 1]]

    def answers(model: Model) -> tuple[Any, Any]:
        done = sorted(model.generate(contexts, Sampling(max_tokens=5)), key=lambda answer: answer.row)
        return [answer.tokens for answer in done], sorted(model.choose(contexts, options))

    want_texts, want = answers(Model(hf, None, "rows", frozenset()))
    texts, found = answers(over_trees(hf))
    assert texts == want_texts
    assert [choice.option for choice in found] == [choice.option for choice in want]
    for ours, theirs in zip(found, want, strict=True):
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)


def test_a_soft_cap_is_applied_to_scores() -> None:
    tree = PrefixTree.build(forest(3, scale=4))
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, heads, len(tree), 16, generator=generator, dtype=torch.float64) for heads in (4, 2, 2)
    )
    found = flex.attend(query, key, value, flex.TreeBlockMasks(tree, CPU), 1.0, None, softcap=2.0)
    score = query @ key.repeat_interleave(2, 1).transpose(-1, -2)
    hidden = ~torch.from_numpy(interface.visible(tree))
    score = (2.0 * torch.tanh(score / 2.0)).masked_fill(hidden, float("-inf"))
    want = score.softmax(-1) @ value.repeat_interleave(2, 1)
    assert torch.allclose(found, want, atol=1e-12)


def test_a_size_is_compiled_once() -> None:
    model = over_trees(tiny("mistral"))
    with torch.no_grad():
        model.logprobs(PrefixTree.build(forest(0, scale=6)))
        before = counters["stats"]["unique_graphs"]
        for seed in range(1, 4):
            tree = PrefixTree.build(forest(seed, scale=6))
            assert flex.bucket(len(tree)) == 256
            model.logprobs(tree)
    assert before > 0 and counters["stats"]["unique_graphs"] == before


@pytest.mark.full
def test_more_sizes_than_torch_would_keep() -> None:
    """torch gives up after 8 compilations; a run meets more sizes than that."""
    heads = torch.zeros(1, 1, 32 * flex.BLOCK, 16)
    sizes = sorted({flex.bucket(n * flex.BLOCK) for n in range(1, 25)})
    assert len(sizes) > 8
    for size in sizes:
        tree = PrefixTree.build([Row(np.arange(size) % VOCABULARY, np.zeros(size))])
        part = heads[:, :, :size]
        assert flex.attend(part, part, part, flex.TreeBlockMasks(tree, CPU), 1.0).shape == part.shape


def test_on_the_cpu_it_scores_and_refuses_to_train(tmp_path: Path) -> None:
    model = Model.load(tiny_model_dir(tmp_path), attention="flex", device="cpu")
    assert model.attention == "flex" and any("flex, proven" in note for note in model.notes)
    tree = PrefixTree.build(forest(0))
    with torch.no_grad():
        want = Model.load(tmp_path, attention="dense", device="cpu").logprobs(tree)
        assert torch.allclose(model.logprobs(tree), want, atol=1e-5)
    with pytest.raises(ModelError, match="no backward pass on the CPU"):
        model.logprobs(tree)
