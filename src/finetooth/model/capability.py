"""The capability proof: a back-end is used only for architectures on which it was just seen to be right.

A small random copy of the model's architecture (tiny_copy.py) computes a random forest through the back-end
and, row by row, through the stock forward. What differs (logit scaling, unknown arguments, positions that
cannot be given) is caught here, whatever its name, and the model runs through `rows` instead.

A proof is kept in the user's cache directory under a digest of all that it depends on: the architecture, the
device, the types, the versions of torch, transformers and PEFT, and finetooth's own source of this package.
"""

from __future__ import annotations

import hashlib
import json
import os
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

from finetooth.errors import ModelError
from finetooth.model import fused
from finetooth.model.attention import interface
from finetooth.model.load import quiet
from finetooth.model.tiny_copy import VOCABULARY, small_copy
from finetooth.rundir import write_json
from finetooth.tree import PrefixTree, Row

FASTEST = {"cpu": ("segment",), "cuda": ("flex", "dense")}  # what auto tries, by kind of device
# What is tried with each back-end, and what the log says where the faster way was not right.
VARIANTS = {
    "trimmed": "",
    "fused": "; the last layer computes all tokens, since skipping those that are not read was not proven",
    "stock": "; with stock norms and MLPs, since fused ones were not proven",
}
TOLERANCE = 1e-4  # nats; fp32 rounding of two layers stays under 1e-5
CACHE = "FINETOOTH_CACHE"  # environment: where proofs are kept; empty: nowhere


class Network(Protocol):
    """What the proof needs of a Model."""

    hf: Any
    padded: bool

    def logprobs(self, tree: PrefixTree) -> Tensor:
        """Log-probability of each scored token: [M], nats."""

    def choose(self, contexts: Sequence[Row], options: Sequence[Sequence[int]]) -> Any:
        """The likeliest of the options behind each context."""

    def set_backend(self, backend: Backend) -> None:
        """Compute through this back-end from now on."""


Make = Callable[[Any, str], Network]  # a transformers model and the name of its attention -> a network


@dataclass(frozen=True, slots=True)
class Backend:
    """How a network computes. attention: dense, segment, flex or rows. speed: a key of VARIANTS.

    padded: `rows` takes several rows a call. note: how this was decided, in words; "" where it was asked for.
    """

    attention: str
    speed: str = "stock"
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


def proven_backend(hf: Any, wanted: str, dtype: torch.dtype, make: Make) -> Backend:
    """The back-end that is wanted, or for auto the fastest that is proven for this architecture.

    dtype: of matrix products. A proof that is kept already is not made again. Raises ModelError when a
    back-end that was asked for by name does not work for the architecture or the device.
    """
    folder = _cache_directory()
    file = folder / f"{_digest(hf, wanted, dtype)}.json" if folder else None
    if file is not None and file.is_file():
        try:
            return Backend(**json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError, OSError):
            pass  # a damaged file is no proof
    backend = prove(hf, wanted, dtype, make)
    if file is not None:
        with suppress(OSError):  # a cache that cannot be written costs time only
            write_json(file, asdict(backend))
    return backend


def prove(hf: Any, wanted: str, dtype: torch.dtype, make: Make) -> Backend:
    """As proven_backend, always by a proof that is made now."""
    device = hf.device.type
    if wanted == "segment" and device != "cpu":
        raise ModelError("attention 'segment' runs on the CPU only; use flex, dense or auto.")
    refused = ""
    if wanted != "rows":
        for kind in FASTEST.get(device, ("dense",)) if wanted == "auto" else (wanted,):
            for speed, lost in VARIANTS.items():
                reason = proof_failure(hf, kind, dtype, make, speed)
                if reason is None:
                    note = f"attention: {kind}, proven on a small random copy{refused}{lost}"
                    return Backend(kind, speed, note=note)
            if wanted != "auto":
                raise ModelError(f"attention {kind!r} does not work for {hf.config.model_type}: {reason}.")
            refused += f", because {kind} was not proven: {reason}"
    padded = rows_can_be_padded(hf, make)
    how = "padded batches" if padded else "one row a call"
    return Backend("rows", padded=padded, note=f"attention: rows, {how}{refused}" if refused else "")


def prepare(hf: Any, backend: Backend) -> bool:
    """Let a transformers model compute through this back-end; whether its last layer is trimmed."""
    if backend.attention == "rows":
        return False
    AttentionInterface.register(interface.NAME, interface.attention)
    hf.set_attn_implementation(interface.NAME)
    if backend.speed != "stock":
        fused.fuse(hf)
    return backend.speed == "trimmed" and fused.trim_last(hf)


def rows_can_be_padded(hf: Any, make: Make) -> bool:
    """Whether a padded batch of rows gives each row the log-probabilities that it has alone."""
    if _call_dependent_rope(hf.config):
        return False
    tree = PrefixTree.build(random_rows(VOCABULARY))
    try:
        alone = make(small_copy(hf).to(hf.device), "rows")
        together = make(alone.hf, "rows")
        together.padded = True
        with torch.no_grad(), quiet():
            gap = together.logprobs(tree) - alone.logprobs(tree)
    except Exception:  # not every architecture takes a mask, or can be copied
        return False
    return float(gap.abs().max()) <= TOLERANCE


def _call_dependent_rope(config: Any) -> str | None:
    """The kind of rotary scaling that looks at the longest position of the call; rows of the proof are short.

    Such a model gives a row other log-probabilities when a long row is in the same call, so that only `rows`
    is right. Sources: transformers' rope utilities, "dynamic" and "longrope".
    """
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    nested = [value for value in found.values() if isinstance(value, dict)]
    kinds = {str(part.get("rope_type") or part.get("type")) for part in (found, *nested)}
    return next((kind for kind in sorted(kinds) if kind in ("dynamic", "longrope", "su")), None)


def proof_failure(hf: Any, kind: str, dtype: torch.dtype, make: Make, speed: str = "stock") -> str | None:
    """Why this back-end, with modules of this speed (a key of VARIANTS), cannot be used for the architecture
    of `hf`; None when it was just proven right.
    """
    if rope := _call_dependent_rope(hf.config):
        return f"its rotary positions ({rope}) depend on the longest row of a call"
    try:
        small = small_copy(hf).to(hf.device)
        stock = make(small, "rows")
        rows = random_rows(VOCABULARY)
        tree = PrefixTree.build(rows)
        options = [[3, 5, 7], [3, 5, 9], [3, 8], [4, 1]]
        with torch.no_grad(), quiet():
            want_M = stock.logprobs(tree)
            want = [choice.logprob for choice in sorted(stock.choose(rows, options))]
            ours = make(small, kind)
            ours.set_backend(Backend(kind, speed))
            gap = float((ours.logprobs(tree) - want_M).abs().max())
            got = [choice.logprob for choice in sorted(ours.choose(rows, options))]
        if kind == "flex" and hf.device.type == "cuda":  # the kernels that training needs can be made
            make(small.to(dtype), kind).logprobs(tree).sum().backward()
        gap = max(gap, float(np.abs(np.subtract(got, want)).max()))
        if gap <= TOLERANCE:
            return None
        reason = f"log-probabilities differ from the stock forward by {gap:.1e}"
    except Exception as error:  # whatever an architecture raises here means: not proven
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
    if not getattr(hf, "_supports_attention_backend", False):
        return "its attention takes no function from outside"
    return reason


# Where proofs are kept --------------------------------------------------------------------------------------


def _cache_directory() -> Path | None:
    """FINETOOTH_CACHE, else the user's cache directory; None where FINETOOTH_CACHE is empty."""
    chosen = os.environ.get(CACHE)
    if chosen is not None:
        return Path(chosen) / "capability" if chosen else None
    usual = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    return (Path(usual) if usual else Path.home() / ".cache") / "finetooth" / "capability"


def _digest(hf: Any, wanted: str, dtype: torch.dtype) -> str:
    """Names everything that a proof depends on."""
    about = hf.config.to_dict()
    for name in ("_name_or_path", "transformers_version", "torch_dtype", "dtype"):
        about.pop(name, None)
    device = torch.cuda.get_device_name(hf.device) if hf.device.type == "cuda" else _processor()
    weights = {str(weight.dtype) for weight in hf.parameters()}
    parts = [type(hf).__name__, about, wanted, str(dtype), sorted(weights), device, _software()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _processor() -> str:
    return str(torch.backends.cpu.get_cpu_capability())


@cache
def _software() -> list[str]:
    """Versions of what computes, and a digest of this package's own source."""
    source = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        source.update(file.read_bytes())
    return [*(version(name) for name in ("torch", "transformers", "peft")), source.hexdigest()]
