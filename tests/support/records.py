"""Records and cells whose fields are all known."""

from __future__ import annotations

from typing import Any

from painters.experiment import Cell
from painters.plan import Plan
from painters.results import Asked, Record

BASE: dict[str, Any] = {
    "plan": "0-5",
    "model": "tiny",
    "revision": None,
    "weights": "abc",
    "num_layers": 6,
    "dtype": "float32",
    "device": "cpu",
    "attention": "sdpa",
    "kv": "exact",
    "task": "nano_arc",
    "task_version": "1.0",
    "documents": 4,
    "requests": "def",
    "shots": 0,
    "seed": 1234,
    "batch_size": 8,
    "metric": "acc",
    "aggregation": "mean",
    "higher_is_better": True,
    "primary": True,
    "value": 0.75,
    "stderr": 0.25,
    "outcomes": (1.0, 1.0, 1.0, 0.0),
    "chance": 0.25,
    "not_finite": 0,
    "layer_runs": 6,
    "depth": 6,
    "seconds": 0.5,
    "versions": {"torch": "2"},
    "date": "2026-01-01T00:00:00+00:00",
}


def record(**fields: Any) -> Record:
    return Record.model_validate({**BASE, **fields})


ASKED = {"revision": None, "dtype": "auto", "shots": None, "limit": 4, "metrics": ("acc", "acc_norm")}


def cell(**fields: Any) -> Cell:
    asked = {
        "model": "tiny", "revision": None, "dtype": "auto", "plan": Plan.parse("0-5"), "kv": "exact",
        "task": "nano_arc", "shots": None, "limit": 4, "seed": 1234, "batch_size": 8, "num_layers": 6,
    }  # fmt: skip
    return Cell(**{**asked, **fields})


def scored(**fields: Any) -> list[Record]:
    """The records of one cell, one for each of its two metrics."""
    asked = Asked.model_validate({**ASKED, **fields.pop("asked", {})})
    return [record(asked=asked, metric=metric, **fields) for metric in asked.metrics]
