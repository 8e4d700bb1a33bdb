"""Records: what a plan scored on a task, kept as one JSON object per line in files that only grow.

A record holds everything that can change its number, the outcome of every document, and what the number cost.
A number that could not be had is None, never 0.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from painters import scoring
from painters.errors import PaintersError
from painters.plan import Plan

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Record", "ResultsError", "append", "frame", "key", "read"]


class ResultsError(PaintersError, ValueError):
    """A file of records that cannot be read."""


class Record(BaseModel):
    """One metric of one scored cell: model, plan, task and protocol."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    plan: str
    variant: str | None = None  # the rule that made the plan, and its parameters, where they are known
    params: dict[str, int | float | str] | None = None

    model: str
    revision: str | None  # the commit on the hub
    weights: str | None  # a digest of the parameters: local folders and models in memory have no commit
    num_layers: int
    dtype: str
    device: str
    attention: str | None  # the implementation: sdpa, eager, ...
    kv: str

    task: str
    task_version: str | None
    documents: int = Field(ge=1)
    requests: str  # a digest of every prompt, continuation and answer in order
    shots: int = Field(ge=0)
    seed: int
    batch_size: int = Field(ge=1)

    metric: str
    aggregation: str
    higher_is_better: bool
    primary: bool  # whether this metric stands for its task
    value: float | None
    stderr: float | None
    outcomes: tuple[float, ...] | None  # by document, in the task's order
    chance: float | None
    not_finite: int = Field(ge=0)  # answers whose log-likelihood was infinite or not a number

    layer_runs: int
    depth: int
    seconds: float  # for all metrics of the cell together
    versions: dict[str, str]
    date: str  # UTC, ISO 8601

    @property
    def is_intact(self) -> bool:
        """Whether the plan is the model as it is."""
        return self.plan == str(Plan.identity(self.num_layers))


# What a number is, says or costs. Everything else can change it and belongs to its key, fields to come
# included.
_NOT_IN_KEY = frozenset(
    "variant params num_layers aggregation higher_is_better primary value stderr outcomes chance not_finite "
    "layer_runs depth seconds date".split()
)


def key(record: Record) -> str:
    """One text for all fields that can change the number; equal keys are the same cell and metric."""
    return json.dumps(record.model_dump(mode="json", exclude=set(_NOT_IN_KEY)), sort_keys=True)


def append(path: str | Path, records: Iterable[Record]) -> None:
    """Nothing; the records are at the end of `path` and on the disk when this returns.

    A last line that an interrupted writer left unfinished is cut off first. A file has one writer at a time.
    """
    path = Path(path)
    data = "".join(record.model_dump_json() + "\n" for record in records).encode()
    if not data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        _mend(file)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read(path: str | Path) -> list[Record]:
    """The records in `path` in order, without an unfinished last line. ResultsError names the lines that are
    wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise ResultsError(f"records of {path}: there is no such file. `painters run --out {path}` writes one")
    records, wrong = [], []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            records.append(Record.model_validate_json(line))
        except ValidationError as error:
            if number < len(lines) or not _is_torn(line):
                wrong.append(f"line {number}: {_reason(error)}")
    if wrong:
        more = f" and {len(wrong) - 5} more lines" if len(wrong) > 5 else ""
        raise ResultsError(
            f"records of {path}: {'; '.join(wrong[:5])}{more}. Only the last line of an interrupted run may "
            f"be broken: restore the file, or delete these lines and run again what they held"
        )
    return records


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row per record, compared with the intact model's record of the same protocol where `records` has
    one.

    Columns: plan, task, metric, primary, value, stderr, intact, difference, difference_stderr (paired by
    document), normalised (0 is chance, 1 the intact model), chance, documents, layer_runs, depth, seconds,
    kv, model, shots. A number that could not be had is NaN, as pandas has it.
    """
    import pandas as pd

    intact = {_protocol(record): record for record in records if record.is_intact}
    return pd.DataFrame([_row(record, intact.get(_protocol(record))) for record in records], columns=_COLUMNS).astype(
        dict.fromkeys(_NUMBERS, "float64")
    )


_NUMBERS = ("value", "stderr", "intact", "difference", "difference_stderr", "normalised", "chance", "seconds")
_COLUMNS = (
    "plan task metric primary value stderr intact difference difference_stderr normalised chance documents "
    "layer_runs depth seconds kv model shots"
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
    fields = record.model_dump(mode="json", exclude={*_NOT_IN_KEY, "plan", "kv"})
    return json.dumps(fields, sort_keys=True)


def _is_torn(line: bytes) -> bool:
    """Whether `line` is the beginning of an object and not the whole of one."""
    try:
        json.loads(line)
    except ValueError:
        return True
    return False


def _mend(file: Any) -> None:
    """Leave `file` ending in a whole line: finish one that only lacks its newline, cut off one that lacks
    more.
    """
    data = _last_line(file)
    if not data:
        return
    if _is_torn(data):
        file.truncate(file.seek(0, os.SEEK_END) - len(data))
    else:
        file.write(b"\n")


def _last_line(file: Any, block: int = 1 << 20) -> bytes:
    """What follows the last newline of `file`."""
    end = place = file.seek(0, os.SEEK_END)
    tail = b""
    while place and b"\n" not in tail:
        place = max(0, place - block)
        file.seek(place)
        tail = file.read(end - place)
    return tail.rpartition(b"\n")[2]


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])
