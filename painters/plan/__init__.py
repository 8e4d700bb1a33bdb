"""Plans: which layers run, in which order, which of them side by side, and how often."""

from __future__ import annotations

from painters.plan.plan import Plan, PlanLike, PlansLike, as_plan, distinct
from painters.plan.steps import (
    HALVES,
    MAX_LAYER_RUNS,
    MAX_LAYERS,
    MAX_NESTING,
    MAX_TEXT,
    MERGES,
    Half,
    Layer,
    Merge,
    Parallel,
    PlanError,
    Step,
)

__all__ = [
    "HALVES",
    "MAX_LAYERS",
    "MAX_LAYER_RUNS",
    "MAX_NESTING",
    "MAX_TEXT",
    "MERGES",
    "Half",
    "Layer",
    "Merge",
    "Parallel",
    "Plan",
    "PlanError",
    "PlanLike",
    "PlansLike",
    "Step",
    "as_plan",
    "distinct",
]
