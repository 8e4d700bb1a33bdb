"""The roots of painters' own errors and warnings."""

from __future__ import annotations

from typing import ClassVar


class PaintersError(Exception):
    """What is wrong with a request or with what it found; the message says what was asked, found, and to do.

    `exit_code` is the command line's: 2 where the request cannot be meant, 1 where the world is in its way.
    """

    exit_code: ClassVar[int] = 1


class PaintersWarning(UserWarning):
    """What a user should know of what was read; the command line prints its message alone."""
