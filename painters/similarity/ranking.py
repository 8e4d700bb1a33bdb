"""The steps of a plan ranked by how little they change the hidden states, from a record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from painters.plan import Plan

if TYPE_CHECKING:
    from painters.results.similarity_record import SimilarityRecord

__all__ = ["least_influential", "least_turned"]


def least_influential(record: SimilarityRecord) -> list[str]:
    """Return the steps of a record by their block influence (ShortGPT), the least influential first.

    Args:
        record: One measurement; its mode does not matter.

    Returns:
        The labels of the steps. Equally influential ones stay in the order of the plan, and a step whose influence is
        not finite is left out.

    Examples:
        >>> from painters.similarity import measure
        >>> [record] = measure("nano-llama", "nano_lambada", modes=["token"], limit=2)
        >>> least_influential(record)[:3]
        ['5', '4', '3']
    """
    influence = record.table()["influence"]
    return list(influence.iloc[1:].dropna().sort_values(kind="stable").index)


def least_turned(record: SimilarityRecord, size: int = 1) -> tuple[Plan, float] | None:
    """Return the block of steps with the smallest angle between the states before and after it.

    Args:
        record: One measurement; its mode does not matter.
        size: The number of consecutive steps in a block.

    Returns:
        The block as a plan, and its angle as a fraction of a half turn, from 0 to 1; None where no angle is finite.

    Raises:
        SimilarityError: `size` is more than the steps of the plan.

    Examples:
        >>> from painters.similarity import measure
        >>> [record] = measure("nano-llama", "nano_lambada", modes=["token"], limit=2)
        >>> block, angle = least_turned(record, size=2)
        >>> str(block), round(angle, 3)
        ('2-3', 0.082)
    """
    angles = record.angle(size)
    finite = angles.dropna()
    if finite.empty:
        return None
    first = list(angles.index).index(finite.idxmin())
    return Plan(Plan.parse(record.plan).steps[first : first + size]), float(finite.min())
