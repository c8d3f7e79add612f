"""The memory of training a model of which only the sizes are known, for the list of models.

It is the estimate that a run makes before its first step (estimate.py), at automatic settings and for rows
that share nothing; but what a layer keeps for its backward pass follows from its widths.
"""

from __future__ import annotations

from finetooth.config.named_models import Shape
from finetooth.training.defaults import LOGITS, DefaultsContext, micro_tokens
from finetooth.training.estimate import MemoryFacts, Workload, estimate_memory, layer_activations
from finetooth.tree import Row

METHODS = ("lora", "full", "4-bit")
PROCESS = 450 << 20  # bytes of interpreter, libraries and rows
RANK = 16
MOST = 0.9  # share of the machine's memory that a training may take; the rest is the system's
QUANTISED = 0.6  # bytes of a weight in 4 bits, with its scales


def needed_bytes(
    shape: Shape, parameters: float, method: str, memory: int, step_tokens: int | None = None
) -> int:
    """The memory that a training takes on a machine with so much of it. parameters: a number.

    step_tokens: of a step, at most, where the rows are known; a micro-tree then holds no more. method: one of
    METHODS. Weights are float32. `4-bit` is LoRA on frozen weights in 4 bits, with activations
    in bfloat16, as other tools do it.
    """
    adapter = "none" if method == "full" else "lora"
    unshared = Row([0, 0], [0.0, 1.0])
    context = DefaultsContext(
        family="",
        hidden=shape.hidden,
        layers=shape.layers,
        vocabulary=shape.vocabulary,
        weights=round(parameters),
        fresh=False,
        rows=1,
        validation_rows=0,
        memory=memory,
        inner=shape.inner,
        sample=(unshared,),
    )
    tokens, _ = micro_tokens(context, adapter)
    tokens = tokens if step_tokens is None else min(tokens, step_tokens)
    work = Workload(steps=1, tokens=tokens, largest=tokens, scored=tokens // 2, probed=tokens, longest=2)
    return estimate_memory(_facts(shape, parameters, method), work).to_come.peak


def fits(needed: int, memory: int) -> bool:
    """Whether a training that takes so many bytes fits into a machine's memory."""
    return needed <= MOST * memory


def _facts(shape: Shape, parameters: float, method: str) -> MemoryFacts:
    hidden, inner, full = shape.hidden, shape.inner, method == "full"
    lora = RANK * shape.layers * (4 * (hidden + hidden) + 3 * (hidden + inner))
    weights = round((QUANTISED if method == "4-bit" else 4) * parameters)
    trained = round(4 * parameters) if full else 4 * lora
    layer = layer_activations(hidden, inner) / (2 if method == "4-bit" else 1)
    head = 4 * shape.vocabulary * hidden
    return MemoryFacts(
        process=PROCESS,
        peak=0,
        weights=weights,
        trained=trained,
        optimizer=2 * trained,
        copies=0,
        token=shape.layers * layer,
        layer_token=layer,
        input_token=4.0 * shape.layers * hidden,
        checkpointing=False,
        head=4.0 * shape.vocabulary if full else 16.0 * hidden,  # logits, or vectors of a frozen head
        kept_logits=LOGITS,
        head_gradient=(2 if shape.tied else 1) * head if full else 0,
        adapter=not full,
        preflight=True,
        answers=0,
    )
