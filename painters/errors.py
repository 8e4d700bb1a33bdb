"""The base classes of painters' errors and warnings, and short, printable texts of errors."""

from __future__ import annotations

import re
from typing import ClassVar

__all__ = ["PaintersError", "PaintersWarning", "SimilarityError", "class_and_first_line", "first_line", "printable"]

_MAX_LENGTH = 200  # characters of an error that are quoted in a message

# Control characters except tab and line break, marks that change the direction of text, and halves of surrogate pairs.
_CONTROL_CHARACTERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


class PaintersError(Exception):
    """The base class of painters' errors; the message says what was asked, what was found and what to do.

    `exit_code` is the exit code of the command line. 2: invalid request. 1: valid request that failed (I/O, network,
    memory).
    """

    exit_code: ClassVar[int] = 1


class SimilarityError(PaintersError, ValueError):
    """A similarity that does not exist, or inputs for which none can be computed."""

    exit_code = 2


class PaintersWarning(UserWarning):
    """Something that a user should know about what was read; the command line prints the message alone."""


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error's message, to be quoted in another message.

    Args:
        error: The error.

    Returns:
        At most 200 characters, without a full stop at the end. After a colon the second line follows. A KeyError,
        whose message is a key alone, is preceded by its class. An error without a message is its class.

    Examples:
        >>> first_line(ValueError("no such file.\nTry another."))
        'no such file'
        >>> first_line(KeyError("layers"))
        "KeyError 'layers'"
        >>> first_line(TimeoutError())
        'TimeoutError'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])[:_MAX_LENGTH].rstrip(".")
    return text if text and not isinstance(error, KeyError) else f"{type(error).__name__} {text}".strip()


def class_and_first_line(error: BaseException) -> str:
    """Return the class of an error and the first line of its message.

    For errors of libraries, whose class often says what the message does not.

    Args:
        error: The error.

    Returns:
        The name of the class, a colon and `first_line(error)`; the name alone where there is no message.

    Examples:
        >>> class_and_first_line(TimeoutError("timed out"))
        'TimeoutError: timed out'
        >>> class_and_first_line(TimeoutError())
        'TimeoutError'
    """
    name, text = type(error).__name__, first_line(error)
    return text if text.partition(" ")[0] == name else f"{name}: {text}"


def printable(text: str) -> str:
    r"""Return `text` with the characters escaped that a terminal would obey instead of showing.

    Text from a file, a record or the hub may hold such characters.

    Args:
        text: Any text.

    Returns:
        The text, with control characters and marks of direction written as Python escapes.

    Examples:
        >>> print(printable("a red \x1b[31mname"))
        a red \x1b[31mname
    """
    return _CONTROL_CHARACTERS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
