"""The table of records: one row each, compared with the baseline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from painters.results import scoring
from painters.results.intervals import interval
from painters.results.record import NOT_IN_KEY, Record

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame"]


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return a table with one row per record, each compared with the baseline of the same protocol.

    The baseline is the record of the identity plan (the intact model) with the same task, metric, model and settings.
    It must be among `records`; otherwise the columns of the comparison are NaN. So is every number that a record lacks.
    Notebooks show the table styled.

    Columns:
        - `plan`, `task`, `metric`, `kv`, `model`, `shots`, `documents`: as recorded.
        - `primary`: whether the metric stands for its task.
        - `value`, `stderr`: the score and its standard error.
        - `low`, `high`: the score's 95 % interval over documents (`painters.results.intervals`).
        - `intact`: the baseline's value.
        - `difference`, `difference_stderr`: value minus baseline, and its standard error, paired by document.
        - `normalised`: the value on the scale where 0 is chance and 1 the baseline.
        - `chance`: the value of guessing.
        - `layer_runs`, `depth`: the cost of the plan: executions of layers, and the longest chain of them.
        - `seconds`: the time for all metrics of the cell together.
        - `not_finite`: how many answers were NaN or infinite; if there were any, there is no value.

    Args:
        records: The records, in the order of the rows.

    Returns:
        A DataFrame with these columns; without records it has no rows.

    Examples:
        >>> from painters.harness import score
        >>> from painters.models import load_model
        >>> model, tokenizer = load_model("nano-llama")
        >>> plans = ["0-11", "0-3"]
        >>> records = [record for plan in plans for record in score(model, tokenizer, plan, "nano_arc", limit=8)]
        >>> table = frame(records)
        >>> table.loc[table["primary"], ["plan", "value", "intact", "difference", "layer_runs"]]
            plan  value  intact  difference  layer_runs
        0   0-11  ...
        2    0-3  ...
    """
    from painters.results.styled import StyledDataFrame

    baselines = {_protocol(record): record for record in records if record.is_intact}
    rows = [_row(record, baselines.get(_protocol(record))) for record in records]
    return StyledDataFrame(rows, columns=_COLUMNS).astype(dict.fromkeys(_NUMBERS, "float64"))


_NUMBERS = "value stderr low high intact difference difference_stderr normalised chance seconds".split()
_COLUMNS = (
    "plan task metric primary value stderr low high intact difference difference_stderr normalised chance documents "
    "layer_runs depth seconds kv model shots not_finite"
).split()


def _row(record: Record, baseline: Record | None) -> dict[str, Any]:
    """Return the row of a record; numbers that do not exist are left out of it or None."""
    row: dict[str, Any] = {name: getattr(record, name) for name in _COLUMNS if name in Record.model_fields}
    if limits := interval(record):
        row["low"], row["high"] = limits
    if baseline is None or baseline.value is None:
        return row
    row["intact"] = baseline.value
    if record.value is None:
        return row
    row["difference"] = record.value - baseline.value
    row["normalised"] = scoring.normalised(record.value, baseline.value, record.chance)
    if record.outcomes is not None and baseline.outcomes is not None:
        row["difference_stderr"] = scoring.difference_stderr(
            record.aggregation, record.outcomes, record.value, baseline.outcomes, baseline.value
        )
    return row


def _protocol(record: Record) -> str:
    """Return the key without plan and `kv`: records that agree in it are compared.

    `kv` is left out because the baseline's cache is exact under every kind.
    """
    fields = record.model_dump(mode="json", exclude={*NOT_IN_KEY, "plan", "kv"})
    return json.dumps(fields, sort_keys=True)
