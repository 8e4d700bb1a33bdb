"""Numbers from per-document outcomes: standard errors, paired differences, chance and normalised values.

An *outcome* is what one document contributed to a metric: 0 or 1 for accuracies, the log-likelihood for
perplexity. How outcomes become the metric's value is its *aggregation*; lm-eval's names are used. Where a
number cannot be had, it is None: never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["difference_stderr", "is_scored_by_documents", "normalised", "primary", "stderr", "value"]

# The metric that stands for a task where one number has to. The paper does not say which of acc and acc_norm
# it plots; acc is the one that all multiple-choice tasks and LAMBADA have.
_PRIMARY = ("acc", "exact_match")


def primary(metrics: Sequence[str]) -> str:
    """The metric that stands for a task with these `metrics`: acc, else exact_match, else the first."""
    if not metrics:
        raise ValueError("a task without metrics has no primary one")
    for name in _PRIMARY:
        for metric in metrics:
            if metric.split(",")[0] == name:
                return metric
    return metrics[0]


def is_scored_by_documents(aggregation: str) -> bool:
    """Whether a value under `aggregation` has a standard error that follows from its outcomes."""
    return aggregation in _SHARES


def value(aggregation: str, outcomes: Sequence[float]) -> float | None:
    """The value that `outcomes` come to; None under an unknown aggregation, of none, and beyond all numbers."""
    if aggregation not in _SHARES or not outcomes:
        return None
    mean = sum(outcomes) / len(outcomes)
    if aggregation == "mean":
        return mean
    try:
        return math.exp(-mean)
    except OverflowError:
        return None


def stderr(aggregation: str, outcomes: Sequence[float], value: float) -> float | None:
    """The standard error of `value`; None under an unknown aggregation and for fewer than two documents.

    For a mean it is s / sqrt(n) with the sample standard deviation s, which for accuracies is sqrt(p (1 - p)
    / (n - 1)): lm-eval's closed form. For perplexity, exp(-mean of log-likelihoods), it is the first-order
    (delta-method) value: perplexity times the standard error of the mean log-likelihood. lm-eval bootstraps
    that one.
    """
    share = _SHARES.get(aggregation)
    return None if share is None else _stderr_of_mean([share(outcome, value) for outcome in outcomes])


def difference_stderr(
    aggregation: str, outcomes: Sequence[float], value: float, others: Sequence[float], other_value: float
) -> float | None:
    """The standard error of `value - other_value` when both were scored on the same documents in order.

    The difference is taken document by document, so what makes a document hard for both cancels.
    """
    if len(outcomes) != len(others):
        raise ValueError(
            f"paired difference of {len(outcomes)} and {len(others)} documents: score both on the same ones"
        )
    share = _SHARES.get(aggregation)
    if share is None:
        return None
    pairs = zip(outcomes, others, strict=True)
    return _stderr_of_mean([share(one, value) - share(other, other_value) for one, other in pairs])


def normalised(value: float, intact: float, chance: float | None) -> float | None:
    """The paper's scale: 0 is guessing, 1 is the intact model. None where the intact model is no better than
    chance.
    """
    if chance is None or intact <= chance:
        return None
    return (value - chance) / (intact - chance)


def _mean_share(outcome: float, value: float) -> float:
    return outcome


def _perplexity_share(outcome: float, value: float) -> float:
    return -value * outcome


# aggregation -> what a document's outcome adds, to first order, to the value (up to a constant)
_SHARES = {"mean": _mean_share, "perplexity": _perplexity_share}


def _stderr_of_mean(shares: Sequence[float]) -> float | None:
    n = len(shares)
    if n < 2:
        return None
    mean = sum(shares) / n
    return math.sqrt(sum((share - mean) ** 2 for share in shares) / (n - 1)) / math.sqrt(n)
