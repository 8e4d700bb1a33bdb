"""Who writes a file: names that hold a time, a machine and a process."""

from __future__ import annotations

import datetime
import os
import re
import socket
from pathlib import Path

from painters.results.files import STAMP

__all__ = ["TIME", "host_name", "new_name", "writer_of"]

TIME = "%Y%m%dT%H%M%S-%fZ"
"""The format of `STAMP`."""


def host_name() -> str:
    """Return this machine's name, with characters that are safe in file names."""
    return re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())[:40].strip("-") or "host"


def new_name(earliest: str = "") -> str:
    """Return the name of a file of this process: the time (UTC), or `earliest` if that is later, machine and process.

    Args:
        earliest: A time in the format `TIME`.
    """
    now = max(datetime.datetime.now(datetime.UTC).strftime(TIME), earliest)
    return f"{now}-{host_name()}-{os.getpid()}"


def writer_of(path: Path) -> int | None:
    """Return the id of another process of this machine that is writing `path`, going by its name, or None.

    Args:
        path: A file whose name ends with the time, the machine and the process of its writer, and a suffix.
    """
    match = re.search(rf"(?:^|\.){STAMP.pattern}-{re.escape(host_name())}-(\d+)\.[a-z]+$", path.name)
    if match is None or int(match[1]) == os.getpid():
        return None
    try:
        os.kill(int(match[1]), 0)  # signal 0 only checks that the process exists
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:  # it exists, and is another user's
        pass
    return int(match[1])
