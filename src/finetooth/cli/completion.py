"""What a shell offers when Tab is pressed: verbs, flags, keys and their values, run directories, task files.

The shell calls `finetooth` itself with _FINETOOTH_COMPLETE in the environment, so what is offered is what
this version understands. Nothing here loads more than `finetooth --help` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
from click.shell_completion import CompletionItem, get_completion_class
from pydantic.fields import FieldInfo

from finetooth.config.task import EMBEDDED

SHELLS = {
    "bash": "echo 'eval \"$(finetooth completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(finetooth completion zsh)\"' >> ~/.zshrc",
    "fish": "finetooth completion fish > ~/.config/fish/completions/finetooth.fish",
}
TASK_FILES = (".yaml", ".yml", ".toml")
FILES = ("model", "template", "data.train", "data.validation", "data.test")  # keys that may name a path


def script(group: click.Group, shell: str) -> str:
    """The script that a shell of this kind evaluates, with how to keep it at its end."""
    kind = get_completion_class(shell)
    assert kind is not None, "only shells in SHELLS are asked for"
    source = kind(group, {}, "finetooth", "_FINETOOTH_COMPLETE").source()
    return f"{source.rstrip()}\n# For every new {shell}: {SHELLS[shell]}\n"


class PathArgument(click.Path):
    """An argument that names a path. offers: what the shell offers for it, of run, task and model.

    Without any, and where nothing fits, the shell offers files.
    """

    def __init__(self, *offers: str) -> None:
        super().__init__(path_type=str if "model" in offers else Path)
        self.offers = offers

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[Any]]:
        """What fits the beginning of the word."""
        found = sorted({name for name in self._names(incomplete) if name.startswith(incomplete)})
        return [CompletionItem(name) for name in found] or [CompletionItem(incomplete, type="file")]

    def _names(self, start: str) -> Iterator[str]:
        from finetooth.runs.workspace import known_runs

        if "model" in self.offers:
            yield from EMBEDDED
        if "run" in self.offers:
            yield from known_runs()
            yield from known_runs(start)
        if "task" in self.offers:
            folder = Path(os.path.split(start)[0])
            yield from (str(file) for file in folder.glob("*") if file.suffix in TASK_FILES)


def complete_value(key: str, field: FieldInfo, incomplete: str) -> list[CompletionItem[Any]]:
    """The words that a key of the task takes, or files where it takes a path."""
    if key == "start":
        from finetooth.runs.workspace import known_runs

        runs = sorted({*known_runs(), *known_runs(incomplete)})
        return [CompletionItem(run) for run in runs if run.startswith(incomplete)]
    found = [word for word in _words(field.annotation) if word.startswith(incomplete)]
    items: list[CompletionItem[Any]] = [CompletionItem(word) for word in found]
    return items or ([CompletionItem(incomplete, type="file")] if key in FILES else [])


def _words(annotation: Any) -> Iterator[str]:
    """The texts of every Literal in a type."""
    for part in get_args(annotation):
        if isinstance(part, str):
            yield part
        else:
            yield from _words(part)
