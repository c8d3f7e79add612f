"""finetooth: fine-tune a language model on your own examples, and measure whether it beats prompting.

`import finetooth as ft` is light: names that need torch are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from finetooth import machine
from finetooth.config.task import Task
from finetooth.types import Completion, Example, Message, Piece, Sampling, Score

if TYPE_CHECKING:
    from finetooth.commands.predict import predict
    from finetooth.commands.run import run
    from finetooth.model.api import Model
    from finetooth.tree import PrefixTree, Row

machine.limit_threads_to_quota()  # before torch: OpenMP reads the environment when it is loaded

__version__ = "0.1.0"
__all__ = [
    "Completion",
    "Example",
    "Message",
    "Model",
    "Piece",
    "PrefixTree",
    "Row",
    "Sampling",
    "Score",
    "Task",
    "predict",
    "run",
]

_LAZY = {
    "Model": "finetooth.model.api",
    "PrefixTree": "finetooth.tree",
    "Row": "finetooth.tree",
    "predict": "finetooth.commands.predict",
    "run": "finetooth.commands.run",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'finetooth' has no attribute {name!r}")
