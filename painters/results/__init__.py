"""Records: what a plan scored on a task, kept as one JSON object per line in files that only grow."""

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
