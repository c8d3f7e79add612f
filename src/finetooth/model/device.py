"""Where a model computes and in which type, and how numbers get there without making the host wait."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetooth.errors import ModelError

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


def resolve_device(device: str) -> torch.device:
    """`auto` is the first CUDA device if there is one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        # cuBLAS is deterministic only with a fixed workspace, and reads this when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"device {device!r} cannot be used here: {error}") from None


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The type of matrix products: `auto` is bfloat16 where a CUDA device has it, else float32.

    bfloat16 without units for it is slower than float32: on two AVX-512 cores by 3.3 times.
    """
    if dtype == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    if dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is not known; choose auto, {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def mixed_precision(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """A context in which bfloat16 models compute: matrix products in bfloat16 also where a weight is float32
    (adapters, master weights), softmax and norms in float32. For wider types it does nothing.

    Weights are cast where they are used and not cached: a cast that was cached under no_grad would hide its
    weight from a later backward pass.
    """
    enabled = dtype == torch.bfloat16
    return torch.autocast(device.type, dtype=dtype if enabled else None, enabled=enabled, cache_enabled=False)


def named(weights: torch.dtype, computes: torch.dtype) -> str:
    """The types of a model in words: "bfloat16 over float32 weights"."""
    over = "" if weights == computes else f" over {weights} weights"
    return f"{computes}{over}".replace("torch.", "")


def on_device(values: Any, device: torch.device) -> Tensor:
    """A numpy array as a tensor on the device.

    To CUDA it goes through pinned memory, so that the host runs on while the device still computes: a plain
    copy would wait for everything that was queued before it.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def device_memory(device: torch.device) -> int:
    """Total bytes of memory of the device: of the GPU, or of the machine."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
