"""The memory of the machine that trains, and what a training takes of it before its first step."""

from __future__ import annotations

import os
from typing import Any

import torch


def model_state_bytes(hf: Any, adapter: str) -> int:
    """Bytes that weights take, and where all are trained also their float32 gradients and two moments.

    A GPU's memory is this program's own; on the CPU, where it is not, the careful default counts.
    """
    weights = sum(weight.numel() * weight.element_size() for weight in hf.parameters())
    return int(weights + (12 * hf.num_parameters() if adapter == "none" else 0))


def device_memory(device: torch.device) -> int:
    """Bytes of memory in all on the device that trains."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
