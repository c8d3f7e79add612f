"""Rendering: examples as rows of tokens. Programs import Renderer from here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetooth.data.render.renderer import Renderer

__all__ = ["Renderer"]


def __getattr__(name: str) -> Any:
    """Renderer, loaded when it is asked for: most of this package needs no tokenizer."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from finetooth.data.render.renderer import Renderer

    return Renderer
