"""The console of everything that is printed: what comes from files and models cannot command the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
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


@contextmanager
def answer_bars(console: Console, title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars of candidates that answer rows; yields what is called with (name, rows done, rows)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=console.quiet) as bar:
        bars: dict[str, Any] = {}

        def progress(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = bar.add_task(f"{title}: {name}", total=total)
            bar.update(bars[name], completed=done)

        yield progress
