"""Whether a model of this configuration fits its weight files and the memory here, before it is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from finetooth import machine
from finetooth.errors import ModelError


def require_fitting(directory: Path, config: Any, dtype: torch.dtype) -> None:
    """Raise ModelError where config.json asks for weights of other shapes than the files have, or for more
    memory than there is. Weights that transformers converts while it loads have other names: not compared.
    """
    try:
        with torch.device("meta"):
            shell = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    except Exception:  # loading reports it, or succeeds: not every architecture can be built without storage
        return
    expected = {name: list(weight.shape) for name, weight in shell.state_dict().items()}
    prefix = f"{shell.base_model_prefix}."  # files of a base model leave it out
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                wanted = expected.get(name, expected.get(prefix + name))
                found = tensors.get_slice(name).get_shape()
                if wanted is not None and wanted != found:
                    raise ModelError(
                        f"{directory}: {name} is {found} in {file.name}, but config.json asks for {wanted}. "
                        "The two files are not of one model: copy both again."
                    )
    needed = sum(weight.numel() * weight.element_size() for weight in shell.parameters())
    if needed > (usable := machine.usable_memory()):
        raise ModelError(
            f"{directory}: the weights that config.json asks for take {needed / 1e9:,.0f} GB, and this "
            f"process may use {usable / 1e9:,.0f} GB of memory. Check its sizes, or use a smaller model."
        )
