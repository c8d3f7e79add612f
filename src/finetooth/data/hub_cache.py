"""Hugging Face's cache and its downloads, in the three forms that are needed here. No torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal


def has_weights(directory: Path) -> bool:
    """Whether a snapshot is a model: configuration and safetensors weights."""
    return (directory / "config.json").is_file() and any(directory.glob("*.safetensors"))


def cached(
    repository: str,
    revision: str | None,
    complete: Callable[[Path], bool],
    patterns: list[str],
    kind: Literal["model", "dataset"] = "model",
) -> Path | None:
    """The snapshot in the cache if it is `complete`, else None. No network."""
    try:
        found = Path(_fetch(repository, revision, patterns, kind)(local_files_only=True))
    except OSError:  # not in the cache, or only in part
        return None
    return found if complete(found) else None


def download(
    repository: str,
    revision: str | None,
    patterns: list[str],
    bars: bool = True,
    kind: Literal["model", "dataset"] = "model",
) -> Path:
    """The snapshot, downloaded where needed; an interrupted download goes on. Raises the library's errors."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled as disabled
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    shown = not disabled()
    if not bars:
        disable_progress_bars()
    try:
        return Path(_fetch(repository, revision, patterns, kind)())
    finally:
        if shown and not bars:
            enable_progress_bars()


def _fetch(repository: str, revision: str | None, patterns: list[str], kind: str) -> Any:
    from huggingface_hub import snapshot_download

    return partial(snapshot_download, repository, repo_type=kind, revision=revision, allow_patterns=patterns)
