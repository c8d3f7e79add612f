"""The output head: log-probabilities at scored tokens only, in chunks, so that N x V logits never exist.

A frozen head (LoRA) costs two matrix products: the gradient of log softmax with respect to the hidden state
is the target token's embedding minus the mean embedding under the softmax, and the forward pass computes that
mean from the logits. Chunks are ranges of the vocabulary, merged by their log-sum-exp, so that the large
matrix is read once in all and not once a chunk. A trainable head keeps its logits for the backward pass if
they are few, and recomputes them otherwise.

Axes: K nodes at which a token is scored, M scored tokens, D hidden size, V vocabulary, C one chunk of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from finetooth.errors import DataError
from finetooth.model.device import at_least_float32, on_device
from finetooth.model.reward_head import require_output_head
from finetooth.tree import Ints

# Logits of one chunk, by type of device: memory does not grow with the number of scored tokens.
CHUNK_NUMBERS = {"cpu": 1 << 20, "cuda": 1 << 27}
# Logits that a trainable head keeps for the backward pass at most: 128 MiB in float32 on the CPU.
KEEP_NUMBERS = {"cpu": 1 << 25, "cuda": 1 << 28}
BLOCK = 2048  # tokens of the vocabulary in one product on the CPU, at most


@dataclass(frozen=True, slots=True)
class Head:
    """Hidden states [K, D] -> logits [K, V] (float32 or float64), as the architecture computes them.

    linear: the output embeddings. scale: the factor of all logits (Granite, Cohere). softcap: the bound c of
    c * tanh(logits / c) (Gemma 2). An architecture that does anything else fails the capability proof.
    """

    linear: Any
    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, hf: Any) -> Head:
        """The head of a transformers causal language model. ModelError for a saved reward model."""
        require_output_head(hf)
        config = hf.config
        scale = getattr(config, "logit_scale", None) or 1.0 / (getattr(config, "logits_scaling", None) or 1.0)
        return cls(hf.get_output_embeddings(), scale, getattr(config, "final_logit_softcapping", None))

    def __call__(self, hidden_KD: Tensor) -> Tensor:
        logit_KV = at_least_float32(self.linear(hidden_KD)) * self.scale
        return logit_KV if self.softcap is None else self.softcap * torch.tanh(logit_KV / self.softcap)

    def without_gradient(self, hidden_KD: Tensor) -> Tensor:
        """The same, by blocks of the vocabulary on the CPU: a sixth faster for 200 rows."""
        weight_VD = self.linear.weight
        if not self.plain or weight_VD.device.type != "cpu":
            return self(hidden_KD)
        logit_KV = hidden_KD.new_empty(len(hidden_KD), len(weight_VD))
        for start in range(0, len(weight_VD), BLOCK):
            part = slice(start, start + BLOCK)
            torch.mm(hidden_KD, weight_VD[part].T, out=logit_KV[:, part])
        logit_KV = at_least_float32(logit_KV)
        return logit_KV if self.scale == 1.0 else logit_KV.mul_(self.scale)

    @property
    def plain(self) -> bool:
        """Whether the head is only a linear layer without bias: its gradient then has a closed form."""
        return (
            self.softcap is None
            and type(self.linear) is torch.nn.Linear
            and self.linear.bias is None
            and not torch.is_autocast_enabled(self.linear.weight.device.type)
        )


def logprobs(head: Head, hidden_KD: Tensor, read_M: Ints, token_M: Ints, temperature: float) -> Tensor:
    """log softmax(head(hidden[read]) / temperature)[token] for each scored token: float32 (float64 for a
    float64 model), nats, shape [M], differentiable with respect to hidden_KD and the head's weights.

    read_M: the row of hidden_KD that predicts each token (its parent's). The logits of a row are computed
    once, however many tokens it predicts (the options of a question). Raises DataError for a temperature
    that is not positive.
    """
    if not temperature > 0:
        raise DataError(
            f"Log-probabilities need a temperature above 0, found {temperature}; for greedy answers use 1."
        )
    if not head.plain:
        return _any_head_logprobs(head, hidden_KD, read_M, token_M, temperature)
    read, token = (on_device(index_M, hidden_KD.device) for index_M in (read_M, token_M))
    weight_VD = head.linear.weight
    train = torch.is_grad_enabled()  # which is off inside a function's own forward
    return _Plain.apply(hidden_KD, weight_VD, read, token, head.scale / temperature, train)  # type: ignore


def _chunks(count: int, other: int, device: torch.device) -> Iterator[slice]:
    """Slices of `count` such that a slice times `other` is at most CHUNK_NUMBERS, in multiples of 64 if
    possible: on the CPU products of other widths take half as long again.
    """
    limit = CHUNK_NUMBERS.get(device.type, 1 << 20) // other
    step = max(16, limit if limit < 64 else limit // 64 * 64)
    if device.type == "cpu":
        step = min(step, BLOCK)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


class _Plain(torch.autograd.Function):
    """log softmax(scale * hidden @ weight.T)[read, token], with its backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_KD: Tensor,
        weight_VD: Tensor,
        read_M: Tensor,
        token_M: Tensor,
        scale: float,
        train: bool,
    ) -> Tensor:
        hidden_grad, weight_grad = ctx.needs_input_grad[:2]
        keep = (
            weight_grad
            and train
            and len(hidden_KD) * len(weight_VD) <= KEEP_NUMBERS.get(weight_VD.device.type, 0)
        )
        # The targets' logits first: of a chunk, only its sum and (frozen head) its mean are needed then.
        target_MD = hidden_KD.index_select(0, read_M) * weight_VD.index_select(0, token_M)
        target_M = at_least_float32(target_MD).sum(-1) * scale
        narrow = hidden_KD.dtype == torch.bfloat16
        lse_K, max_K = target_M.new_zeros(len(hidden_KD)), target_M.new_full((len(hidden_KD),), float("-inf"))
        frozen = hidden_grad and not weight_grad
        mean_KD = torch.zeros_like(hidden_KD, dtype=target_M.dtype) if frozen else None
        kept = []
        for part in _chunks(len(weight_VD), len(hidden_KD), weight_VD.device):
            logit_KC = _logits(hidden_KD, weight_VD[part], scale)
            if narrow:  # rounded as the chunk's: else a certain token would not have log-probability 0
                inside_M = (token_M >= part.start) & (token_M < part.stop)
                column_M = (token_M - part.start).clamp_(0, logit_KC.shape[-1] - 1)
                target_M = torch.where(inside_M, _gather(logit_KC, read_M, column_M), target_M)
            new_K = torch.maximum(max_K, logit_KC.amax(-1))
            shrink_K = (max_K - new_K).exp_()
            if keep:
                kept.append(logit_KC)
                exp_KC = (logit_KC - new_K.unsqueeze(-1)).exp_()
            else:
                exp_KC = logit_KC.sub_(new_K.unsqueeze(-1)).exp_()
            lse_K, max_K = lse_K * shrink_K + exp_KC.sum(-1), new_K
            if mean_KD is not None:
                product_KD = exp_KC.to(weight_VD.dtype) @ weight_VD[part]
                mean_KD.mul_(shrink_K.unsqueeze(-1)).add_(product_KD)
        if mean_KD is not None:
            mean_KD.div_(lse_K.unsqueeze(-1))
        lse_K = lse_K.log_().add_(max_K)
        ctx.save_for_backward(hidden_KD, weight_VD, read_M, token_M, lse_K, mean_KD)
        ctx.kept, ctx.scale = kept, scale
        # The two terms are rounded separately; a log-probability is never above 0.
        return (target_M - lse_K.index_select(0, read_M)).clamp_(max=0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        hidden_KD, weight_VD, read_M, token_M, lse_K, mean_KD = ctx.saved_tensors
        grad_M = grads[0] * ctx.scale
        total_K = grad_M.new_zeros(len(hidden_KD)).index_add_(0, read_M, grad_M).neg_().unsqueeze(-1)
        grad_M = grad_M.unsqueeze(-1).to(weight_VD.dtype)
        target_MD = weight_VD.index_select(0, token_M).mul_(grad_M)
        if mean_KD is not None:
            grad_KD = (mean_KD * total_K).index_add_(0, read_M, target_MD.to(mean_KD.dtype))
            return grad_KD.to(hidden_KD.dtype), None, None, None, None, None
        grad_KD = torch.zeros_like(hidden_KD).index_add_(0, read_M, target_MD)
        grad_VD = torch.empty_like(weight_VD)
        # Each chunk of kept logits is released when its gradient has been computed.
        kept = ctx.kept[::-1]
        ctx.kept = []
        for part in _chunks(len(weight_VD), len(hidden_KD), weight_VD.device):
            logit_KC = kept.pop() if kept else _logits(hidden_KD, weight_VD[part], ctx.scale)
            grad_KC = logit_KC.sub_(lse_K.unsqueeze(-1)).exp_().mul_(total_K).to(weight_VD.dtype)
            grad_KD.addmm_(grad_KC, weight_VD[part])
            torch.mm(grad_KC.T, hidden_KD, out=grad_VD[part])
        grad_VD.index_add_(0, token_M, hidden_KD.index_select(0, read_M).mul_(grad_M))
        return grad_KD, grad_VD, None, None, None, None


def _gather(matrix_KC: Tensor, row_M: Tensor, column_M: Tensor) -> Tensor:
    """matrix[row, column], by index_select, whose backward pass on the CPU is deterministic."""
    return matrix_KC.flatten().index_select(0, row_M * matrix_KC.shape[-1] + column_M)


def _logits(hidden_KD: Tensor, weight_CD: Tensor, scale: float) -> Tensor:
    logit_KC = at_least_float32(hidden_KD @ weight_CD.T)
    return logit_KC if scale == 1.0 else logit_KC.mul_(scale)


def _any_head_logprobs(
    head: Head, hidden_KD: Tensor, read_M: Ints, token_M: Ints, temperature: float
) -> Tensor:
    """`logprobs` of any head: autograd through chunks of nodes, recomputed in the backward pass."""

    def chunk(hidden_CD: Tensor, read: Tensor, token: Tensor) -> Tensor:
        logp_CV = torch.log_softmax(head(hidden_CD) / temperature, -1)
        return _gather(logp_CV, read, token)

    device = hidden_KD.device
    order_M = np.argsort(read_M, kind="stable")
    read_M, token_M = read_M[order_M], token_M[order_M]
    pieces = []
    for rows in _chunks(len(hidden_KD), len(head.linear.weight), device):
        scored = slice(*np.searchsorted(read_M, [rows.start, rows.stop]))
        read, token = on_device(read_M[scored] - rows.start, device), on_device(token_M[scored], device)
        inputs = (hidden_KD[rows], read, token)
        if torch.is_grad_enabled():
            pieces.append(checkpoint(chunk, *inputs, use_reentrant=False, preserve_rng_state=False))
        else:
            pieces.append(chunk(*inputs))
    return torch.cat(pieces).index_select(0, on_device(np.argsort(order_M), device))
