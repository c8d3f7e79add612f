"""The device and dtype of a model, and copying arrays to the device without blocking the host."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetooth import machine
from finetooth.errors import ModelError

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


def resolve_device(device: str) -> torch.device:
    """The device of this name; `auto` is the first CUDA device if there is one, else the CPU.

    Raises ModelError.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        # cuBLAS is deterministic only with a fixed workspace size, which it reads on first use.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"device {device!r} cannot be used here: {error}") from None


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The dtype of matrix products; `auto` is bfloat16 on CUDA devices with native support, else float32.

    Without hardware support bfloat16 is slower than float32: 3.3 times on two AVX-512 cores.
    Raises ModelError for an unknown name.
    """
    if dtype == "auto":
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    if dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is unknown; choose auto, {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def mixed_precision(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Autocast for bfloat16 models: matrix products in bfloat16 even where a weight is float32 (adapters,
    master weights), softmax and norms in float32. Disabled for other dtypes.

    Casts of weights are not cached: one that was cached under no_grad would cut its weight off from a later
    backward pass.
    """
    enabled = dtype == torch.bfloat16
    return torch.autocast(device.type, dtype=dtype if enabled else None, enabled=enabled, cache_enabled=False)


def describe_dtypes(weights: torch.dtype, products: torch.dtype) -> str:
    """The dtypes of a model in words: "bfloat16 over float32 weights"."""
    over = "" if weights == products else f" over {weights} weights"
    return f"{products}{over}".replace("torch.", "")


def on_device(values: Any, device: torch.device) -> Tensor:
    """A numpy array as a tensor on the device.

    Copies to CUDA are asynchronous, from pinned memory; plain ones would wait for all work queued before.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def device_memory(device: torch.device) -> int:
    """Total bytes of memory of the device: of the GPU, or of the machine or container."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return machine.memory()


def usable_memory(device: torch.device) -> int:
    """Bytes of memory of the device that this process may use now, including what it holds."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    return machine.usable_memory()


def held_memory(device: torch.device) -> tuple[int, int]:
    """Bytes of the device's memory that this process holds now, and the most so far; 0 if that is unknown."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    return machine.memory_of_process("VmRSS"), machine.memory_of_process("VmHWM")


def at_least_float32(logits: Tensor) -> Tensor:
    """Logits in float32, or in float64 if they are: half precision is widened before any softmax."""
    return logits if logits.dtype == torch.float64 else logits.float()
