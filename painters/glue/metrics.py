"""The metrics of GLUE, as scikit-learn and scipy define them, over one set of documents or many resamples of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[Any]
"""Predictions or labels, [..., documents]."""
Metric: TypeAlias = Callable[[Numbers, Numbers], Numbers]
"""From predictions and labels [..., documents] to values [...]; NaN where a value is not defined."""

COMBINED = "combined"
RESAMPLES = 1000


def accuracy(predictions: Numbers, labels: Numbers) -> Numbers:
    return np.asarray((predictions == labels).mean(-1))


def f1(predictions: Numbers, labels: Numbers) -> Numbers:
    """F1 of class 1, and 0 where class 1 is neither predicted nor there."""
    both, found, wanted = _overlap(predictions, labels)
    return _quotient(2 * both, found + wanted)


def matthews(predictions: Numbers, labels: Numbers) -> Numbers:
    """Matthews' correlation of two classes, and 0 where all predictions or all labels are of one."""
    both, found, wanted = _overlap(predictions, labels)
    total = predictions.shape[-1]
    spread = found * (total - found) * wanted * (total - wanted)
    return _quotient(both * total - found * wanted, np.sqrt(spread))


def pearson(predictions: Numbers, labels: Numbers) -> Numbers:
    x = predictions - predictions.mean(-1, keepdims=True)
    y = labels - labels.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1)))


def spearman(predictions: Numbers, labels: Numbers) -> Numbers:
    """Pearson's correlation of the ranks; equal numbers have their mean rank."""
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
    """The metric `name` of a task with the metrics `names`; "combined" is the mean of the others."""
    if name != COMBINED:
        return METRICS[name]
    parts = [METRICS[part] for part in names if part != COMBINED]
    return lambda predictions, labels: np.mean([part(predictions, labels) for part in parts], axis=0)


def chance(name: str, names: Sequence[str], labels: Numbers) -> float:
    """What always answering the most frequent class of `labels` [documents] scores; 0 for correlations."""
    if name in CORRELATIONS or all(part in (*CORRELATIONS, COMBINED) for part in names):
        return 0.0
    classes, counts = np.unique(labels, return_counts=True)
    return float(metric(name, names)(np.full_like(labels, classes[counts.argmax()]), labels))


def bootstrap_stderr(metric: Metric, predictions: Numbers, labels: Numbers, seed: int = 0) -> float | None:
    """The standard deviation of the value over `RESAMPLES` resamples of the documents, always the same for one `seed`.

    Resamples without a defined value, such as those of one class only, are left out. None for fewer than two documents
    or defined values.
    """
    count = len(labels)
    if count < 2:
        return None
    chosen = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    values = metric(predictions[chosen], labels[chosen])
    values = values[np.isfinite(values)]
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _overlap(predictions: Numbers, labels: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """How many documents are predicted to be of class 1 and are, are predicted to be, and are; float64, [...]."""
    found, wanted = predictions == 1, labels == 1
    return tuple(np.asarray(kind.sum(-1), np.float64) for kind in (found & wanted, found, wanted))  # type: ignore[return-value]


def _quotient(above: Numbers, below: Numbers) -> Numbers:
    return np.divide(above, below, out=np.zeros_like(below), where=below != 0)
