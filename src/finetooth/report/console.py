"""The console of everything that is printed: what comes from files and models cannot command the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from finetooth.errors import printable


class Terminal(Console):
    """A console that shows control characters and text directions as escapes, and makes no links.

    Its own control sequences (colours, progress bars) are not text, so no caller has to think of this.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of what is printed, harmless."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control:
                yield segment
                continue
            if style is not None and style.link:
                style = style.update_link(None)
            yield Segment(printable(text), style)


def terminal(
    stderr: bool = False, quiet: bool = False, file: IO[str] | None = None, **options: Any
) -> Terminal:
    """A Terminal on stdout, or on stderr; `[...]` in a text is text."""
    return Terminal(stderr=stderr, quiet=quiet, file=file, markup=False, highlight=False, **options)
