"""A terminal to run the command line in, as wide as wanted."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

CHILD = """
import json, sys
from painters.cli import main
codes = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["painters", *arguments]
    try:
        main()
    except SystemExit as end:
        codes.append(end.code)
open(".codes", "w").write(json.dumps(codes))
"""


class Shown(NamedTuple):
    codes: list[int]
    text: str


def shown(commands: Sequence[Sequence[str]], folder: Path, columns: int = 80, **environment: str) -> Shown:
    """The exit codes, and all that a terminal gets, from these commands one after the other in one process."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(commands)],
        stdin=side,
        stdout=side,
        stderr=side,
        cwd=folder,
        env=inherited | {"TERM": "xterm-256color", "PYTHONPATH": root} | environment,
    ):
        os.close(side)
        read = bytearray()
        while True:
            try:
                found = os.read(main, 65536)
            except OSError:  # Linux's way to say that the other side is gone
                break
            if not found:
                break
            read += found
    os.close(main)
    codes = folder / ".codes"
    return Shown(json.loads(codes.read_text()) if codes.exists() else [], read.decode("utf-8", "replace"))
