"""finetooth: fine-tune a language model on your own examples, and measure whether it beats prompting.

`import finetooth as ft` is light: names that need torch are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from finetooth import machine
from finetooth.config.task import Task
from finetooth.errors import FinetoothError
from finetooth.types import Completion, Example, Message, Piece, Sampling, Score

if TYPE_CHECKING:
    from finetooth.commands.predict import predict
    from finetooth.commands.python import check, compare, evaluate
    from finetooth.commands.run import Run, run
    from finetooth.model.api import Model
    from finetooth.tree import PrefixTree, Row

machine.limit_threads_to_quota()  # before torch: OpenMP reads the environment when it is loaded

__version__ = "0.1.0"
__all__ = [
    "Completion",
    "Example",
    "FinetoothError",
    "Message",
    "Model",
    "Piece",
    "PrefixTree",
    "Row",
    "Run",
    "Sampling",
    "Score",
    "Task",
    "check",
    "compare",
    "evaluate",
    "predict",
    "run",
]

_LAZY = {
    "Model": "finetooth.model.api",
    "PrefixTree": "finetooth.tree",
    "Row": "finetooth.tree",
    "Run": "finetooth.commands.run",
    "check": "finetooth.commands.python",
    "compare": "finetooth.commands.python",
    "evaluate": "finetooth.commands.python",
    "predict": "finetooth.commands.predict",
    "run": "finetooth.commands.run",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'finetooth' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What is meant to be used, imported or not: not the modules that an import leaves here."""
    return [*__all__, "__version__"]
