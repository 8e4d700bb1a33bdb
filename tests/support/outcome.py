"""What a command line that was run in this process has printed, and its exit code."""

from __future__ import annotations

from typing import NamedTuple


class Outcome(NamedTuple):
    code: int
    out: str
    err: str
