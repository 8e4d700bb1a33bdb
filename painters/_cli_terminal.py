"""How the command line writes: names from files, records and the hub are shown, and never obeyed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from typer.core import TyperGroup

from painters.errors import printable


class Terminal(Console):
    """A console in which texts are no markup, and control characters in them are written out."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of `renderable`; rich's own codes come from their styles."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


class Commands(TyperGroup):
    """The commands, whose usage errors are shown in the same way: they repeat the arguments."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _shown():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _shown():
            return super().invoke(ctx)


@contextlib.contextmanager
def _shown() -> Iterator[None]:
    """Nothing; the message of an error that typer prints is made printable."""
    try:
        yield
    except Exception as error:
        if isinstance(getattr(error, "message", None), str):
            vars(error)["message"] = printable(vars(error)["message"])
        raise
