"""The capability proof: a back-end is used only for architectures on which it was seen to be right.

A small random copy of the architecture (tiny_copy.py) runs random rows through the back-end and, one by one,
through the stock forward. Any difference (logit scaling, unknown arguments, positions that cannot be given)
makes the model use `rows` instead.

Proofs are kept in the user's cache directory under a digest of everything that they depend on: architecture,
device, dtypes, the versions of torch, transformers and PEFT, and the source of this package and of tree.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface

from finetooth import tree as tree_module
from finetooth.data.cache import cache_directory
from finetooth.errors import ModelError
from finetooth.model import fused
from finetooth.model.attention import interface
from finetooth.model.load import quiet
from finetooth.model.tiny_copy import VOCABULARY, small_copy
from finetooth.rundir import write_json
from finetooth.tree import PrefixTree, Row

BACKENDS = ("dense", "segment", "flex", "rows")
FASTEST = {"cpu": ("segment",), "cuda": ("flex", "dense")}  # what auto tries, by type of device
# Tried in this order with each back-end; the text follows the note when the faster ones failed the proof.
VARIANTS = {
    "trimmed": "",
    "fused": "; the last layer computes all tokens, since computing only those that are read was not proven",
    "stock": "; with stock norms and MLPs, since fused ones were not proven",
}
TOLERANCE = 1e-4  # nats; float32 rounding over two layers stays below 1e-5


class LanguageModel(Protocol):
    """What the proof uses of a Model."""

    hf: Any
    padded: bool

    def logprobs(self, tree: PrefixTree) -> Tensor:
        """Log-probability of each scored token: [M], nats."""

    def choose(self, contexts: Sequence[Row], options: Sequence[Sequence[int]]) -> Any:
        """The most likely of the options after each context."""

    def set_backend(self, backend: Backend) -> None:
        """Use this back-end from now on."""


Wrap = Callable[[Any, str], LanguageModel]  # a transformers model and the name of a back-end -> a model


@dataclass(frozen=True, slots=True)
class Backend:
    """How a model computes. attention: dense, segment, flex or rows. variant: a key of VARIANTS.

    padded: `rows` computes several rows a call. note: why this back-end, for the log; may be empty.
    """

    attention: str
    variant: str = "stock"
    padded: bool = False
    note: str = ""


def random_rows(vocabulary: int, seed: int = 0) -> list[Row]:
    """Rows with nested, shared and no prefixes, a duplicate, and one that is a prefix of another."""
    draw = np.random.default_rng(seed)

    def tokens(count: int) -> list[int]:
        return [int(token) for token in draw.integers(0, vocabulary, count)]

    trunk, branch = tokens(6), tokens(4)
    lists = [
        trunk + branch + tokens(5),
        trunk + branch + tokens(3),
        trunk + tokens(7),
        trunk + branch,
        tokens(12),
    ]
    lists += [lists[0], tokens(2)]
    return [Row(row, [0.0] + [1.0] * (len(row) - 1)) for row in lists]


def proven_backend(hf: Any, requested: str, dtype: torch.dtype, wrap: Wrap) -> Backend:
    """The requested back-end, or for auto the fastest one that is proven for this architecture.

    dtype: of matrix products. A kept proof is not made again. Raises ModelError when the requested back-end
    does not work for the architecture or the device.
    """
    folder = cache_directory("capability")
    file = folder / f"{_digest(hf, requested, dtype)}.json" if folder else None
    if file is not None:
        # A missing, damaged or unreadable file is no proof.
        with suppress(OSError, ValueError, TypeError, KeyError):
            kept = json.loads(file.read_text(encoding="utf-8"))
            backend = Backend(kept["attention"], kept["variant"], kept["padded"], kept["note"])
            if backend.attention in BACKENDS and backend.variant in VARIANTS:
                return backend
    backend = prove(hf, requested, dtype, wrap)
    if file is not None:
        with suppress(OSError):  # a cache that cannot be written costs only time
            write_json(file, asdict(backend))
    return backend


def prove(hf: Any, requested: str, dtype: torch.dtype, wrap: Wrap) -> Backend:
    """As proven_backend, but always with a new proof."""
    device = hf.device.type
    if requested == "segment" and device != "cpu":
        raise ModelError("attention 'segment' runs on the CPU only; use flex, dense or auto.")
    failures = ""
    if requested != "rows":
        for attention in FASTEST.get(device, ("dense",)) if requested == "auto" else (requested,):
            for variant, remark in VARIANTS.items():
                reason = proof_failure(hf, attention, dtype, wrap, variant)
                if reason is None:
                    note = f"attention: {attention}, proven on a small random copy{failures}{remark}"
                    return Backend(attention, variant, note=note)
            if requested != "auto":
                raise ModelError(
                    f"attention {attention!r} does not work for {hf.config.model_type}: {reason}. "
                    "Use attention auto."
                )
            failures += f", because {attention} was not proven: {reason}"
    padded = rows_can_be_padded(hf, wrap)
    batches = "padded batches" if padded else "one row a call"
    note = f"attention: rows, {batches}{failures}" if failures else ""
    return Backend("rows", padded=padded, note=note)


def install_backend(hf: Any, backend: Backend) -> bool:
    """Set up a transformers model for this back-end; returns whether its last layer is trimmed."""
    if backend.attention == "rows":
        return False
    AttentionInterface.register(interface.NAME, interface.attention)
    hf.set_attn_implementation(interface.NAME)
    if backend.variant != "stock":
        fused.fuse(hf)
    return backend.variant == "trimmed" and fused.trim_last(hf)


def rows_can_be_padded(hf: Any, wrap: Wrap) -> bool:
    """Whether each row of a padded batch has the log-probabilities that it has alone."""
    if _call_dependent_rope(hf.config):
        return False
    tree = PrefixTree.build(random_rows(VOCABULARY))
    try:
        alone = wrap(small_copy(hf).to(hf.device), "rows")
        together = wrap(alone.hf, "rows")
        together.padded = True
        with torch.no_grad(), quiet():
            gap = together.logprobs(tree) - alone.logprobs(tree)
    except Exception:  # the architecture takes no mask, or has no small copy
        return False
    return float(gap.abs().max()) <= TOLERANCE


def _call_dependent_rope(config: Any) -> str | None:
    """The type of rotary scaling, if it depends on the longest position of the call; else None.

    With it, a long row changes the log-probabilities of the others in its call, so only `rows` is right; the
    proof's rows are too short to show that. Sources: transformers' rope utilities, "dynamic" and "longrope".
    """
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    nested = [value for value in rope.values() if isinstance(value, dict)]
    types = {str(part.get("rope_type") or part.get("type")) for part in (rope, *nested)}
    return next((name for name in sorted(types) if name in ("dynamic", "longrope", "su")), None)


def proof_failure(
    hf: Any, attention: str, dtype: torch.dtype, wrap: Wrap, variant: str = "stock"
) -> str | None:
    """Why this back-end and variant cannot be used for the architecture of `hf`; None when proven right."""
    if rope := _call_dependent_rope(hf.config):
        return f"its rotary positions ({rope}) depend on the longest row of a call"
    try:
        small = small_copy(hf).to(hf.device)
        stock = wrap(small, "rows")
        rows = random_rows(VOCABULARY)
        tree = PrefixTree.build(rows)
        options = [[3, 5, 7], [3, 5, 9], [3, 8], [4, 1]]
        with torch.no_grad(), quiet():
            want_M = stock.logprobs(tree)
            want = [choice.logprob for choice in sorted(stock.choose(rows, options))]
            tested = wrap(small, attention)
            tested.set_backend(Backend(attention, variant))
            gap = float((tested.logprobs(tree) - want_M).abs().max())
            got = [choice.logprob for choice in sorted(tested.choose(rows, options))]
        if attention == "flex" and hf.device.type == "cuda":  # training's kernels can be compiled
            wrap(small.to(dtype), attention).logprobs(tree).sum().backward()
        gap = max(gap, float(np.abs(np.subtract(got, want)).max()))
        if gap <= TOLERANCE:
            return None
        reason = f"log-probabilities differ from the stock forward by {gap:.1e}"
    except Exception as error:  # whatever an architecture raises means: not proven
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
    if not getattr(hf, "_supports_attention_backend", False):
        return "its attention cannot be replaced"
    return reason


# Where proofs are kept --------------------------------------------------------------------------------------


def _digest(hf: Any, requested: str, dtype: torch.dtype) -> str:
    """Digest of everything that a proof depends on."""
    config = hf.config.to_dict()
    for name in ("_name_or_path", "transformers_version", "torch_dtype", "dtype"):
        config.pop(name, None)
    cuda = hf.device.type == "cuda"
    device = torch.cuda.get_device_name(hf.device) if cuda else str(torch.backends.cpu.get_cpu_capability())
    weights = {str(weight.dtype) for weight in hf.parameters()}
    parts = [type(hf).__name__, config, requested, str(dtype), sorted(weights), device, _software()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


@cache
def _software() -> list[str]:
    """The versions of torch, transformers and PEFT, and a digest of the source that proofs depend on."""
    source = hashlib.sha256()
    for file in (Path(tree_module.__file__), *sorted(Path(__file__).parent.rglob("*.py"))):
        source.update(file.read_bytes())
    return [*(version(name) for name in ("torch", "transformers", "peft")), source.hexdigest()]
