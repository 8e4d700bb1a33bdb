"""Estimates with their bands: 95 % percentile bootstraps over documents.

One draw of documents serves every plan of a task, the intact model's too, so that what is compared is compared on the
same documents.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from painters.results import Record

    Samples = NDArray[np.float64]

SEED = 2407
DRAWS = 1000
MOST_KEPT = 20_000
"""Documents of a task whose draws are kept for the next plan; of more they are drawn again each time."""
MOST_AT_ONCE = 20_000_000
"""Documents in the draws that are in memory together."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number and its value in each draw; None where neither outcomes nor a standard error are known."""

    value: float
    samples: Samples | None = None

    @cached_property
    def band(self) -> tuple[float, float] | None:
        """What 95 % of the draws lie between; None where there are none or one of them is not defined."""
        if self.samples is None or not np.isfinite(self.samples).all():
            return None
        low, high = np.percentile(self.samples, [2.5, 97.5])
        return float(low), float(high)

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference, draw by draw."""
        known = self.samples is not None and other.samples is not None
        return Estimate(self.value - other.value, self.samples - other.samples if known else None)  # type: ignore[operator]

    def shifted(self, by: float) -> Estimate:
        return Estimate(self.value + by, None if self.samples is None else self.samples + by)


def median(estimates: Sequence[Estimate]) -> Estimate:
    """The median over tasks, in every draw."""
    return _joined(estimates, np.median)


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """The mean over tasks, in every draw."""
    return _joined(estimates, np.mean)


def over_seeds(estimates: Sequence[Estimate], number: int) -> Estimate:
    """The mean of what several seeds scored; each draw draws seeds too, the same for all tasks of one `number`."""
    joined = mean(estimates)
    stack = _stacked(estimates)
    if stack is None or len(estimates) == 1:
        return joined
    picks = np.random.default_rng([SEED, number]).integers(0, len(stack), stack.shape)
    with np.errstate(invalid="ignore"):
        return Estimate(joined.value, np.take_along_axis(stack, picks, axis=0).mean(axis=0))


class Bootstrap:
    """Draws of documents, made once for each task."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], Samples] = {}

    def estimate(self, record: Record) -> Estimate:
        """The value of `record` with its draws. Raises ValueError for a record without a value."""
        if record.value is None:
            raise ValueError(f"{record.plan} on {record.task}: no value to estimate")
        if record.outcomes is not None and record.aggregation == "mean":
            # Whole counts times outcomes of 0 and 1 are exact, so every machine has the same draws.
            return Estimate(record.value, self._means(record, np.array(record.outcomes)))
        if record.stderr is None:
            return Estimate(record.value)
        # What is no mean over documents cannot be paired: plans vary apart.
        name = f"{record.model} {record.task} {record.plan} {record.kv} {record.tuning}"
        noise = np.random.default_rng([SEED, zlib.crc32(name.encode())]).standard_normal(DRAWS)
        return Estimate(record.value, record.value + record.stderr * noise)

    def _means(self, record: Record, outcomes: Samples) -> Samples:
        """The mean of the outcomes in each draw."""
        documents = len(outcomes)
        if documents <= MOST_KEPT:
            return self._drawn(record) @ outcomes / documents
        random = np.random.default_rng([SEED, zlib.crc32(record.task.encode())])
        rows = max(1, MOST_AT_ONCE // documents)
        sizes = [min(rows, DRAWS - done) for done in range(0, DRAWS, rows)]
        return np.concatenate([outcomes[random.integers(0, documents, (size, documents))].mean(1) for size in sizes])

    def _drawn(self, record: Record) -> Samples:
        """How often each draw has each document, [draws, documents]."""
        task, documents = record.task, record.documents
        if (task, documents) not in self._counts:
            random = np.random.default_rng([SEED, zlib.crc32(task.encode())])
            chosen = random.integers(0, documents, (DRAWS, documents)) + documents * np.arange(DRAWS)[:, None]
            counts = np.bincount(chosen.ravel(), minlength=DRAWS * documents)
            self._counts[task, documents] = counts.reshape(DRAWS, documents).astype(np.float64)
        return self._counts[task, documents]


def _joined(estimates: Sequence[Estimate], how: Any) -> Estimate:
    stack = _stacked(estimates)
    value = float(how([estimate.value for estimate in estimates]))
    with np.errstate(invalid="ignore"):  # draws in which the intact model scores chance are infinite on both sides
        return Estimate(value, None if stack is None else how(stack, axis=0))


def _stacked(estimates: Sequence[Estimate]) -> Samples | None:
    """[estimates, draws]; None where one has no draws."""
    known = [estimate.samples for estimate in estimates if estimate.samples is not None]
    return np.stack(known) if len(known) == len(estimates) else None
