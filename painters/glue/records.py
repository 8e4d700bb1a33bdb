"""Records from the answers to a task's documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from painters.glue.metrics import bootstrap_stderr, chance, metric
from painters.glue.tasks import Prepared
from painters.results import Record, scoring


def records(prepared: Prepared, logits: Tensor, fields: dict[str, Any]) -> Iterator[Record]:
    """One record for each metric, from the logits [documents, labels] of the validation documents."""
    task, labels = prepared.task, prepared.validation.labels.numpy()
    not_finite = int((~logits.isfinite().all(-1)).sum())
    answers = (logits[:, 0] if task.kind == "regression" else logits.argmax(-1)).numpy()
    if task.kind == "regression":
        answers, labels = answers.astype(np.float64), labels.astype(np.float64)
    for name in task.metrics:
        score = metric(name, task.metrics)
        value = None if not_finite else float(score(answers, labels))
        known = value is not None and np.isfinite(value)
        outcomes = tuple((answers == labels).astype(float).tolist()) if known and name == "accuracy" else None
        aggregation = "mean" if name == "accuracy" else name
        if outcomes is not None and value is not None:
            stderr = scoring.stderr(aggregation, outcomes, value)
        else:
            stderr = bootstrap_stderr(score, answers, labels) if known else None
        yield Record(
            **fields,
            task=prepared.name,
            task_version=prepared.version,
            documents=prepared.documents,
            requests=prepared.digest,
            metric=name,
            aggregation=aggregation,
            higher_is_better=True,
            primary=name == task.primary,
            value=value if known else None,
            stderr=stderr,
            outcomes=outcomes,
            chance=chance(name, task.metrics, labels),
            not_finite=not_finite,
        )
