"""What goes wrong: its exit code and its one message."""

from __future__ import annotations

import errno
from typing import Any

from painters.errors import PaintersError

DONE, FAILURE, USAGE, HUNG_UP, STOPPED, TERMINATED = 0, 1, 2, 129, 130, 143
EXIT_CODES = {
    DONE: "done",
    FAILURE: "failed",
    USAGE: "wrong usage: an option, a plan or a file that was named",
    HUNG_UP: "stopped by SIGHUP",
    STOPPED: "stopped by Ctrl-C",
    TERMINATED: "stopped by SIGTERM",
}


_FULL = " Make room and run the same command again: it goes on where it stopped."
_CLOSED = " Choose with --out a folder that can be written, or make this one so and run the same command again."
_TO_DO = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL) | dict.fromkeys(
    (errno.EROFS, errno.EACCES, errno.EPERM), _CLOSED
)


class UsageError(PaintersError):
    """Options that do not go together, or a value that an option cannot have."""

    exit_code = USAGE


def code_of(error: Exception) -> int | None:
    """The exit code of an error that a user can cause; None for what must be a fault of painters."""
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        return code
    return FAILURE if isinstance(error, OSError) else None


def text_of(error: Exception) -> str:
    """The message, without control characters that a name in it may have brought."""
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        to_do = _TO_DO.get(error.errno or 0, "")
        told = f"{error.strerror}{where}. Nothing that was recorded before is lost.{to_do}"
    elif hasattr(error, "format_message"):
        told = _unread(error)
    else:
        told = str(error)
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in told)


def _unread(error: Any) -> str:
    """Typer's error of an argument that it cannot read, with what was found there."""
    told, parameter, cause = str(error.format_message()), getattr(error, "param", None), error.__cause__
    if parameter is not None and hasattr(cause, "errors"):
        name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar or parameter.name
        found = cause.errors()[0]
        told = f"{name} {found['input']}: {found['msg'].removeprefix('Value error, ')}"
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "painters"
    return f"{told.rstrip('.')}; `{command} --help` says what there is"
