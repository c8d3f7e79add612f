"""Tab completion: verbs, flags, keys and their values, run directories, task files.

The shell calls `finetooth` with _FINETOOTH_COMPLETE in the environment, so the suggestions are those of the
installed version. Nothing here loads more than `finetooth --help` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
from click.shell_completion import CompletionItem, get_completion_class
from pydantic.fields import FieldInfo

from finetooth.config.named_models import named_models
from finetooth.config.task import EMBEDDED

SHELLS = {
    "bash": "echo 'eval \"$(finetooth completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(finetooth completion zsh)\"' >> ~/.zshrc",
    "fish": "finetooth completion fish > ~/.config/fish/completions/finetooth.fish",
}
TASK_FILES = (".yaml", ".yml", ".toml")
FILES = (
    "model",
    "tuned",
    "template",
    "data.train",
    "data.validation",
    "data.test",
    "data.add",
)  # keys that may name a path


def script(group: click.Group, shell: str) -> str:
    """The completion script for this shell; its last line is the command that installs it."""
    kind = get_completion_class(shell)
    assert kind is not None, "click knows every shell in SHELLS"
    source = kind(group, {}, "finetooth", "_FINETOOTH_COMPLETE").source()
    return f"{source.rstrip()}\n# To enable it in every new {shell}: {SHELLS[shell]}\n"


class PathArgument(click.Path):
    """A path argument. kinds: what the shell suggests for it, out of run, task and model.

    Without kinds, or when nothing matches, the shell suggests files.
    """

    def __init__(self, *kinds: str) -> None:
        super().__init__(path_type=str if "model" in kinds else Path)
        self.kinds = kinds

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[Any]]:
        """Suggestions that begin with the incomplete word."""
        from finetooth.data.cache import cache_directory
        from finetooth.runs.workspace import known_runs

        names: set[str] = set()
        if "model" in self.kinds:
            fetched = cache_directory("models") or Path(os.devnull)
            names = {*EMBEDDED, *(path.parent.name for path in fetched.glob("*/source.json"))}
        if "run" in self.kinds:
            names |= {*known_runs(), *known_runs(incomplete)}
        if "task" in self.kinds:
            folder = Path(os.path.split(incomplete)[0])
            names |= {str(file) for file in folder.glob("*") if file.suffix in TASK_FILES}
        found = sorted(name for name in names if name.startswith(incomplete))
        return [CompletionItem(name) for name in found] or [CompletionItem(incomplete, type="file")]


def complete_model_words(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[Any]]:
    """The words after `finetooth models`."""
    known = ("get", *named_models())
    words = [CompletionItem(word) for word in known if word.startswith(incomplete)]
    return words or [CompletionItem(incomplete, type="file")]


def complete_value(key: str, field: FieldInfo, incomplete: str) -> list[CompletionItem[Any]]:
    """The fixed values of a key, or files if it takes a path."""
    if key in ("start", "data.split_from"):
        from finetooth.runs.workspace import known_runs

        runs = sorted({*known_runs(), *known_runs(incomplete)})
        return [CompletionItem(run) for run in runs if run.startswith(incomplete)]
    found = [word for word in literals(field.annotation) if word.startswith(incomplete)]
    items: list[CompletionItem[Any]] = [CompletionItem(word) for word in found]
    return items or ([CompletionItem(incomplete, type="file")] if key in FILES else [])


def literals(annotation: Any) -> Iterator[str]:
    """The strings of every Literal in a type."""
    for part in get_args(annotation):
        if isinstance(part, str):
            yield part
        else:
            yield from literals(part)
