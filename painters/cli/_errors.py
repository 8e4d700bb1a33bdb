"""What goes wrong: its exit code and its one message."""

from __future__ import annotations

import errno
from typing import Any

from painters.errors import PaintersError, printable

DONE, FAILURE, USAGE, HUNG_UP, STOPPED, TERMINATED = 0, 1, 2, 129, 130, 143
EXIT_CODES = {
    DONE: "done",
    FAILURE: "failed",
    USAGE: "wrong usage: an option, a plan or a file that was named",
    HUNG_UP: "stopped by SIGHUP",
    STOPPED: "stopped by Ctrl-C",
    TERMINATED: "stopped by SIGTERM",
}


ADVICE = {
    errno.EISDIR: "; name a file, not a folder",
    errno.EEXIST: "; a file lies where a folder has to be, so name another",
    errno.ENOTDIR: "; a file lies where a folder has to be, so name another",
    errno.ENOENT: "; make the folder, or name another",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "; name a place that you may write to"),
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        "; make room and run the same command again, which goes on where it stopped, or name a place on another disk",
    ),
}


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
    """The message."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        advice = ADVICE.get(error.errno or 0, "")
        told = f"{where}{error.strerror}{advice}. Nothing that was recorded before is lost"
    elif hasattr(error, "format_message"):
        told = _unread(error)
    else:
        told = str(error)
    return printable(told)


def _unread(error: Any) -> str:
    """Typer's error of an argument that it cannot read, with what was found there."""
    told, parameter, cause = str(error.format_message()), getattr(error, "param", None), error.__cause__
    if parameter is not None and hasattr(cause, "errors"):
        name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar or parameter.name
        found = cause.errors()[0]
        told = f"{name} {found['input']}: {found['msg'].removeprefix('Value error, ')}"
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "painters"
    if "unexpected extra argument" in told:
        told += ": quote what has spaces, such as a plan"
    return f"{told.rstrip('.')}{'' if told.endswith('?') else ';'} `{command} --help` says what there is"
