"""The roots of painters' own errors and warnings."""

from __future__ import annotations

import re
from typing import ClassVar

# Control characters but for tab and line break, marks that turn the direction of a text around, halves of characters.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class PaintersError(Exception):
    """What is wrong with a request or with what it found; the message says what was asked, found, and to do.

    `exit_code` is the command line's: 2 where the request cannot be meant, 1 where the world is in its way.
    """

    exit_code: ClassVar[int] = 1


class PaintersWarning(UserWarning):
    """What a user should know of what was read; the command line prints its message alone."""


def first_line(error: BaseException) -> str:
    """What the error says, in short, or its name."""
    return str(error).strip().partition("\n")[0][:200].rstrip(".") or type(error).__name__


def printable(text: str) -> str:
    """`text` with what a terminal would obey, rather than show, written out: the escape character as `\\x1b`.

    Whatever comes from a file, a record or the hub may hold it.
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
