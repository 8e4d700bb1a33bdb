"""Requests for log-likelihoods, and what identifies their records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from support.nano_samples import NUM_LAYERS

from painters import Plan, variants

LIKELIHOODS = ["nano_arc", "nano_hellaswag", "nano_lambada", "nano_winogrande"]


BATCH = 3  # divides none of the numbers of requests: last batches are short


PLANS = (
    Plan.identity(NUM_LAYERS),
    *(variants.skip(num_layers=NUM_LAYERS, start=start) for start in variants.windows(NUM_LAYERS)),
    *(variants.parallel(num_layers=NUM_LAYERS, start=1, loops=loops) for loops in (1, 2, 3)),
    Plan.parse("0 {(1 2.attn) 3}:sum 4-5"),
)


def fields(records: list[Any]) -> dict[Any, dict[str, Any]]:
    """Everything that the records hold but when and how fast they were made."""
    return {
        (record.task, record.plan, record.metric): record.model_dump(exclude={"seconds", "date"}) for record in records
    }


def ask(*pairs: tuple[str, str]) -> list[Any]:
    return [SimpleNamespace(args=pair, request_type="loglikelihood") for pair in pairs]
