"""Estimates with 95 % bands: percentile bootstraps over documents.

All plans of a task, the intact model's included, share the same draws of documents. So plans are compared on the same
documents (paired).
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
"""Largest number of documents of a task for which its draws are kept for the next plan; beyond, they are redrawn."""
MOST_AT_ONCE = 20_000_000
"""Largest number of drawn documents in memory at once."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number, and its value in each draw: None where neither outcomes nor a standard error are known."""

    value: float
    samples: Samples | None = None

    @cached_property
    def band(self) -> tuple[float, float] | None:
        """The 2.5th and 97.5th percentile of the draws; None without draws, or where one of them is not finite."""
        if self.samples is None or not np.isfinite(self.samples).all():
            return None
        low, high = np.percentile(self.samples, [2.5, 97.5])
        return float(low), float(high)

    def __sub__(self, other: Estimate) -> Estimate:
        """Return the difference, draw by draw."""
        known = self.samples is not None and other.samples is not None
        return Estimate(self.value - other.value, self.samples - other.samples if known else None)  # type: ignore[operator]

    def shifted(self, by: float) -> Estimate:
        """Return the estimate with `by` added to its value and to every draw."""
        return Estimate(self.value + by, None if self.samples is None else self.samples + by)


def median(estimates: Sequence[Estimate]) -> Estimate:
    """Return the median over tasks, in every draw."""
    return _aggregated(estimates, np.median)


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean over tasks, in every draw."""
    return _aggregated(estimates, np.mean)


def over_seeds(estimates: Sequence[Estimate], number: int) -> Estimate:
    """Return the mean over seeds; each draw also draws seeds, with replacement.

    All calls with the same `number` draw the same seeds, so that tasks stay paired.
    """
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
        """Return the value of `record` with its draws. Raises ValueError for a record without a value."""
        if record.value is None:
            raise ValueError(f"{record.plan} on {record.task}: no value to estimate")
        if record.outcomes is not None and record.aggregation == "mean":
            # Integer counts times outcomes of 0 and 1 are exact, so that every machine computes the same draws.
            return Estimate(record.value, self._means(record, np.array(record.outcomes)))
        if record.stderr is None:
            return Estimate(record.value)
        # A metric that is no mean over documents cannot be paired: each plan gets noise of its own.
        name = f"{record.model} {record.task} {record.plan} {record.kv} {record.tuning}"
        noise = np.random.default_rng([SEED, zlib.crc32(name.encode())]).standard_normal(DRAWS)
        return Estimate(record.value, record.value + record.stderr * noise)

    def _means(self, record: Record, outcomes: Samples) -> Samples:
        """Return the mean of the outcomes in each draw, `[draws]`."""
        documents = len(outcomes)
        if documents <= MOST_KEPT:
            return self._document_counts(record) @ outcomes / documents
        random = np.random.default_rng([SEED, zlib.crc32(record.task.encode())])
        rows = max(1, MOST_AT_ONCE // documents)
        sizes = [min(rows, DRAWS - done) for done in range(0, DRAWS, rows)]
        return np.concatenate([outcomes[random.integers(0, documents, (size, documents))].mean(1) for size in sizes])

    def _document_counts(self, record: Record) -> Samples:
        """Return how often each draw holds each document, `[draws, documents]`."""
        task, documents = record.task, record.documents
        if (task, documents) not in self._counts:
            random = np.random.default_rng([SEED, zlib.crc32(task.encode())])
            chosen = random.integers(0, documents, (DRAWS, documents)) + documents * np.arange(DRAWS)[:, None]
            counts = np.bincount(chosen.ravel(), minlength=DRAWS * documents)
            self._counts[task, documents] = counts.reshape(DRAWS, documents).astype(np.float64)
        return self._counts[task, documents]


def _aggregated(estimates: Sequence[Estimate], aggregate: Any) -> Estimate:
    """Apply `aggregate` (np.mean or np.median) to the values, and to each draw."""
    stack = _stacked(estimates)
    value = float(aggregate([estimate.value for estimate in estimates]))
    with np.errstate(
        invalid="ignore"
    ):  # where the intact model scores chance in a draw, normalised scores are infinite
        return Estimate(value, None if stack is None else aggregate(stack, axis=0))


def _stacked(estimates: Sequence[Estimate]) -> Samples | None:
    """Return the draws as `[estimates, draws]`; None where one of the estimates has no draws."""
    known = [estimate.samples for estimate in estimates if estimate.samples is not None]
    return np.stack(known) if len(known) == len(estimates) else None
