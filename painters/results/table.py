"""Records: what a plan scored on a task, kept as one JSON object per line in files that only grow.

A record holds everything that can change its number, the outcome of every document, what the number cost, and the
command that wrote it. A number that could not be had is None, never 0. Each line carries a checksum: what was damaged
since is left out and told, and never read for something else (`painters.results.lines`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from painters.results import scoring
from painters.results.files import ResultsWarning, append, read
from painters.results.invocation import command
from painters.results.record import NOT_IN_KEY, Asked, Record, ResultsError, digest, key
from painters.results.store import Answers, Store

if TYPE_CHECKING:
    import pandas as pd

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


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row per record, compared with the intact model's record of the same protocol where `records` has
    one.

    Columns: plan, task, metric, primary, value, stderr, intact, difference, difference_stderr (paired by
    document), normalised (0 is chance, 1 the intact model), chance, documents, layer_runs, depth, seconds,
    kv, model, shots, not_finite (answers that were NaN or infinite: then there is no value). A number that could not
    be had is NaN, as pandas has it. Notebooks show the table styled.
    """
    from painters.results.styled import Scores

    intact = {_protocol(record): record for record in records if record.is_intact}
    rows = [_row(record, intact.get(_protocol(record))) for record in records]
    return Scores(rows, columns=_COLUMNS).astype(dict.fromkeys(_NUMBERS, "float64"))


_NUMBERS = ("value", "stderr", "intact", "difference", "difference_stderr", "normalised", "chance", "seconds")
_COLUMNS = (
    "plan task metric primary value stderr intact difference difference_stderr normalised chance documents "
    "layer_runs depth seconds kv model shots not_finite"
).split()


def _row(record: Record, intact: Record | None) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(record, name) for name in _COLUMNS if name in Record.model_fields}
    if intact is None or intact.value is None:
        return row
    row["intact"] = intact.value
    if record.value is None:
        return row
    row["difference"] = record.value - intact.value
    row["normalised"] = scoring.normalised(record.value, intact.value, record.chance)
    if record.outcomes is not None and intact.outcomes is not None:
        row["difference_stderr"] = scoring.difference_stderr(
            record.aggregation, record.outcomes, record.value, intact.outcomes, intact.value
        )
    return row


def _protocol(record: Record) -> str:
    """The key without what sets the plan apart; the cache of the intact model is exact under every `kv`."""
    fields = record.model_dump(mode="json", exclude={*NOT_IN_KEY, "plan", "kv"})
    return json.dumps(fields, sort_keys=True)
