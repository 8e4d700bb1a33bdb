"""Errors of the command line: the exit code and the one message of each."""

from __future__ import annotations

import errno
from typing import Any

from painters.errors import PaintersError, printable

DONE, FAILURE, USAGE, HUNG_UP, STOPPED, TERMINATED = 0, 1, 2, 129, 130, 143
EXIT_CODES = {
    DONE: "done",
    FAILURE: "failed",
    USAGE: "invalid request: an option, a plan or a file that cannot be used",
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


_NO_ARGUMENTS = {
    "models": "it lists all models; --inspect NAME looks into one",
    "tasks": "it lists all tasks; `painters run --tasks NAME` scores one",
    "variants": "it lists all variants; `painters show --variant NAME` draws one",
}
"""Commands that take no arguments -> what to do with a name."""


class UsageError(PaintersError):
    """Options that do not go together, or a value that an option cannot have."""

    exit_code = USAGE


def exit_code_of(error: Exception) -> int | None:
    """Return the exit code of an error that a user can cause; None for any other: a bug of painters."""
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        return code
    return FAILURE if isinstance(error, OSError) else None


def format_error(error: Exception) -> str:
    """Return the message of an error, safe to print in a terminal."""
    if isinstance(error, OSError) and error.strerror:
        path = f"{error.filename}: " if error.filename else ""
        advice = ADVICE.get(error.errno or 0, "")
        message = f"{path}{error.strerror}{advice}. Nothing that was recorded before is lost"
    elif hasattr(error, "format_message"):
        message = _format_usage_error(error)
    else:
        message = str(error)
    return printable(message)


def _format_usage_error(error: Any) -> str:
    """Return the message of an argument that typer cannot read: option, value, where to find help."""
    message, parameter, cause = str(error.format_message()), getattr(error, "param", None), error.__cause__
    if parameter is not None and hasattr(cause, "errors"):
        name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar or parameter.name
        detail = cause.errors()[0]
        message = f"{name} {detail['input']}: {detail['msg'].removeprefix('Value error, ')}"
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "painters"
    if "unexpected extra argument" in message:
        advice = _NO_ARGUMENTS.get(str(getattr(context, "info_name", "")), "quote what has spaces, such as a plan")
        message += f": {advice}"
    see = " See" if message.endswith("?") else "; see"
    return f"{message.rstrip('.')}{see} `{command} --help`"
