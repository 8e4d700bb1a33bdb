"""What stands under a table of scores: where there is no number, and where documents are too few for a difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from painters.results import Record, scoring

MARK = "*"
REACH = "float16 ends at 65,504: bfloat16 and float32 reach further"


def not_finite(records: Sequence[Record]) -> Iterator[str]:
    """For each plan and task without a value, how many answers are not finite."""
    counts = {(record.plan, record.task): record for record in records if record.not_finite}
    for record in counts.values():
        whose = "the intact model" if record.is_intact else record.plan
        answers = "answer is" if record.not_finite == 1 else "answers are"
        yield (
            f"{MARK} {record.task} under {whose}: {record.not_finite:,} {answers} not finite (NaN or infinite), so "
            f"there is no value" + (f". {REACH}" if record.dtype == "float16" else "")
        )


class _Beside(NamedTuple):
    """A record beside the intact model's."""

    outcomes: tuple[tuple[float, ...], tuple[float, ...]]  # of both by document
    apart: int | None  # how many documents are discordant
    too_few: str | None  # why documents are too few


def comparison(record: Record, intact: Record | None) -> dict[str, Any]:
    """The bootstrap interval of the difference, the discordant documents, and why they are too few, or None each."""
    both = _beside(record, intact)
    if both is None:
        return {"interval": None, "documents_apart": None, "too_few": None}
    interval = scoring.paired_interval(*both.outcomes, record.aggregation)
    return {"interval": interval, "documents_apart": both.apart, "too_few": both.too_few}


def too_few(records: Sequence[Record]) -> Iterator[str]:
    """For each metric of a plan, why its documents are too few for the difference from the intact model."""
    intact = {(record.task, record.metric): record for record in records if record.is_intact}
    for record in records:
        other = intact.get((record.task, record.metric))
        if other is not record and (both := _beside(record, other)) and both.too_few:
            yield f"  {record.task} {record.metric}: {both.too_few}"


def _beside(record: Record, intact: Record | None) -> _Beside | None:
    """None where one of the two has no value, or no outcomes by document."""
    if intact is None or record.value is None or intact.value is None:
        return None
    if record.outcomes is None or intact.outcomes is None:
        return None
    both = record.outcomes, intact.outcomes
    error = scoring.difference_stderr(record.aggregation, both[0], record.value, both[1], intact.value)
    apart = scoring.discordant(*both) if record.aggregation == "mean" else None
    return _Beside(both, apart, scoring.too_few(record.value - intact.value, error, record.documents, apart))
