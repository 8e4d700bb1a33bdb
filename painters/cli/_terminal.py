"""A console that shows control characters in text, which may come from anywhere, as escapes."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from painters.errors import printable


class Terminal(Console):
    """A console that takes text literally: no markup, no emoji codes, and control characters escaped."""

    def __init__(self, *, stderr: bool = False, force_terminal: bool | None = None) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False, force_terminal=force_terminal)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of `renderable` with their text made printable.

        The codes of rich itself are not in the text: they come from the styles of the segments.
        """
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
