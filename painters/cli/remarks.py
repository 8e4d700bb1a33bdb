"""What stands under a table of scores: where a number is missing, and where documents are too few for a difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from painters.results import Record, scoring

MARK = "*"
REACH = "float16 ends at 65,504: bfloat16 and float32 reach further"


def not_finite(records: Sequence[Record]) -> Iterator[str]:
    """Yield a line for each plan and task without a value, with the number of answers that are not finite."""
    marked = {(record.plan, record.task): record for record in records if record.not_finite}
    for record in marked.values():
        whose = "the intact model" if record.is_intact else record.plan
        answers = "answer is" if record.not_finite == 1 else "answers are"
        yield (
            f"{MARK} {record.task} under {whose}: {record.not_finite:,} {answers} not finite (NaN or infinite), so "
            f"there is no value" + (f". {REACH}" if record.dtype == "float16" else "")
        )


class _Comparison(NamedTuple):
    """A record and the intact model's, compared document by document."""

    outcomes: tuple[tuple[float, ...], tuple[float, ...]]  # of the record and of the intact model
    discordant: int | None  # documents that one of the two answers correctly and the other does not
    too_few: str | None  # why the documents are too few to show a difference


def comparison(record: Record, intact: Record | None) -> dict[str, Any]:
    """Return the 95 % interval of a difference, its discordant documents, and why they are too few.

    What cannot be computed is None. The intact model does not differ from itself: its interval is 0 to 0.

    Args:
        record: A plan's record.
        intact: The intact model's record of the same task and metric; None where there is none.
    """
    compared = _compare(record, intact)
    if compared is None:
        return {"interval": None, "documents_apart": None, "too_few": None}
    same = intact is not None and record.plan == intact.plan
    interval = (0.0, 0.0) if same else scoring.paired_interval(*compared.outcomes, record.aggregation)
    return {"interval": interval, "documents_apart": compared.discordant, "too_few": compared.too_few}


def too_few(records: Sequence[Record]) -> Iterator[str]:
    """Yield a line for each metric whose documents are too few to show a difference from the intact model."""
    intact = {(record.task, record.metric): record for record in records if record.is_intact}
    for record in records:
        base = intact.get((record.task, record.metric))
        if base is not record and (compared := _compare(record, base)) and compared.too_few:
            yield f"  {record.task} {record.metric}: {compared.too_few}"


def _compare(record: Record, intact: Record | None) -> _Comparison | None:
    """Compare two records; None where one of them has no value, or no outcomes by document."""
    if intact is None or record.value is None or intact.value is None:
        return None
    if record.outcomes is None or intact.outcomes is None:
        return None
    outcomes = record.outcomes, intact.outcomes
    error = scoring.difference_stderr(record.aggregation, outcomes[0], record.value, outcomes[1], intact.value)
    discordant = scoring.discordant(*outcomes) if record.aggregation == "mean" else None
    reason = scoring.too_few(record.value - intact.value, error, record.documents, discordant)
    return _Comparison(outcomes, discordant, reason)
