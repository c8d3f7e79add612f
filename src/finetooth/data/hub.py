"""Where a model's files are (embedded, a local directory, the hub), and a data set's on the hub. No torch."""

from __future__ import annotations

import re
from functools import partial
from importlib.resources import files
from pathlib import Path

from finetooth.config.task import EMBEDDED
from finetooth.config.values import DATA_FILES
from finetooth.errors import DataError, ModelError
from finetooth.rundir import read_json

SMALL_FILES = ("*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
# Names for the longest input in config.json, the usual one first.
LENGTH_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "n_ctx")


def model_directory(name: str, weights: bool = True) -> Path:
    """The directory of a model: embedded ("milktooth"), local, or a hub id such as "org/model".

    A hub id may name a branch, tag or commit, "org/model@v1.0". It is looked up in the cache of the hub,
    then fetched; weights=False fetches no safetensors.
    Raises ModelError when there is no such model or it has no config.json.
    """
    if name in EMBEDDED:  # a folder of that name is ./NAME
        embedded = Path(str(files("finetooth"))) / "embedded" / name
        if not (embedded / "config.json").is_file():
            raise ModelError(f"The embedded model {name} is missing from this installation ({embedded}).")
        return embedded
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            found = ", ".join(sorted(item.name for item in path.iterdir())[:8]) or "nothing"
            raise ModelError(f"{path}: not a model directory. Expected a config.json, found {found}.")
        return path
    if path.is_file():
        raise ModelError(f"{path}: a file. Expected the directory that holds the model's config.json.")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", name) or name.startswith((".", "/", "~")):
        raise ModelError(
            f"{name}: no such directory. Expected a local model directory, a hub id such as org/model, "
            f"or the embedded model {EMBEDDED[0]}."
        )
    return _snapshot(name, weights)


def _snapshot(name: str, weights: bool) -> Path:
    """A hub model in Hugging Face's cache, fetched when it is not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    patterns = [*SMALL_FILES, *(("*.safetensors",) if weights else ())]
    repository, _, revision = name.partition("@")
    fetch = partial(snapshot_download, repository, revision=revision or None, allow_patterns=patterns)
    try:
        try:
            directory = Path(fetch(local_files_only=True))
            if (directory / "config.json").is_file() and (
                not weights or any(directory.glob("*.safetensors"))
            ):
                return directory
        except OSError:
            pass  # not in the cache
        directory = Path(fetch())
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{name}: not a local directory, not in Hugging Face's cache, and it cannot be fetched "
            f"({reason[:160]}). Check the name and the network, or give a local directory."
        ) from error
    if not (directory / "config.json").is_file():
        raise ModelError(f"{name}: the hub repository has no config.json, so it is not a transformers model.")
    if weights and not any(directory.glob("*.safetensors")):
        # Never silently fresh: only a local directory without weights means "start from the seed".
        raise ModelError(
            f"{name}: no safetensors weights in Hugging Face's cache or on the hub. Without network, fetch "
            "the model first; a model with pickled weights alone is not loaded."
        )
    return directory


def context_length(directory: Path) -> int | None:
    """The longest input in tokens that config.json states, None when it states none."""
    path = directory / "config.json"
    config = read_json(path) if path.is_file() else {}
    parts = [config, config.get("text_config")] if isinstance(config, dict) else []
    values = [part.get(key) for part in parts if isinstance(part, dict) for key in LENGTH_KEYS]
    return next((value for value in values if isinstance(value, int) and value > 0), None)


def dataset_directory(name: str, revision: str | None = None) -> Path:
    """A snapshot of the hub's data set "org/name": Hugging Face's cache first, then fetched.

    revision: a branch, tag or commit; None is the main branch.
    Only files that can be read and the card are fetched. Raises DataError when it can be had from neither.
    """
    from huggingface_hub import snapshot_download

    patterns = ["README.md", *(f"*{ending}{packed}" for ending in DATA_FILES for packed in ("", ".gz"))]
    fetch = partial(snapshot_download, name, repo_type="dataset", revision=revision, allow_patterns=patterns)
    try:
        try:
            found = fetch(local_files_only=True)
        except OSError:  # not in the cache, or not all of it
            found = fetch()
    except Exception as error:  # also what the network raises, whichever library carries it
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        at = f"@{revision}" if revision else ""
        raise DataError(
            f"{name}{at}: no such file or directory, no data set in Hugging Face's cache, and it cannot be "
            f"fetched ({reason[:160]}). Check the name and the network, or give a local file or directory."
        ) from error
    return Path(found)
