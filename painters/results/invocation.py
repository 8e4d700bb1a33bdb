"""The command line that a record was made by."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

__all__ = ["command"]

_LONGEST = 1000  # characters
_SECRET = re.compile(
    r"\b(?:hf|sk|ghp|gho|glpat|xox[a-z])[-_][A-Za-z0-9_-]{8,}"  # tokens, by the prefixes that services give them
    r"|(?<=://)[^/\s@]+(?=@)"  # user and password in a URL
    r"|(?<=token=)[^\s,;&]+|(?<=secret=)[^\s,;&]+|(?<=password=)[^\s,;&]+|(?<=key=)[^\s,;&]+",
    re.IGNORECASE,
)


def command() -> str:
    """Return the painters command line that runs in this process, as records keep it.

    What looks like a secret is replaced by `***`. Paths in the working folder become relative, and the home folder
    becomes `~`. A command of more than 1,000 characters is cut.

    Returns:
        The command line, or `"python"` where another program called painters.

    Examples:
        >>> import sys
        >>> sys.argv = ["/usr/bin/painters", "run", "--plan", "0-3 {4-8} 9-11", "--model", "https://me:pw@host/x"]
        >>> command()
        "painters run --plan '0-3 {4-8} 9-11' --model 'https://***@host/x'"
        >>> sys.argv = ["script.py"]
        >>> command()
        'python'
    """
    program = Path(sys.argv[0]) if sys.argv else Path()
    name = program.parent.name if program.name == "__main__.py" else program.stem
    if name != "painters":
        return "python"
    text = shlex.join(["painters", *(_SECRET.sub("***", _portable(argument)) for argument in sys.argv[1:])])
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _portable(argument: str) -> str:
    """Return an argument with paths relative to the working folder (`.`) or the home folder (`~`)."""
    for folder, replacement in ((Path.cwd(), "."), (Path.home(), "~")):
        prefix = re.escape(str(folder))
        if folder != folder.parent:
            argument = re.sub(rf"(?<![\w.~/-]){prefix}(?=/|$)", replacement, argument)
    return argument.replace(f"=.{os.sep}", "=").removeprefix(f".{os.sep}")
