"""Records: what a plan scored on a task, kept as one JSON object per line in files that only grow.

A record holds everything that can change its number, the outcome of every document, what the number cost, and the
command that wrote it. A number that does not exist is None, never 0. Each line carries a checksum: damaged lines are
left out with a warning, and never read as something else (`painters.results.lines`).
"""

from __future__ import annotations

from painters.results.files import ResultsWarning, append, read
from painters.results.invocation import command
from painters.results.record import Asked, Record, ResultsError, digest, key
from painters.results.store import Answers, Store
from painters.results.table import frame

__all__ = [
    "Answers",
    "Asked",
    "Record",
    "ResultsError",
    "ResultsWarning",
    "Store",
    "append",
    "command",
    "digest",
    "frame",
    "key",
    "read",
]
