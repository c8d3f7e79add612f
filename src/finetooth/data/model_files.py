"""What is read of a model directory before any library loads it: JSON files, sizes, code that it names.

A directory may come from anybody, so nothing of it is run, nothing pickled is loaded, and sizes are checked
before memory is taken. No torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetooth.errors import FinetoothError, ModelError

# The largest value of a size in config.json that any model needs, with room. Ends of keys, the longest first.
LARGEST = {
    "vocab_size": 20_000_000,
    "hidden_size": 200_000,
    "intermediate_size": 10_000_000,
    "ffn_dim": 10_000_000,
    "n_inner": 10_000_000,
    "n_embd": 200_000,
    "d_model": 200_000,
    "head_dim": 100_000,
    "hidden_layers": 10_000,
    "num_layers": 10_000,
    "n_layer": 10_000,
    "attention_heads": 100_000,
    "key_value_heads": 100_000,
    "n_head": 100_000,
    "num_experts": 100_000,
    "local_experts": 100_000,
    "routed_experts": 100_000,
    "position_embeddings": 2_000_000_000,
    "n_positions": 2_000_000_000,
}
MAY_BE_ZERO = ("num_experts", "local_experts", "routed_experts", "position_embeddings")


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object, {} if there is no such file. Raises ModelError if it is broken."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ModelError(f"{path}: nested too deeply to be the file of a model.") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not valid JSON ({error}). Copy it from the model again.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(value).__name__}.")
    return value


def read_config(directory: Path) -> dict[str, Any]:
    """config.json, with sizes that a model can have. Raises ModelError."""
    path = directory / "config.json"
    config = read_object(path)
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    for part in parts:
        for key, value in part.items():
            limit = next((most for end, most in LARGEST.items() if key.endswith(end)), None)
            if limit is None or value is None or isinstance(value, list | dict):
                continue
            least = 0 if key.endswith(MAY_BE_ZERO) else 1
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= limit:
                raise ModelError(
                    f"{path}: {key} is {str(value)[:40]!r}; expected a number from {least} to {limit:,}."
                )
    return config


def first_line(error: BaseException) -> str:
    """The first line of a library's message that says something, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


@contextmanager
def refusing(what: str, remedy: str) -> Iterator[None]:
    """Turn whatever a library raises in this context into a ModelError: `what` (its message). `remedy`.

    A panic of a Rust library is a BaseException; interrupts and our own errors pass.
    """
    try:
        yield
    except (FinetoothError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise ModelError(f"{what} ({first_line(error)}). {remedy}") from error


def named_code(*files: Mapping[str, Any]) -> str:
    """The first Python file that `auto_map` in one of these files names, "" without one."""
    for file in files:
        found = file.get("auto_map")
        entries = list(found.values()) if isinstance(found, dict) else [found] if found else []
        for entry in entries:
            name = entry[0] if isinstance(entry, list) and entry else entry
            if name:
                return f"{str(name).rsplit('--', 1)[-1].split('.')[0]}.py"
    return ""
