"""The head bound to its definition: log softmax(logits)[token], whatever the chunks and what is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from finetooth.errors import DataError
from finetooth.model import head
from finetooth.model.head import Head

K, D, V = 40, 12, 101


def inputs(trained: bool) -> tuple[torch.Tensor, torch.nn.Linear, Any, Any]:
    generator = torch.Generator().manual_seed(0)
    linear = torch.nn.Linear(D, V, bias=False).double()
    with torch.no_grad():
        linear.weight.normal_(generator=generator)
    linear.weight.requires_grad_(trained)
    hidden_KD = torch.randn(K, D, dtype=torch.float64, generator=generator, requires_grad=True)
    draw = np.random.default_rng(0)
    read_M = np.append(draw.permutation(K), [3, 3, 17])  # some nodes are read for several tokens
    return hidden_KD, linear, read_M, draw.integers(0, V, read_M.size)


def gradients(logp_M: torch.Tensor, *wanted: torch.Tensor) -> list[torch.Tensor]:
    loss = (logp_M * torch.linspace(-1, 2, len(logp_M), dtype=torch.float64)).sum()
    return list(torch.autograd.grad(loss, [each for each in wanted if each.requires_grad], retain_graph=True))


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("keep", [0, 1 << 25])
@pytest.mark.parametrize("numbers", [1, 700, 1 << 20])
@pytest.mark.parametrize(
    "after", [{}, {"scale": 0.3}, {"softcap": 2.0}, {"scale": 1.7, "softcap": 2.0}], ids=str
)
def test_equals_its_definition(
    trained: bool, keep: int, numbers: int, after: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "CHUNK_NUMBERS", {"cpu": numbers})
    monkeypatch.setattr(head, "KEEP_NUMBERS", {"cpu": keep})
    hidden_KD, linear, read_M, token_M = inputs(trained)
    logit_KV = (hidden_KD @ linear.weight.T) * after.get("scale", 1.0)
    if cap := after.get("softcap"):
        logit_KV = cap * torch.tanh(logit_KV / cap)
    want_M = (logit_KV / 0.7).log_softmax(-1)[torch.from_numpy(read_M), torch.from_numpy(token_M)]
    got_M = head.logprobs(Head(linear, **after), hidden_KD, read_M, token_M, temperature=0.7)
    assert torch.allclose(got_M, want_M, atol=1e-12)
    want = gradients(want_M, hidden_KD, linear.weight)
    for _ in range(2):  # twice: what was kept must not be used up
        for got_grad, want_grad in zip(gradients(got_M, hidden_KD, linear.weight), want, strict=True):
            assert torch.allclose(got_grad, want_grad, atol=1e-12)


def test_large_logits_and_certainty() -> None:
    """Logits far beyond exp's range stay exact, and a certain token's log-probability is 0, not above."""
    linear = torch.nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[300.0, 0.0], [-300.0, 0.0], [0.0, 1.0]]))
    hidden_KD = torch.tensor([[1.0, 0.0], [-1.0, 0.3]])
    logp_M = head.logprobs(Head(linear), hidden_KD, np.array([0, 0, 1]), np.array([0, 1, 2]), 1.0)
    assert logp_M.tolist() == pytest.approx([0.0, -600.0, -299.7])
    assert max(logp_M.tolist()) <= 0.0


def test_memory_does_not_grow_with_scored_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor of a frozen head's pass is larger than a chunk, the hidden states or the weights."""
    monkeypatch.setattr(head, "CHUNK_NUMBERS", {"cpu": 700})
    hidden_KD, linear, read_M, token_M = inputs(trained=False)
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            sizes.extend(each.numel() for each in ([out] if isinstance(out, torch.Tensor) else []))
            return out

    with Watch():
        logp_M = head.logprobs(Head(linear), hidden_KD, read_M, token_M, 1.0)
        logp_M.sum().backward()
    assert max(sizes) <= max(700, V * D, (K + 3) * D) < K * V


def test_no_second_derivative() -> None:
    """The closed form knows only the first; a second one must not be wrong in silence."""
    hidden_KD, linear, read_M, token_M = inputs(trained=False)
    logp_M = head.logprobs(Head(linear), hidden_KD, read_M, token_M, 1.0)
    (grad_KD,) = torch.autograd.grad(logp_M.pow(2).sum(), hidden_KD, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        grad_KD.pow(2).sum().backward()


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_without_log_probabilities(temperature: float) -> None:
    hidden_KD, linear, read_M, token_M = inputs(trained=False)
    with pytest.raises(DataError, match="temperature"):
        head.logprobs(Head(linear), hidden_KD, read_M, token_M, temperature)
