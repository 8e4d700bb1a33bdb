"""95 % intervals of scores, which stay within the range of their metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from painters.results.record import Record
from painters.results.shares import is_share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Number = TypeVar("Number", float, NDArray[np.float64])

__all__ = ["Z", "bounds", "information", "interval", "score_limit", "variance"]

Z = 1.959963984540054
"""The 97.5th percentile of the normal distribution."""

_CORRELATIONS = {"mcc", "matthews", "pearson", "spearman", "combined"}


def bounds(metric: str, aggregation: str, value: float, outcomes: Sequence[float] | None) -> tuple[float, float] | None:
    """Return the smallest and the largest value that a metric can have.

    Args:
        metric: The metric's name.
        aggregation: How outcomes become the value.
        value: The metric's value.
        outcomes: One per document, where they are known.

    Returns:
        (0, 1) for shares of documents, (-1, 1) for correlations, None where the range is not known.

    Examples:
        >>> bounds("acc", "mean", 0.5, [0, 1]), bounds("pearson", "pearson", 0.5, None)
        ((0.0, 1.0), (-1.0, 1.0))
        >>> print(bounds("word_perplexity", "perplexity", 12.0, [-2.0, -3.0]))
        None
    """
    if aggregation == "mean" and outcomes is not None and all(outcome in (0, 1) for outcome in outcomes):
        return 0.0, 1.0
    if not is_share(metric, aggregation, [value, *(outcomes or ())]):
        return None
    words = set(metric.split(",")[0].lower().replace("-", "_").split("_"))
    correlated = words & _CORRELATIONS or min([value, *(outcomes or ())]) < 0
    return (-1.0, 1.0) if correlated else (0.0, 1.0)


def variance(outcomes: Sequence[float]) -> float:
    """Return the variance of the mean of outcomes.

    It is that of the sample, with n in place of n - 1, so that n outcomes of 0 and 1 have the variance p (1 - p) / n.

    Args:
        outcomes: One per document.

    Returns:
        The variance.

    Examples:
        >>> variance([0, 1, 1, 0])
        0.0625
    """
    mean = math.fsum(outcomes) / len(outcomes)
    return math.fsum((outcome - mean) ** 2 for outcome in outcomes) / len(outcomes) ** 2


def information(
    share: float | NDArray[np.float64], variance: float | NDArray[np.float64], documents: int
) -> NDArray[np.float64]:
    """Return how many right or wrong answers would tell as much as was measured.

    Args:
        share: The score, between 0 and 1; a number or an array, like the variance.
        variance: Its variance.
        documents: How many documents it was measured on. They count where the score does not vary.

    Returns:
        share (1 - share) / variance.

    Examples:
        >>> float(information(0.5, 0.0025, documents=80)), float(information(1.0, 0.0, documents=80))
        (100.0, 80.0)
    """
    import numpy as np

    known = np.logical_and(variance > 1e-15, np.logical_and(share > 0, share < 1))
    worth = np.where(known, share * (1 - share) / np.where(known, variance, 1.0), float(documents))
    return np.asarray(worth, dtype=np.float64)


def score_limit(share: Number, documents: Number | float, quantile: Number | float) -> Number:
    """Return the limit of Wilson's score interval: the proportion that lies `quantile` standard errors from `share`.

    It is always between 0 and 1, grows with the quantile, and is `share` itself at quantile 0.

    Args:
        share: The observed proportion; a number or an array, like the other arguments.
        documents: How many documents it was observed on.
        quantile: A quantile of the normal distribution or of another one around 0, negative for lower limits.

    Returns:
        The limit.

    Examples:
        >>> round(score_limit(1.0, 100, -Z), 3), score_limit(1.0, 100, Z)
        (0.963, 1.0)
    """
    square = quantile * quantile
    reach = quantile * (share * (1 - share) / documents + square / (4 * documents * documents)) ** 0.5
    limit: Number = (share + square / (2 * documents) + reach) / (1 + square / documents)
    return limit


def interval(record: Record) -> tuple[float, float] | None:
    """Return the 95 % interval of a score over documents.

    For a share of documents it is Wilson's, so that 100 of 100 gives 96.3 to 100 % and not ± 0. Scores of other metrics
    with a known range are treated alike, with the documents that their variance is worth. A perplexity has the t
    interval of its logarithm, and a mean without a known range the t interval.

    Args:
        record: The record.

    Returns:
        The limits; None where the record has no value, or nothing is known of its spread.

    Examples:
        >>> from painters.harness import score
        >>> from painters.models import load_model
        >>> records = score(*load_model("nano-llama"), "0-11", "nano_lambada", limit=20)
        >>> record = next(record for record in records if record.metric == "acc")
        >>> low, high = interval(record)
        >>> 0 <= low <= record.value <= high <= 1
        True
    """
    value, outcomes = record.value, record.outcomes
    if value is None or (outcomes is None and record.stderr is None):
        return None
    if outcomes is not None and record.aggregation == "perplexity":
        limits = _t_interval([-outcome for outcome in outcomes])
        try:
            return limits and (math.exp(limits[0]), math.exp(limits[1]))
        except OverflowError:
            return None
    if outcomes is not None and record.aggregation != "mean":
        outcomes = None
        if record.stderr is None:
            return None
    known = bounds(record.metric, record.aggregation, value, outcomes)
    if known is None:
        return _t_interval(outcomes) if outcomes is not None else _around(value, record.stderr)
    low, width = known[0], known[1] - known[0]
    spread = variance(outcomes) if outcomes is not None else (record.stderr or 0.0) ** 2
    share = (value - low) / width
    documents = float(information(share, spread / width**2, record.documents))
    lower, upper = (score_limit(share, documents, quantile) for quantile in (-Z, Z))
    # Exactly at the end of the range, not next to it by rounding.
    return low + width * (lower if share > 0 else 0.0), low + width * (upper if share < 1 else 1.0)


def _t_interval(outcomes: Sequence[float]) -> tuple[float, float] | None:
    """Return the t interval of the mean; None where all outcomes are equal, so that their spread is not known."""
    from scipy.special import stdtrit

    count, spread = len(outcomes), variance(outcomes)
    if count < 2 or spread == 0:
        return None
    mean = math.fsum(outcomes) / count
    reach = float(stdtrit(count - 1, 0.975)) * math.sqrt(spread * count / (count - 1))
    return mean - reach, mean + reach


def _around(value: float, error: float | None) -> tuple[float, float] | None:
    """Return the interval of two standard errors; None without a standard error."""
    return (value - Z * error, value + Z * error) if error else None
