"""Directories of models (embedded, local, on the hub) and of data sets on the hub. No torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal

from finetooth.config.named_models import is_named, named_models, nearest_names
from finetooth.config.task import EMBEDDED
from finetooth.config.values import DATA_FILES
from finetooth.data import fetch, gguf_cache, hub_cache
from finetooth.data.cache import Say, silent
from finetooth.data.gguf_file import is_gguf
from finetooth.data.model_files import read_config
from finetooth.errors import DataError, ModelError

SMALL_FILES = ("*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
# Keys of the maximum input length in config.json, the most common first.
LENGTH_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "n_ctx")


def model_directory(name: str, weights: bool = True, say: Say = silent) -> Path:
    """The directory of a model: named ("milktooth"), local, of a GGUF file, or of a hub id ("org/model").

    A named model is never downloaded here. A GGUF file, or a directory with one and no config.json, gives its
    directory in the cache, whose weights model/dequantise.py adds. A hub id may name a branch, tag or commit,
    "org/model@v1.0"; it is taken from Hugging Face's cache, else downloaded; weights=False downloads no
    safetensors. say: told before a GGUF file is converted, which takes a while.
    Raises ModelError when there is no such model or it has no config.json.
    """
    if name in EMBEDDED:  # a local folder of the same name is ./NAME
        embedded = Path(str(files("finetooth"))) / "embedded" / name
        if not (embedded / "config.json").is_file():
            raise ModelError(f"The embedded model {name} is missing from this installation ({embedded}).")
        return embedded
    if is_named(name):
        path = fetch.require_local(named_models()[name])
    else:
        path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file() and (file := gguf_cache.find_in(path)):
            return gguf_cache.model_directory(file, say)
        if not (path / "config.json").is_file():
            found = ", ".join(sorted(item.name for item in path.iterdir())[:8]) or "nothing"
            raise ModelError(f"{path}: not a model directory. Expected a config.json, found {found}.")
        return path
    if path.is_file():
        if is_gguf(path):
            return gguf_cache.model_directory(path, say)
        raise ModelError(f"{path}: a file. Expected the directory that holds the model's config.json.")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", name) or name.startswith((".", "/", "~")):
        kind = "file" if name.endswith(".gguf") else "directory"
        raise ModelError(
            f"{name}: no such {kind}. Expected a local model directory, a hub id such as org/model, a GGUF "
            f"file, or a name that `finetooth models` lists.{nearest_names(name)}"
        )
    repository, _, revision = name.partition("@")
    patterns = [*SMALL_FILES, *(("*.safetensors",) if weights else ())]
    complete = hub_cache.has_weights if weights else lambda cached: (cached / "config.json").is_file()
    directory = _snapshot("model", repository, revision or None, patterns, complete)
    if not (directory / "config.json").is_file():
        raise ModelError(f"{name}: the hub repository has no config.json, so it is not a transformers model.")
    if weights and not any(directory.glob("*.safetensors")):
        # Only a local directory without weights means "initialise from the seed"; a hub model never does.
        raise ModelError(
            f"{name}: no safetensors weights in Hugging Face's cache or on the hub. Without network access, "
            "download the model first; pickled weights are not loaded."
        )
    return directory


def dataset_directory(name: str, revision: str | None = None) -> Path:
    """The directory of the hub's data set "org/name": Hugging Face's cache first, then downloaded.

    revision: a branch, tag or commit; None is the main branch.
    Only data files of known formats and the card are fetched. Raises DataError when it cannot be obtained.
    """
    patterns = ["README.md", *(f"*{ending}{packed}" for ending in DATA_FILES for packed in ("", ".gz"))]
    return _snapshot("dataset", name, revision, patterns, lambda cached: True)


def _snapshot(
    kind: Literal["model", "dataset"],
    repository: str,
    revision: str | None,
    patterns: list[str],
    complete: Callable[[Path], bool],
) -> Path:
    """A hub repository's local copy: from the cache if it is `complete` there, else downloaded."""
    try:
        cached = hub_cache.cached(repository, revision, complete, patterns, kind)
        return cached or hub_cache.download(repository, revision, patterns, kind=kind)
    except Exception as error:  # including network errors of whichever HTTP library is used
        reason = fetch.whole(error)
        name = f"{repository}@{revision}" if revision else repository
        raise (ModelError if kind == "model" else DataError)(
            f"{name}: not a local path, not in Hugging Face's cache, and it cannot be downloaded "
            f"({reason}). Check the name and the network, or give a local path."
        ) from error


def context_length(directory: Path) -> int | None:
    """The maximum input length in tokens according to config.json, None if it states none."""
    return _config_number(directory, LENGTH_KEYS)


def embedding_count(directory: Path) -> int | None:
    """The number of token embeddings (vocab_size) according to config.json, None if it states none."""
    return _config_number(directory, ("vocab_size",))


def _config_number(directory: Path, keys: Sequence[str]) -> int | None:
    """The first positive integer under one of the keys, at the top level first, then in `text_config`."""
    config = read_config(directory)
    parts = [config, config.get("text_config")]
    values = [part.get(key) for part in parts if isinstance(part, dict) for key in keys]
    return next((value for value in values if isinstance(value, int) and value > 0), None)
