"""Log-probabilities at scored tokens only, in chunks, so that N x V logits never exist.

A frozen head (LoRA) costs two matrix products: the gradient of log softmax by the hidden state is the
picked token's embedding minus the mean embedding under the softmax, and that mean is taken while the
logits are at hand. Chunks are stretches of the vocabulary, merged by their log-sum-exp, so that the large
matrix is read once and not once a chunk. A trained head keeps its logits for the backward pass while they
are few, and computes them again where they are not.

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

from finetooth.errors import DataError, ModelError
from finetooth.model.device import on_device
from finetooth.tree import Ints

# Logits of one chunk hold at most this many numbers: memory does not grow with the number of scored tokens.
CHUNK_NUMBERS = {"cpu": 1 << 20, "cuda": 1 << 27}
# A trained head keeps up to this many logits for the backward pass, else it computes them again: 128 MiB in
# float32 on the CPU.
KEEP_NUMBERS = {"cpu": 1 << 25, "cuda": 1 << 28}
BLOCK = 2048  # tokens of the vocabulary in one product, at most, on the CPU

SCORE = "score"  # the layer that transformers' classifiers have in place of the head


def is_classifier(config: Any) -> bool:
    """Whether this is the configuration of a saved sequence classifier, which has no output head."""
    return any(str(name).endswith("ForSequenceClassification") for name in config.architectures or [])


def require_output_head(hf: Any) -> None:
    """Raises ModelError for a network that was loaded without an output head: a saved reward model."""
    if hasattr(hf, SCORE) and is_classifier(hf.config):  # the proof's random copy of one has a head
        raise ModelError(
            "This is a reward model: it scores answers and writes none. It can be a reward: "
            "train.reward: {name: reward_model, model: ...}."
        )


@dataclass(frozen=True, slots=True)
class Head:
    """Hidden states [K, D] -> logits [K, V] (at least float32), as the architecture's own forward makes them.

    linear: the output embeddings. scale: what logits are multiplied with (Granite, Cohere). softcap: the
    bound c of c * tanh(logits / c) (Gemma 2). Whatever else an architecture does fails the capability proof.
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
        """The same, in blocks of the vocabulary where that is faster: for 200 rows on the CPU by a sixth."""
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
        """Nothing but a linear layer without bias, so that the gradient is known in closed form."""
        return (
            self.softcap is None
            and type(self.linear) is torch.nn.Linear
            and self.linear.bias is None
            and not torch.is_autocast_enabled(self.linear.weight.device.type)
        )


def logprobs(head: Head, hidden_KD: Tensor, read_M: Ints, token_M: Ints, temperature: float) -> Tensor:
    """log softmax(head(hidden[read]) / temperature)[token] for each scored token: float32 (float64 for a
    float64 model), nats, shape [M], differentiable with respect to hidden_KD and the head's weights.

    read_M: the row of hidden_KD at which each token is read (its parent's). Rows that are read for several
    tokens (the options of a question) pay for their logits once.
    """
    if not temperature > 0:
        raise DataError(
            f"A temperature of {temperature} has no log-probabilities; greedy answers have those of 1."
        )
    if not head.plain:
        return _general(head, hidden_KD, read_M, token_M, temperature)
    read, token = (on_device(at_M, hidden_KD.device) for at_M in (read_M, token_M))
    weight_VD = head.linear.weight
    train = torch.is_grad_enabled()  # which is off inside a function's own forward
    return _Plain.apply(hidden_KD, weight_VD, read, token, head.scale / temperature, train)  # type: ignore


def _chunks(count: int, other: int, device: torch.device) -> Iterator[slice]:
    """Cut `count` so that a chunk times `other` stays within CHUNK_NUMBERS, in multiples of 64 where it can
    be: products into rows of an odd width take a half longer on the CPU.
    """
    most = CHUNK_NUMBERS.get(device.type, 1 << 20) // other
    step = max(16, most if most < 64 else most // 64 * 64)
    if device.type == "cpu":
        step = min(step, BLOCK)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


class _Plain(torch.autograd.Function):
    """log softmax(scale * hidden @ weight.T)[read, token], with the backward pass written out."""

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
        by_hidden, by_weight = ctx.needs_input_grad[:2]
        keep = (
            by_weight
            and train
            and len(hidden_KD) * len(weight_VD) <= KEEP_NUMBERS.get(weight_VD.device.type, 0)
        )
        # The picked logit first: a chunk then needs nothing but its sum and, for a frozen head, its mean.
        picked_MD = hidden_KD.index_select(0, read_M) * weight_VD.index_select(0, token_M)
        picked_M = at_least_float32(picked_MD).sum(-1) * scale
        narrow = hidden_KD.dtype == torch.bfloat16
        lse_K, top_K = picked_M.new_zeros(len(hidden_KD)), picked_M.new_full((len(hidden_KD),), float("-inf"))
        # At least float32: it is added up over many chunks.
        wanted = by_hidden and not by_weight
        mean_KD = torch.zeros_like(hidden_KD, dtype=picked_M.dtype) if wanted else None
        kept = []
        for part in _chunks(len(weight_VD), len(hidden_KD), weight_VD.device):
            logit_KC = _logits(hidden_KD, weight_VD[part], scale)
            if narrow:  # rounded as the others are: next to a sum of rounded logits, no sure token is sure
                inside_M = (token_M >= part.start) & (token_M < part.stop)
                at_M = (token_M - part.start).clamp_(0, logit_KC.shape[-1] - 1)
                picked_M = torch.where(inside_M, _pick(logit_KC, read_M, at_M), picked_M)
            new_K = torch.maximum(top_K, logit_KC.amax(-1))
            shrink_K = (top_K - new_K).exp_()
            if keep:
                kept.append(logit_KC)
                exp_KC = (logit_KC - new_K.unsqueeze(-1)).exp_()
            else:
                exp_KC = logit_KC.sub_(new_K.unsqueeze(-1)).exp_()
            lse_K, top_K = lse_K * shrink_K + exp_KC.sum(-1), new_K
            if mean_KD is not None:
                product_KD = exp_KC.to(weight_VD.dtype) @ weight_VD[part]
                mean_KD.mul_(shrink_K.unsqueeze(-1)).add_(product_KD)
        if mean_KD is not None:
            mean_KD.div_(lse_K.unsqueeze(-1))
        lse_K = lse_K.log_().add_(top_K)
        ctx.save_for_backward(hidden_KD, weight_VD, read_M, token_M, lse_K, mean_KD)
        ctx.kept, ctx.scale = kept, scale
        # Both terms are rounded apart from each other; a log-probability is never above 0.
        return (picked_M - lse_K.index_select(0, read_M)).clamp_(max=0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        hidden_KD, weight_VD, read_M, token_M, lse_K, mean_KD = ctx.saved_tensors
        grad_M = grads[0] * ctx.scale
        total_K = grad_M.new_zeros(len(hidden_KD)).index_add_(0, read_M, grad_M).neg_().unsqueeze(-1)
        grad_M = grad_M.unsqueeze(-1).to(weight_VD.dtype)
        picked_MD = weight_VD.index_select(0, token_M).mul_(grad_M)
        if mean_KD is not None:
            grad_KD = (mean_KD * total_K).index_add_(0, read_M, picked_MD.to(mean_KD.dtype))
            return grad_KD.to(hidden_KD.dtype), None, None, None, None, None
        grad_KD = torch.zeros_like(hidden_KD).index_add_(0, read_M, picked_MD)
        grad_VD = torch.empty_like(weight_VD)
        # A chunk of kept logits is let go for the chunk of the gradient that comes from it.
        kept = ctx.kept[::-1]
        ctx.kept = []
        for part in _chunks(len(weight_VD), len(hidden_KD), weight_VD.device):
            logit_KC = kept.pop() if kept else _logits(hidden_KD, weight_VD[part], ctx.scale)
            grad_KC = logit_KC.sub_(lse_K.unsqueeze(-1)).exp_().mul_(total_K).to(weight_VD.dtype)
            grad_KD.addmm_(grad_KC, weight_VD[part])
            torch.mm(grad_KC.T, hidden_KD, out=grad_VD[part])
        grad_VD.index_add_(0, token_M, hidden_KD.index_select(0, read_M).mul_(grad_M))
        return grad_KD, grad_VD, None, None, None, None


def _pick(matrix_KC: Tensor, read_M: Tensor, at_M: Tensor) -> Tensor:
    """matrix[read, at]; index_select rather than indexing: its CPU backward is deterministic."""
    return matrix_KC.flatten().index_select(0, read_M * matrix_KC.shape[-1] + at_M)


def _logits(hidden_KD: Tensor, weight_CD: Tensor, scale: float) -> Tensor:
    logit_KC = at_least_float32(hidden_KD @ weight_CD.T)
    return logit_KC if scale == 1.0 else logit_KC.mul_(scale)


def _general(head: Head, hidden_KD: Tensor, read_M: Ints, token_M: Ints, temperature: float) -> Tensor:
    """The same for any head: autograd through chunks of nodes, computed again in the backward pass."""

    def chunk(hidden_CD: Tensor, read: Tensor, token: Tensor) -> Tensor:
        logp_CV = torch.log_softmax(head(hidden_CD) / temperature, -1)
        return _pick(logp_CV, read, token)

    device = hidden_KD.device
    order_M = np.argsort(read_M, kind="stable")
    read_M, token_M = read_M[order_M], token_M[order_M]
    pieces = []
    for rows in _chunks(len(hidden_KD), len(head.linear.weight), device):
        scored = slice(*np.searchsorted(read_M, [rows.start, rows.stop]))
        read, token = on_device(read_M[scored] - rows.start, device), on_device(token_M[scored], device)
        given = (hidden_KD[rows], read, token)
        if torch.is_grad_enabled():
            pieces.append(checkpoint(chunk, *given, use_reentrant=False, preserve_rng_state=False))
        else:
            pieces.append(chunk(*given))
    return torch.cat(pieces).index_select(0, on_device(np.argsort(order_M), device))


def at_least_float32(logits: Tensor) -> Tensor:
    """Half-precision logits become float32 before any softmax; float64 stays."""
    return logits if logits.dtype == torch.float64 else logits.float()
