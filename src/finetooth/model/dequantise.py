"""The weights of a GGUF file, dequantised once into its cached directory (data/gguf_cache.py).

Each tensor is kept in the narrowest of float16, bfloat16 and float32 that holds every value exactly, so the
model computes what transformers computes from the file. Values of quantised types need float32: a block of
Q4_1, for example, is the sum and product of two float16 numbers and an integer.
"""

from __future__ import annotations

import errno
import io
import shutil
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM

from finetooth import machine
from finetooth.config.values import first_few
from finetooth.data.cache import Say, disk_full, exclusive, silent
from finetooth.data.gguf_cache import header_read_once, source_of
from finetooth.data.gguf_file import FLOATS, read_header
from finetooth.data.model_files import refusing
from finetooth.errors import ModelError
from finetooth.model.load import load_config, quiet
from finetooth.rundir import atomic_directory, fsync_path

WEIGHTS = "model.safetensors"
PEAK = 2.0  # of the float32 weights: measured: 1.5 for SmolLM2-135M


def add_weights(directory: Path, say: Say = silent) -> list[str]:
    """Dequantise the weights of a GGUF file's directory, if that has not been done; notes for the log.

    say: told before it is done. Nothing is done to any other directory. Raises ModelError.
    """
    source = source_of(directory)
    if not source:
        return []
    with exclusive(directory):
        if not (directory / WEIGHTS).is_file():
            _dequantise(Path(source["file"]), directory, say)
    kind, name = source["quantisation"], Path(source["file"]).name
    if kind in FLOATS:
        return [f"read from {name} ({kind})"]
    return [f"dequantised from {kind}, not the original weights ({name})"]


def narrowest(weight: Tensor) -> Tensor:
    """The same values, exactly, in the narrowest of float16, bfloat16 and float32."""
    for dtype in (torch.float16, torch.bfloat16):
        if torch.equal(weight.to(dtype).to(weight.dtype), weight):
            return weight.to(dtype)
    return weight


def _dequantise(file: Path, directory: Path, say: Say) -> None:
    if not file.is_file():
        raise ModelError(f"{file}: this GGUF file is gone, and its weights are not in the cache yet.")
    header = read_header(file)
    needed = 4 * header.parameters
    if PEAK * needed > machine.memory():
        raise ModelError(
            f"{file}: dequantising takes {PEAK * needed / 1e9:,.1f} GB of memory, and there are "
            f"{machine.memory() / 1e9:,.1f} GB here. Take the original in safetensors, or a smaller model."
        )
    if shutil.disk_usage(directory).free < needed:
        raise disk_full(directory, needed)
    config = load_config(directory)
    _require_fitting(file, config, header.parameters)
    kind = header.quantisation
    verb = f"reading weights ({kind})" if kind in FLOATS else f"dequantising weights from {kind}"
    say(
        f"{file.name}: {verb} into the cache, {header.parameters / 1e6:,.0f} million numbers; this happens "
        "once and takes a minute or more for large models"
    )
    hf = _read(file, config)
    with atomic_directory(directory / "weights") as made:
        try:
            _save(hf, config, made)
            fsync_path(made / WEIGHTS)
            (made / WEIGHTS).rename(directory / WEIGHTS)
        except Exception as error:
            if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left" in str(error):
                raise disk_full(directory, needed) from error
            raise
    shutil.rmtree(directory / "weights")


def _require_fitting(file: Path, config: Any, parameters: int) -> None:
    """Raise ModelError where the metadata asks for more weights than the file's tensors hold."""
    with torch.device("meta"), refusing(f"{file}: its metadata makes no model", "Download it again."):
        shell = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    wanted = shell.num_parameters()
    if wanted > 1.01 * parameters + 1000:
        raise ModelError(
            f"{file}: its metadata describes {wanted:,} weights, but its tensors hold {parameters:,}. "
            "Download it again."
        )


def _read(file: Path, config: Any) -> Any:
    """transformers' own reading of the file, all values in float32."""
    options: dict[str, Any] = {}
    if hasattr(
        transformers, "GgufConfig"
    ):  # else packed weights and kernels might be used where there are some
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    loader: Any = AutoModelForCausalLM
    unseen = redirect_stderr(io.StringIO())  # a progress bar that ignores transformers' switch for them
    what = f"{file}: the GGUF file cannot be read"
    with quiet(), unseen, refusing(what, "Download it again."), header_read_once():
        hf, info = loader.from_pretrained(
            str(file.parent),
            gguf_file=file.name,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    for kind in ("missing_keys", "mismatched_keys"):
        if names := sorted(map(str, info.get(kind) or ())):
            raise ModelError(f"{file}: {kind.replace('_', ' ')}: {first_few(names, 5)}.")
    return hf


def _save(hf: Any, config: Any, directory: Path) -> None:
    """Write the weights in a fresh model of the class: the one that was read counts as quantised."""
    kept: dict[int, Tensor] = {}
    state = {}
    for name, weight in hf.state_dict().items():  # tied weights have one address
        if weight.data_ptr() not in kept:
            kept[weight.data_ptr()] = narrowest(weight)
        state[name] = kept[weight.data_ptr()]
    with quiet(), torch.device("meta"):
        fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    fresh.load_state_dict(state, assign=True)
    fresh.tie_weights()
    with quiet():
        fresh.save_pretrained(directory, max_shard_size="100TB")
