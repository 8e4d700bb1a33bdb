"""Records from a plan's answers to the documents of a task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from painters.glue.metrics import Numbers, bootstrap_stderr, chance, metric
from painters.glue.tasks import Prepared
from painters.results import Record, scoring


def records(prepared: Prepared, logits: Tensor, fields: dict[str, Any]) -> Iterator[Record]:
    """Yield one record for each metric of the task.

    Args:
        prepared: The task that was answered.
        logits: The logits of the validation documents, `[documents, labels]`.
        fields: All fields of the records that follow neither from the task nor from the answers.

    Yields:
        Records in the order of the task's metrics. Where any logit is not finite none of them has a value.
    """
    task, labels = prepared.task, prepared.validation.labels.numpy()
    not_finite = int((~logits.isfinite().all(-1)).sum())
    predictions = (logits[:, 0] if task.kind == "regression" else logits.argmax(-1)).numpy()
    if task.kind == "regression":
        predictions, labels = predictions.astype(np.float64), labels.astype(np.float64)
    for name in task.metrics:
        yield Record(
            **fields,
            task=prepared.name,
            task_version=prepared.version,
            documents=prepared.documents,
            requests=prepared.digest,
            sample_seed=prepared.sample_seed,
            metric=name,
            higher_is_better=True,
            primary=name == task.primary,
            chance=chance(name, task.metrics, labels),
            not_finite=not_finite,
            **_scored(name, prepared, predictions, labels, has_value=not not_finite),
        )


def _scored(name: str, prepared: Prepared, predictions: Numbers, labels: Numbers, *, has_value: bool) -> dict[str, Any]:
    """Return the metric's value, standard error and aggregation; for accuracy also the outcomes."""
    aggregation = "mean" if name == "accuracy" else name
    absent = {"aggregation": aggregation, "value": None, "stderr": None, "outcomes": None}
    if not has_value:
        return absent
    score = metric(name, prepared.task.metrics)
    value = float(score(predictions, labels))
    if not np.isfinite(value):
        return absent
    if name != "accuracy":
        return absent | {"value": value, "stderr": bootstrap_stderr(score, predictions, labels)}
    outcomes = tuple((predictions == labels).astype(float).tolist())
    return absent | {
        "value": value,
        "stderr": scoring.stderr(aggregation, outcomes, value),
        "outcomes": outcomes,
    }
