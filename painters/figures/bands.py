"""Estimates with 95 % bands, from draws of documents and of orders of shuffle.

A band of one score is its interval (`painters.results.intervals`). Everything that is computed from several scores has
a band from draws: the score of every plan is drawn from the distribution that has these intervals, and what is computed
from scores is computed in every draw.

A draw is Wilson's score limit at a random quantile in place of 1.96, so it is within the range of the metric, and the
2.5th and 97.5th percentile of the draws are Wilson's interval. The quantile of a plan sums random weights of documents.
All plans of a task share these weights, so that plans are compared on the same documents (paired). It also has a share
that is the plan's own and worth one document, so that two plans which agree on every document are not taken for equal.

The mean over orders of shuffle varies with the orders and with the documents, which all orders share. The variance that
is left in a document's score under an order counts once, with the orders. The share of the orders follows the t
distribution, because their variance is estimated from a few.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from painters.results.intervals import bounds, information, interval, score_limit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from painters.results import Record

    Samples = NDArray[np.float64]

SEED = 2407
DRAWS = 4000
"""An even number: draws come in pairs of opposite signs."""
MOST_BLOCKS = 2000
"""Largest number of documents of a task with random weights of their own; beyond, documents share them in blocks."""
STEP = 2.0**-10
"""Weights are multiples of it, so that their sums over right answers are exact: every machine draws the same."""

SHIFTS = 4
"""How many times the shift of the draws' median the band of a median is widened by."""
ROUNDING = 1e-12
"""Scores that differ by less are equal."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number, and its value in each draw: None where neither outcomes nor a standard error are known.

    Attributes:
        value: The number.
        samples: Its draws.
        limits: The band, where it is not that of the draws.
        is_over_orders: Whether the draws are of orders of shuffle, too.
    """

    value: float
    samples: Samples | None = None
    limits: tuple[float, float] | None = None
    is_over_orders: bool = False

    @cached_property
    def band(self) -> tuple[float, float] | None:
        """The limits, or the 2.5th and 97.5th percentile of the draws; None where they are not known.

        A draw that is not finite may be anything. It counts as smaller than all others for the lower limit, and as
        larger for the upper one.
        """
        if self.limits is not None or self.samples is None:
            return self.limits
        known, ends = np.isfinite(self.samples), (2.5, 97.5)
        with np.errstate(invalid="ignore"):
            low, high = (
                float(np.percentile(np.where(known, self.samples, unknown), end))
                for unknown, end in zip((-np.inf, np.inf), ends, strict=True)
            )
        return (low, high) if np.isfinite([low, high]).all() else None


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean over tasks, in every draw."""
    return estimates[0] if len(estimates) == 1 else _aggregated(estimates, np.mean)


def median(estimates: Sequence[Estimate]) -> Estimate:
    """Return the median over tasks, in every draw.

    Where the best tasks are about equal and the median is one of them, the observed median is too low, since it is the
    smallest of several: the median of the draws is lower again, by about as much. The same goes for the worst tasks.
    The band is widened to that side by four times this shift, which was chosen by simulation, and at most to the
    limits of a task.
    """
    joined = _aggregated(estimates, np.median)
    percentiles = joined.band
    if joined.samples is None or percentiles is None or len(estimates) == 1:
        return joined
    shift = SHIFTS * (float(np.nanmedian(joined.samples)) - joined.value)
    unknown = (-np.inf, np.inf)
    lows, highs = zip(*(estimate.band or unknown for estimate in estimates), strict=True)
    low = max(percentiles[0] - max(shift, 0.0), min(percentiles[0], *lows))
    high = min(percentiles[1] - min(shift, 0.0), max(percentiles[1], *highs))
    return replace(joined, limits=(low, high))


def draw_mean(
    outcomes: Samples,
    weights: Samples,
    own: Samples,
    orders: Samples | None = None,
    limits: tuple[float, float] | None = (0.0, 1.0),
) -> Samples:
    """Draw the mean of outcomes over documents and orders.

    Args:
        outcomes: `[..., orders, documents]`. All orders have the same documents.
        weights: Random weights of documents, or of blocks of them, `[draws / 2, blocks]`.
        own: Random numbers of the plan alone, `[draws]`.
        orders: Random weights of the orders, `[orders, draws]`; None for one order.
        limits: The smallest and largest outcome that there can be; None where it is not known.

    Returns:
        The draws, `[..., draws]`.
    """
    count, documents = outcomes.shape[-2:]
    by_document = outcomes.sum(-2)
    value = by_document.sum(-1) / (count * documents)
    spread = ((by_document**2).sum(-1) / (count * count * documents) - value**2).clip(0) / documents
    shared = _weighted(by_document, weights) / (count * documents)
    # The plan's own share is worth one document that only this plan answers correctly, or only this one does not.
    reach = np.sqrt(spread * documents) if limits is None else np.full_like(spread, limits[1] - limits[0])
    least = (reach / documents)[..., None]
    total = np.sqrt(spread[..., None] + least**2)
    noise = (shared + least * own) / np.where(total > 0, total, 1.0)
    if orders is None:
        return _drawn(value, spread, noise, documents, limits)
    by_order = outcomes.sum(-1) / documents
    kept, between = _crossed(outcomes, by_order, spread)
    deviation = np.sqrt(kept)[..., None] * noise
    for number, weight in enumerate(orders):
        deviation += (by_order[..., number] - value)[..., None] * weight
    spread = kept + between
    known = (spread > 0)[..., None]
    quantiles = np.where(known, deviation / np.sqrt(np.where(known, spread[..., None], 1.0)), noise)
    return _drawn(value, spread, quantiles, documents, limits)


def _crossed(outcomes: Samples, by_order: Samples, spread: Samples) -> tuple[Samples, Samples]:
    """Return the variance of the mean that is due to documents under all orders, and that due to orders.

    `spread` is the variance over documents of their means. What documents vary by under one order alone is in it, and
    in the variance over orders too; it is taken out of the former.
    """
    count, documents = outcomes.shape[-2:]
    value = by_order.mean(-1)
    order_squares = ((by_order - value[..., None]) ** 2).sum(-1)
    squares = ((outcomes - value[..., None, None]) ** 2).sum((-1, -2))
    rest = (squares - documents * order_squares - count * documents**2 * spread).clip(0)
    rest /= (count - 1) * max(documents - 1, 1) * count * documents
    return (spread - rest).clip(0), order_squares / (count - 1) / count


class Draws:
    """Estimates of records; the random weights of a task's documents are made once."""

    def __init__(self) -> None:
        self._weights: dict[tuple[str, int], Samples] = {}

    def estimate(self, record: Record) -> Estimate:
        """Return the value of `record` with its draws. Raises ValueError for a record without a value."""
        if record.value is None:
            raise ValueError(f"{record.plan} on {record.task}: no value to estimate")
        if record.outcomes is not None and record.aggregation == "mean":
            samples = draw_mean(
                np.array([record.outcomes]), self._documents(record), _own(record), limits=_bounds([record])
            )
        elif record.stderr is not None:
            # A metric that is no mean over documents cannot be paired: each plan gets noise of its own.
            spread = np.array(record.stderr**2)
            samples = _drawn(np.array(record.value), spread, _own(record), record.documents, _bounds([record]))
        else:
            return Estimate(record.value)
        return Estimate(record.value, samples, interval(record))

    def over_orders(self, records: Mapping[int, Record], number: int) -> Estimate:
        """Return the mean over orders of shuffle, whose draws are of orders too.

        Calls with the same `number` share the random weights of the orders, so that tasks stay paired.

        Args:
            records: The record of each seed, two or more, all of one task.
            number: The number of the window.

        Returns:
            The estimate.
        """
        several = list(records.values())
        values = np.array([record.value for record in several], dtype=np.float64)
        orders = order_noise(list(records), number)
        limits, value = _bounds(several), float(values.mean())
        if all(record.outcomes is not None and record.aggregation == "mean" for record in several):
            outcomes = np.array([record.outcomes for record in several], dtype=np.float64)
            samples = draw_mean(outcomes, self._documents(several[0]), _own(several[0]), orders, limits)
        elif all(record.stderr is not None for record in several):
            # How much of the documents' noise the orders share is not known: all of it, to be safe.
            error = float(np.mean([record.stderr for record in several]))
            quantiles = error * _own(several[0])
            for one, weight in zip(values, orders, strict=True):
                quantiles += (one - value) * weight
            spread = np.array(error**2 + values.var(ddof=1) / len(values))
            quantiles /= np.sqrt(spread or 1.0)
            samples = _drawn(np.array(value), spread, quantiles, several[0].documents, limits)
        else:
            return Estimate(value)
        return Estimate(value, samples, is_over_orders=True)

    def _documents(self, record: Record) -> Samples:
        """Return the random weights of the documents of the record's task."""
        key = record.task, min(record.documents, MOST_BLOCKS)
        if key not in self._weights:
            self._weights[key] = _normal([zlib.crc32(record.task.encode())], key[1])
        return self._weights[key]


def _own(record: Record) -> Samples:
    """Return random numbers that only this plan has, `[draws]`."""
    name = f"{record.model} {record.task} {record.plan} {record.kv} {record.tuning}"
    return _paired(_normal([zlib.crc32(name.encode())], 1)[:, 0])


def _drawn(
    value: Samples, spread: Samples, quantiles: Samples, documents: int, limits: tuple[float, float] | None
) -> Samples:
    """Return draws `[..., draws]` around values `[...]` of these variances, as many standard errors away."""
    if limits is None:
        return value[..., None] + quantiles * np.sqrt(spread)[..., None]
    low, width = limits[0], limits[1] - limits[0]
    share = (value - low) / width
    worth = information(share, spread / width**2, documents)
    drawn = score_limit(share[..., None], worth[..., None], quantiles)
    return low + width * drawn.clip(0.0, 1.0)  # beyond them by rounding only


def _weighted(by_document: Samples, weights: Samples) -> Samples:
    """Return the sum of the deviations from their mean, weighted at random, `[..., draws]`.

    Documents beyond the number of weights share them, document i with document i + `MOST_BLOCKS`.
    """
    documents, blocks = by_document.shape[-1], weights.shape[-1]
    mean = by_document.sum(-1, keepdims=True) / documents
    sums, sizes = _in_blocks(by_document, blocks), _in_blocks(np.ones(documents), blocks)
    deviation = sums @ weights.T - mean * (weights @ sizes)
    if documents > blocks:
        apart = ((by_document - mean) ** 2).sum(-1, keepdims=True)
        joined = ((sums - mean * sizes) ** 2).sum(-1, keepdims=True)
        deviation *= np.sqrt(np.divide(apart, joined, out=np.zeros_like(apart), where=joined > 0))
    return _paired(deviation)


def _in_blocks(values: Samples, blocks: int) -> Samples:
    """Return the sums of every `blocks`-th of the values, `[..., blocks]`."""
    rows = -(-values.shape[-1] // blocks)
    padding = [(0, 0)] * (values.ndim - 1) + [(0, rows * blocks - values.shape[-1])]
    sums: Samples = np.pad(values, padding).reshape(*values.shape[:-1], rows, blocks).sum(-2)
    return sums


def _paired(draws: Samples) -> Samples:
    """Return the draws, and after them the same with the opposite signs."""
    return np.concatenate([draws, -draws], axis=-1)


def _normal(key: Sequence[int], columns: int) -> Samples:
    """Return normal random numbers `[draws / 2, columns]`, always the same ones for one key."""
    numbers = np.random.default_rng([SEED, *key]).standard_normal((DRAWS // 2, columns))
    return np.round(numbers / STEP) * STEP


def order_noise(seeds: Sequence[int], number: int) -> Samples:
    """Return the weights of orders, `[orders, draws]`: the weighted sum of what was drawn has the t distribution.

    More exactly, the sum over orders of the weight times the deviation from their mean is the standard error of the
    mean times a number with the t distribution.

    Args:
        seeds: The seeds of the orders.
        number: The number of the window; each has random numbers of its own.

    Returns:
        The weights.
    """
    count = len(seeds)
    normal = np.concatenate([_normal([number, seed], 1) for seed in seeds], axis=1).T
    squares = np.random.default_rng([SEED, number, count]).chisquare(count - 1, DRAWS // 2)
    return _paired(normal / np.sqrt(squares * count))


def _bounds(records: Sequence[Record]) -> tuple[float, float] | None:
    """Return the range of all the records; None where it is not known for one of them."""
    ranges = [bounds(r.metric, r.aggregation, r.value or 0.0, r.outcomes) for r in records]
    known = [limits for limits in ranges if limits]
    return (min(low for low, _ in known), max(high for _, high in known)) if len(known) == len(ranges) else None


def _aggregated(estimates: Sequence[Estimate], aggregate: Any) -> Estimate:
    """Apply `aggregate` (np.mean or np.median) to the values, and to each draw."""
    value = float(aggregate([estimate.value for estimate in estimates]))
    known = [estimate.samples for estimate in estimates if estimate.samples is not None]
    if len(known) < len(estimates):
        return Estimate(value)
    with np.errstate(invalid="ignore"):  # infinite draws
        samples = aggregate(np.stack(known), axis=0)
    return Estimate(value, samples, is_over_orders=any(estimate.is_over_orders for estimate in estimates))
