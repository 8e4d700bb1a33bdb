"""Numbers from per-document outcomes: standard errors, paired differences, chance and normalised values.

An *outcome* is what one document contributed to a metric: 0 or 1 for accuracies, the log-likelihood for
perplexity. How outcomes become the metric's value is its *aggregation*; lm-eval's names are used. Where a
number cannot be had, it is None: never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = [
    "BOOTSTRAP_SEED",
    "DRAWS",
    "FEW",
    "FEW_APART",
    "difference_stderr",
    "discordant",
    "documents_needed",
    "is_scored_by_documents",
    "normalised",
    "paired_interval",
    "primary",
    "stderr",
    "too_few",
    "value",
]

BOOTSTRAP_SEED = 2407
DRAWS = 10_000
FEW = 30  # documents under which standard errors and intervals are rough
FEW_APART = 10  # documents that tell two plans apart, under which a test can hardly find anything
ERRORS = 2.0  # standard errors that a difference has to be away from zero

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


def paired_interval(
    outcomes: Sequence[float],
    others: Sequence[float],
    aggregation: str = "mean",
    *,
    draws: int = DRAWS,
    seed: int = BOOTSTRAP_SEED,
) -> tuple[float, float] | None:
    """What 95 % of the differences of the two values lie between when documents are drawn again and again, the same
    ones for both: a percentile bootstrap, always the same one for one `seed`.

    None under an aggregation without outcomes by document, and for fewer than two documents.
    """
    import numpy as np

    if len(outcomes) != len(others):
        raise ValueError(f"paired interval of {len(outcomes)} and {len(others)} documents: score both on the same ones")
    count = len(outcomes)
    if aggregation not in _SHARES or count < 2:
        return None
    both = np.array([outcomes, others], dtype=np.float64)
    random = np.random.default_rng(seed)
    found = np.empty(draws)
    rows = max(1, 2**20 // count)  # of a block of draws, so that memory stays bounded
    for begin in range(0, draws, rows):
        chosen = random.integers(0, count, (min(rows, draws - begin), count))
        one, other = both[:, chosen].mean(-1)
        found[begin : begin + rows] = np.exp(-one) - np.exp(-other) if aggregation == "perplexity" else one - other
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def discordant(outcomes: Sequence[float], others: Sequence[float]) -> int:
    """How many documents tell the two apart."""
    return sum(one != other for one, other in zip(outcomes, others, strict=True))


def documents_needed(difference: float, error: float, documents: int) -> int | None:
    """How many documents of this kind it would take to see a difference of this size, at two standard errors; None
    where there is no difference.

    `error` is the standard error of the difference, which shrinks with the root of their number.
    """
    if difference == 0 or not math.isfinite(difference) or not math.isfinite(error):
        return None
    return math.ceil(documents * (ERRORS * error / difference) ** 2)


def too_few(difference: float, error: float | None, documents: int, apart: int | None = None) -> str | None:
    """Why these documents are too few to tell whether there is a difference, and how many would do; None where they
    suffice, and where no difference is claimed.

    `error` is its standard error, paired by document, and `apart` how many documents are discordant.
    """
    if difference == 0 or error is None or not math.isfinite(difference):
        return None
    needed = documents_needed(difference, error, documents)
    is_clear = needed is not None and needed <= documents and apart is not None and apart >= FEW_APART
    if documents < FEW and not is_clear:
        return f"{documents} documents; take {FEW} or more"
    if needed is not None and needed > documents:
        return f"{documents:,} documents; about {_rounded_up(needed):,} would tell one of this size"
    if apart is not None and apart < FEW_APART:
        return f"{apart} of {documents:,} documents tell the two apart; the standard error is rough"
    return None


def _rounded_up(count: int) -> int:
    """To two digits."""
    unit = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // unit) * unit


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
