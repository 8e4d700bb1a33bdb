"""Which metrics are shares: fractions of 1 that tables and the report show in per cent."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["is_share"]

# Aggregations under which a fraction of 1 stays one. All others of lm-eval's have a unit or a scale of their own:
# perplexities, bits per byte, BLEU, chrF and TER from 0 to 100, Brier scores, and whatever a task's own code returns.
_AGGREGATIONS = {
    *("mean", "nanmean", "f1", "f1_score", "combined"),
    *("matthews", "matthews_corrcoef", "pearson", "spearman"),
}
# Words of a metric's name that say that it is a share, or a correlation, which GLUE reports in hundredths too.
_WORDS = {
    *("acc", "accuracy", "em", "f1", "precision", "recall", "mcc", "matthews", "pearson", "spearman", "combined"),
    *("mc1", "mc2", "rate"),
}
_PHRASES = ("exact_match", "pass@", "pass_at_")


def is_share(metric: str, aggregation: str, values: Iterable[float | None] = ()) -> bool:
    """Return whether a metric is a fraction of 1 that is shown in per cent.

    Accuracies, exact matches, F1 scores and rates are shares; correlations count among them, since GLUE reports them
    in hundredths. Perplexities, bits per byte, and metrics that run from 0 to 100 already are none. A metric that is
    not known to be a share is shown as it was measured.

    Args:
        metric: The metric's name, with or without the name of a filter, as in `exact_match,strict-match`.
        aggregation: How outcomes become the value, as the record names it.
        values: Numbers that were measured by this metric. One outside of -1 to 1 shows that it is no share.

    Returns:
        True for a share.

    Examples:
        >>> is_share("acc_norm", "mean"), is_share("byte_perplexity", "weighted_perplexity")
        (True, False)
        >>> is_share("f1", "mean", [0.25, 0.5]), is_share("f1", "mean", [25.0, 50.0])
        (True, False)
    """
    name = metric.split(",")[0].lower()
    words = set(name.replace("-", "_").split("_"))
    named = bool(words & _WORDS) or any(phrase in name for phrase in _PHRASES)
    within = all(value is None or -1 <= value <= 1 for value in values)
    return named and aggregation in _AGGREGATIONS and within
