"""GLUE's metrics, as scikit-learn and scipy define them, of one set of documents or many resamples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[Any]
"""Predictions or labels, `[..., documents]`."""
Metric: TypeAlias = Callable[[Numbers, Numbers], Numbers]
"""A function of predictions and labels `[..., documents]` that returns values `[...]`; NaN where one is undefined."""

COMBINED = "combined"
RESAMPLES = 1000


def accuracy(predictions: Numbers, labels: Numbers) -> Numbers:
    """Return the share of predictions that equal their label."""
    return np.asarray((predictions == labels).mean(-1))


def f1(predictions: Numbers, labels: Numbers) -> Numbers:
    """Return the F1 score of class 1; 0 where class 1 is neither predicted nor present."""
    true_positives, predicted, positive = _counts_of_class_1(predictions, labels)
    return _ratio_or_zero(2 * true_positives, predicted + positive)


def matthews(predictions: Numbers, labels: Numbers) -> Numbers:
    """Return Matthews' correlation of two classes; 0 where all predictions or all labels are of one class."""
    true_positives, predicted, positive = _counts_of_class_1(predictions, labels)
    total = predictions.shape[-1]
    spread = predicted * (total - predicted) * positive * (total - positive)
    return _ratio_or_zero(true_positives * total - predicted * positive, np.sqrt(spread))


def pearson(predictions: Numbers, labels: Numbers) -> Numbers:
    """Return Pearson's correlation; NaN where all predictions or all labels are equal."""
    x = predictions - predictions.mean(-1, keepdims=True)
    y = labels - labels.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1)))


def spearman(predictions: Numbers, labels: Numbers) -> Numbers:
    """Return Pearson's correlation of the ranks; equal numbers share their mean rank."""
    from scipy.stats import rankdata

    return pearson(rankdata(predictions, axis=-1), rankdata(labels, axis=-1))


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}
CORRELATIONS = ("matthews", "pearson", "spearman")


def metric(name: str, names: Sequence[str]) -> Metric:
    """Return the metric `name` of a task whose metrics are `names`; "combined" is the mean of the others."""
    if name != COMBINED:
        return METRICS[name]
    parts = [METRICS[part] for part in names if part != COMBINED]
    return lambda predictions, labels: np.mean([part(predictions, labels) for part in parts], axis=0)


def chance(name: str, names: Sequence[str], labels: Numbers) -> float:
    """Return the score of always answering the most frequent class of `labels`; 0 for correlations."""
    if name in CORRELATIONS or all(part in (*CORRELATIONS, COMBINED) for part in names):
        return 0.0
    classes, counts = np.unique(labels, return_counts=True)
    return float(metric(name, names)(np.full_like(labels, classes[counts.argmax()]), labels))


def bootstrap_stderr(metric: Metric, predictions: Numbers, labels: Numbers, seed: int = 0) -> float | None:
    """Return the standard deviation of `metric` over `RESAMPLES` resamples of the documents.

    The resamples follow from `seed` alone. Those without a defined value, such as those of one class only, are left
    out. Return None for fewer than two documents or fewer than two defined values.
    """
    count = len(labels)
    if count < 2:
        return None
    resampled = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    values = metric(predictions[resampled], labels[resampled])
    values = values[np.isfinite(values)]
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _counts_of_class_1(predictions: Numbers, labels: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Return the counts of true, predicted and actual positives, each `[...]` in float64."""
    predicted, positive = predictions == 1, labels == 1
    counted = (predicted & positive, predicted, positive)
    return tuple(np.asarray(is_counted.sum(-1), np.float64) for is_counted in counted)  # type: ignore[return-value]


def _ratio_or_zero(numerator: Numbers, denominator: Numbers) -> Numbers:
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator != 0)
