"""Consoles that show what cannot be shown otherwise: control characters as escapes, other characters in ASCII."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from painters.errors import printable

IN_ASCII: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{"±": "+/-", "–": "-", "—": "-", "…": "...", "×": "x", "≤": "<=", "≥": ">=", "≈": "~", "·": ".", "•": "*"},
        **{"→": "->", "▶": ">", "‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " ", "−": "-", "Σ": "sum", "Δ": "d"},
        **dict.fromkeys("─━═╌┄╴╶╸╺", "-"),
        **dict.fromkeys("│┃║╎┆", "|"),
        **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯╔╗╚╝╞╡╪╫╬┏┓┗┛┡┩╇┻┳┣┫╋", "+"),
        **dict.fromkeys("█▉▊▋▌▍▎▏▓▒░", "#"),
        **{chr(dots): "*" for dots in range(0x2800, 0x2900)},  # the frames of spinners
    }
)
"""Characters of tables, plans and sentences that many encodings lack -> how they are written in ASCII."""
HANDLER: Final = "painters.in_ascii"


def in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Return what is written in place of the characters that an encoding lacks, and where to go on.

    A character without a form in ASCII is written as a Python escape.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    escaped = (IN_ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking)
    return "".join(escaped), error.end


codecs.register_error(HANDLER, in_ascii)


def write_all_characters() -> None:
    """Let stdout and stderr write what their encoding lacks in ASCII, rather than raise an error after hours."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=HANDLER)


class Terminal(Console):
    """A console that takes text literally: no markup, no emoji codes, and control characters escaped.

    Characters that its encoding lacks are written in ASCII, in tables before the columns are measured.
    """

    def __init__(self, *, stderr: bool = False, force_terminal: bool | None = None) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False, force_terminal=force_terminal)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, but let a line that must not be broken be longer than the terminal is wide."""
        super().print(*objects, **{"crop": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Return `text` as rich lays it out, in characters that the encoding has."""
        return super().render_str(self._encodable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of `renderable` with their text made printable.

        The codes of rich itself are not in the text: they come from the styles of the segments.
        """
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else self._encodable(printable(segment.text))
            yield segment if segment.control else Segment(text, segment.style)

    def _encodable(self, text: str) -> str:
        """Return `text` with the characters that the encoding of the console lacks written in ASCII."""
        try:
            return text.encode(self.encoding, HANDLER).decode(self.encoding)
        except LookupError:  # a stream in memory may name no codec
            return text
