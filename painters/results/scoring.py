"""Statistics of per-document outcomes: standard errors, paired differences, normalised values.

An *outcome* is what one document contributes to a metric: 0 or 1 for accuracies, the log-likelihood for perplexity.
The *aggregation* says how outcomes become the metric's value: `mean` is their mean, `perplexity` is exp(-mean), and
other names of lm-eval's are unknown here. A number that does not exist is None, never 0.
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
"""The default seed of `paired_interval`."""
DRAWS = 10_000
"""How many bootstrap samples `paired_interval` draws by default."""
FEW = 30
"""With fewer documents than this, standard errors and intervals are rough."""
FEW_APART = 10
"""With fewer documents than this on which two plans differ, a test can hardly find a difference."""
ERRORS = 2.0
"""How many standard errors from zero a difference must be to count as seen."""

# The metric that stands for a task where one number has to. The paper does not say which of acc and acc_norm it plots;
# acc is the one that all multiple-choice tasks and LAMBADA have.
_PRIMARY = ("acc", "exact_match")


def primary(metrics: Sequence[str]) -> str:
    """Return the metric that stands for a task where one number has to.

    Args:
        metrics: All metrics of the task, with or without the name of a filter, as in `exact_match,strict-match`.

    Returns:
        The first that is `acc`, else the first that is `exact_match`, else the first of all.

    Raises:
        ValueError: `metrics` is empty.

    Examples:
        >>> primary(["acc_norm", "acc"])
        'acc'
        >>> primary(["exact_match,strict-match", "exact_match,flexible-extract"])
        'exact_match,strict-match'
    """
    if not metrics:
        raise ValueError("a task without metrics has no primary metric")
    for name in _PRIMARY:
        for metric in metrics:
            if metric.split(",")[0] == name:
                return metric
    return metrics[0]


def is_scored_by_documents(aggregation: str) -> bool:
    """Return whether values of this aggregation have a standard error that follows from their outcomes.

    Args:
        aggregation: The name of an aggregation, as lm-eval has it.

    Returns:
        True for `mean` and `perplexity`.

    Examples:
        >>> is_scored_by_documents("mean"), is_scored_by_documents("matthews_corrcoef")
        (True, False)
    """
    return aggregation in _SHARES


def value(aggregation: str, outcomes: Sequence[float]) -> float | None:
    """Return the value of a metric from its outcomes.

    Args:
        aggregation: How outcomes become the value.
        outcomes: One per document.

    Returns:
        The value; None under an unknown aggregation, without outcomes, and where it exceeds all floats.

    Examples:
        >>> value("mean", [1, 0, 1, 1])
        0.75
        >>> round(value("perplexity", [-1.0, -2.0]), 3)
        4.482
        >>> print(value("perplexity", [-1e9]))
        None
    """
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
    """Return the standard error of a metric's value.

    For a mean it is s / sqrt(n) with the sample standard deviation s. For accuracies this is
    sqrt(p (1 - p) / (n - 1)), lm-eval's closed form. For perplexity it is the first-order (delta-method) value:
    perplexity times the standard error of the mean log-likelihood; lm-eval bootstraps that one.

    Args:
        aggregation: How outcomes became the value.
        outcomes: One per document.
        value: The metric's value.

    Returns:
        The standard error; None under an unknown aggregation and for fewer than two documents.

    Examples:
        >>> stderr("mean", [1, 0, 1, 1], 0.75)
        0.25
    """
    share = _SHARES.get(aggregation)
    return None if share is None else _stderr_of_mean([share(outcome, value) for outcome in outcomes])


def difference_stderr(
    aggregation: str, outcomes: Sequence[float], value: float, others: Sequence[float], other_value: float
) -> float | None:
    """Return the standard error of `value - other_value`, paired by document.

    The difference is taken document by document, so what makes a document hard for both cancels.

    Args:
        aggregation: How outcomes became the values.
        outcomes: The outcomes of the one plan, one per document.
        value: Their value.
        others: The outcomes of the other plan, of the same documents in the same order.
        other_value: Their value.

    Returns:
        The standard error; None under an unknown aggregation and for fewer than two documents.

    Raises:
        ValueError: The two have different numbers of documents.

    Examples:
        >>> difference_stderr("mean", [0, 1, 1, 0], 0.5, [1, 1, 1, 0], 0.75)
        0.25
    """
    if len(outcomes) != len(others):
        raise ValueError(
            f"paired difference of {len(outcomes)} and {len(others)} documents: score both on the same ones"
        )
    share = _SHARES.get(aggregation)
    if share is None:
        return None
    pairs = zip(outcomes, others, strict=True)
    return _stderr_of_mean([share(outcome, value) - share(other, other_value) for outcome, other in pairs])


def paired_interval(
    outcomes: Sequence[float],
    others: Sequence[float],
    aggregation: str = "mean",
    *,
    draws: int = DRAWS,
    seed: int = BOOTSTRAP_SEED,
) -> tuple[float, float] | None:
    """Return the 95 % interval of the difference of two values, paired by document.

    For outcomes of 0 and 1 it is Tango's score interval, which is within -1 and 1 and has a width where the two agree
    on every document, too. For other outcomes it is a percentile bootstrap: each draw samples documents with
    replacement, the same documents for both.

    Args:
        outcomes: The outcomes of the one plan, one per document.
        others: The outcomes of the other plan, of the same documents in the same order.
        aggregation: How outcomes become the values.
        draws: How many samples the bootstrap draws.
        seed: Determines the draws: the same seed gives the same interval.

    Returns:
        The limits of the one plan's value minus the other's. None under an unknown aggregation, for fewer than two
        documents, and where outcomes other than 0 and 1 differ alike on every document.

    Raises:
        ValueError: The two have different numbers of documents.

    Examples:
        >>> low, high = paired_interval([1] * 30 + [0] * 10, [1] * 20 + [0] * 20)
        >>> round(low, 3), round(high, 3)
        (0.14, 0.402)
    """
    if len(outcomes) != len(others):
        raise ValueError(f"paired interval of {len(outcomes)} and {len(others)} documents: score both on the same ones")
    count = len(outcomes)
    if aggregation not in _SHARES or count < 2:
        return None
    if aggregation == "mean" and {*outcomes, *others} <= {0, 1}:
        first = sum(outcome > other for outcome, other in zip(outcomes, others, strict=True))
        second = sum(outcome < other for outcome, other in zip(outcomes, others, strict=True))
        return _tango(first, second, count)
    return _bootstrap(outcomes, others, aggregation, draws, seed)


def _tango(first: int, second: int, count: int) -> tuple[float, float]:
    """Return Tango's score interval (1998) of the difference of two proportions of `count` documents.

    On `first` documents only the one plan is right, on `second` only the other. The limits are the differences that
    are 1.96 standard errors from the one observed, where the standard error is that under the difference.
    """
    observed = (first - second) / count

    def distance(difference: float) -> float:
        """Return how many standard errors the observed difference is above `difference`."""
        linear = (2 * count - first + second) * difference - first - second
        root = math.sqrt(max(0.0, linear**2 + 8 * count * second * difference * (1 - difference)))
        only_other = (root - linear) / (4 * count)
        variance = (2 * only_other + difference * (1 - difference)) / count
        gap = observed - difference
        return gap / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, gap)

    def limit(end: float, target: float) -> float:
        """Return the difference between the observed one and `end` at which the distance is `target`."""
        inside, outside = observed, end
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if abs(distance(middle)) < abs(target) else (inside, middle)
        return outside

    return (limit(-1.0, 1.96) if observed > -1 else -1.0), (limit(1.0, 1.96) if observed < 1 else 1.0)


def _bootstrap(
    outcomes: Sequence[float], others: Sequence[float], aggregation: str, draws: int, seed: int
) -> tuple[float, float] | None:
    """Return the percentile bootstrap of the difference; None where it is the same on every document."""
    import numpy as np

    count = len(outcomes)
    both = np.array([outcomes, others], dtype=np.float64)
    if (both[0] - both[1] == both[0, 0] - both[1, 0]).all():
        return None
    random = np.random.default_rng(seed)
    differences = np.empty(draws)
    rows = max(1, 2**20 // count)  # draws at a time, so that memory stays bounded
    for begin in range(0, draws, rows):
        drawn = random.integers(0, count, (min(rows, draws - begin), count))
        mean, other = both[:, drawn].mean(-1)
        difference = np.exp(-mean) - np.exp(-other) if aggregation == "perplexity" else mean - other
        differences[begin : begin + rows] = difference
    low, high = np.percentile(differences, [2.5, 97.5])
    return float(low), float(high)


def discordant(outcomes: Sequence[float], others: Sequence[float]) -> int:
    """Return on how many documents two plans differ.

    Args:
        outcomes: The outcomes of the one plan, one per document.
        others: The outcomes of the other plan, of the same documents in the same order.

    Returns:
        The number of documents with different outcomes.

    Examples:
        >>> discordant([1, 0, 1, 1], [1, 1, 0, 1])
        2
    """
    return sum(outcome != other for outcome, other in zip(outcomes, others, strict=True))


def documents_needed(difference: float, error: float, documents: int) -> int | None:
    """Return how many documents of this kind would show a difference of this size, at two standard errors.

    Args:
        difference: The difference of two values.
        error: Its standard error, which shrinks with the square root of the number of documents.
        documents: How many documents it was measured on.

    Returns:
        The number of documents; None where there is no difference, or a number is not finite.

    Examples:
        >>> documents_needed(difference=0.02, error=0.02, documents=100)
        400
    """
    if difference == 0 or not math.isfinite(difference) or not math.isfinite(error):
        return None
    return math.ceil(documents * (ERRORS * error / difference) ** 2)


def too_few(difference: float, error: float | None, documents: int, apart: int | None = None) -> str | None:
    """Return why the documents are too few to decide whether there is a difference, and how many would do.

    Args:
        difference: The difference of two values.
        error: Its standard error, paired by document, where there is one.
        documents: How many documents it was measured on.
        apart: On how many of them the two differ, where it is known (`discordant`).

    Returns:
        The reason; None where the documents suffice, and where there is nothing to decide: the difference is zero or
        not finite, or has no standard error.

    Examples:
        >>> too_few(0.02, 0.02, documents=100)
        '100 documents; about 400 would show one of this size'
        >>> print(too_few(0.2, 0.02, documents=100))
        None
    """
    if difference == 0 or error is None or not math.isfinite(difference):
        return None
    needed = documents_needed(difference, error, documents)
    is_clear = needed is not None and needed <= documents and apart is not None and apart >= FEW_APART
    if documents < FEW and not is_clear:
        return f"{documents} documents; take {FEW} or more"
    if needed is not None and needed > documents:
        return f"{documents:,} documents; about {_rounded_up(needed):,} would show one of this size"
    if apart is not None and apart < FEW_APART:
        return f"{apart} of {documents:,} documents tell the two apart; the standard error is rough"
    return None


def _rounded_up(count: int) -> int:
    """Return `count` rounded up to two digits."""
    unit = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // unit) * unit


def normalised(value: float, intact: float, chance: float | None) -> float | None:
    """Return a value on the paper's scale, where 0 is chance and 1 the intact model.

    Args:
        value: The value of a plan.
        intact: The value of the intact model, the baseline.
        chance: The value of guessing, where it is known.

    Returns:
        The normalised value; None where the intact model is no better than chance, or chance is unknown.

    Examples:
        >>> normalised(0.5, intact=0.75, chance=0.25)
        0.5
    """
    if chance is None or intact <= chance:
        return None
    return (value - chance) / (intact - chance)


def _mean_share(outcome: float, value: float) -> float:
    """Return what one outcome adds to a mean, times the number of documents."""
    return outcome


def _perplexity_share(outcome: float, value: float) -> float:
    """Return what one log-likelihood adds to first order to the perplexity `value`, times the number of documents."""
    return -value * outcome


# aggregation -> what a document's outcome adds to the value, to first order and up to a constant
_SHARES = {"mean": _mean_share, "perplexity": _perplexity_share}


def _stderr_of_mean(shares: Sequence[float]) -> float | None:
    """Return the standard error of the mean of `shares`; None for fewer than two."""
    n = len(shares)
    if n < 2:
        return None
    mean = sum(shares) / n
    return math.sqrt(sum((share - mean) ** 2 for share in shares) / (n - 1)) / math.sqrt(n)
