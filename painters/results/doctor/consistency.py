"""Whether the numbers of a record agree with one another, which a checksum cannot detect."""

from __future__ import annotations

import math

from painters.plan import Plan, PlanError
from painters.results import scoring
from painters.results.record import Record

__all__ = ["inconsistency"]


def inconsistency(record: Record) -> str | None:
    """Return why the numbers of `record` cannot all be right, or None.

    The plan must fit the model and have the stated cost; value and standard error must follow from the outcomes.
    """
    try:
        plan = Plan.parse(record.plan)
        plan.check(record.num_layers)
    except PlanError as error:
        return f"its plan is not valid ({str(error).splitlines()[0]})"
    if (plan.layer_runs, plan.depth) != (record.layer_runs, record.depth):
        return (
            f"its plan has {plan.layer_runs} layer runs and depth {plan.depth}, "
            f"the record {record.layer_runs} and {record.depth}"
        )
    if record.outcomes is None:
        return None
    value = scoring.value(record.aggregation, record.outcomes)
    if value is None or record.value is None:
        return None
    if not math.isclose(value, record.value, rel_tol=1e-6, abs_tol=1e-9):
        return f"its outcomes come to {value:g}, its value is {record.value:g}"
    stderr = scoring.stderr(record.aggregation, record.outcomes, record.value)
    if stderr is not None and record.stderr is not None and not math.isclose(stderr, record.stderr, rel_tol=1e-6):
        return f"its outcomes have the standard error {stderr:g}, the record {record.stderr:g}"
    return None
