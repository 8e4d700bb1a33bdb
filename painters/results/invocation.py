"""Which command a record was made by."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

_LONGEST = 1000  # characters
_SECRET = re.compile(
    r"\b(?:hf|sk|ghp|gho|glpat|xox[a-z])[-_][A-Za-z0-9_-]{8,}"  # tokens by the beginnings that hubs give them
    r"|(?<=://)[^/\s@]+(?=@)"  # user and password in an address
    r"|(?<=token=)[^\s,;&]+|(?<=secret=)[^\s,;&]+|(?<=password=)[^\s,;&]+|(?<=key=)[^\s,;&]+",
    re.IGNORECASE,
)


def command() -> str:
    """The command line of painters that this process runs; "python" where another program calls it.

    Without what looks like a secret; paths are relative to the working folder where they are in it, or begin with ~.
    """
    program = Path(sys.argv[0]) if sys.argv else Path()
    name = program.parent.name if program.name == "__main__.py" else program.stem
    if name != "painters":
        return "python"
    text = shlex.join(["painters", *(_SECRET.sub("***", _portable(argument)) for argument in sys.argv[1:])])
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _portable(argument: str) -> str:
    """An argument without what only this machine knows of its paths."""
    for folder, instead in ((Path.cwd(), "."), (Path.home(), "~")):
        prefix = re.escape(str(folder))
        if folder != folder.parent:
            argument = re.sub(rf"(?<![\w.~/-]){prefix}(?=/|$)", instead, argument)
    return argument.replace(f"=.{os.sep}", "=").removeprefix(f".{os.sep}")
