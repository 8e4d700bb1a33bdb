"""What a record holds, and the fields that make its key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from painters import experiment
from painters.errors import PaintersError
from painters.experiment.tuning import Tuning
from painters.plan import MAX_LAYERS, Plan

Batching: TypeAlias = Literal["lm-eval", "shared"]
"""Whether requests were batched as lm-eval does, row by row, or shared what they have in common: then the numbers are
those of lm-eval up to rounding."""


class ResultsError(PaintersError, ValueError):
    """A file of records that cannot be read."""


class Asked(BaseModel):
    """What an experiment asked that a record of its cell does not tell otherwise.

    `limit` and `shots` may have been None and `dtype` auto, where the record holds what that came to. `metrics` are all
    metrics of the cell, so that a cell whose last lines were lost is not taken for a whole one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str | None
    dtype: str
    shots: int | None
    limit: int | None
    metrics: tuple[str, ...] = Field(min_length=1)


class Record(BaseModel):
    """One metric of one scored cell: model, plan, task and protocol."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    plan: str
    variant: str | None = None  # the rule that made the plan, and its parameters, where they are known
    params: dict[str, int | float | str] | None = None
    asked: Asked | None = None  # of a cell of an experiment

    model: str
    revision: str | None  # the commit on the hub
    weights: str | None  # a digest of the parameters: local folders and models in memory have no commit
    num_layers: int = Field(ge=1, le=MAX_LAYERS)
    dtype: str
    device: str
    attention: str | None  # the implementation: sdpa, eager, ...
    kv: str

    task: str
    task_version: str | None
    documents: int = Field(ge=1)
    requests: str  # a digest of every prompt, continuation and answer in order
    shots: int = Field(ge=0)
    seed: int
    batch_size: int = Field(ge=1)
    batching: Batching = "lm-eval"
    tuning: Tuning | None = None  # of an encoder, before it was scored

    metric: str
    aggregation: str
    higher_is_better: bool
    primary: bool  # whether this metric stands for its task
    value: float | None
    stderr: float | None
    outcomes: tuple[float, ...] | None  # by document, in the task's order
    chance: float | None
    not_finite: int = Field(ge=0)  # answers whose log-likelihood was infinite or not a number

    layer_runs: int
    depth: int
    seconds: float  # for all metrics of the cell together
    versions: dict[str, str]
    date: str  # UTC, ISO 8601
    command: str | None = None  # that wrote the record; "python" for a program that called painters

    @model_validator(mode="after")
    def _whole(self) -> Record:
        # Whoever draws documents reserves room for as many as a record says that there are.
        if self.outcomes is not None and len(self.outcomes) != self.documents:
            raise ValueError(f"outcomes of {len(self.outcomes)} documents, where documents is {self.documents}")
        return self

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, (_counted(value) if name == "outcomes" and value is not None else value)

    def _repr_html_(self) -> str:
        """The record as notebooks show it: a row for each field, what was recorded first."""
        shown = {name: getattr(self, name) for name in ("plan", "model", "task", "metric", "value", "stderr")}
        shown |= {name: value for name, value in self if name not in shown}
        shown["outcomes"] = None if self.outcomes is None else _counted(self.outcomes)
        rows = "".join(
            f"<tr><th style='text-align: left'>{name}</th><td style='text-align: left'>{escape(str(value))}</td></tr>"
            for name, value in shown.items()
            if value is not None
        )
        return f"<table>{rows}</table>"

    @property
    def is_intact(self) -> bool:
        """Whether the plan is the model as it is."""
        return self.plan == str(Plan.identity(self.num_layers))

    @property
    def cell_key(self) -> str | None:
        """The key of the cell that this record answers; None where no experiment asked."""
        if self.asked is None:
            return None
        return experiment.cell_key(
            tuning=self.tuning.model_dump() if self.tuning else None,
            **self.asked.model_dump(exclude={"metrics"}),
            **{name: getattr(self, name) for name in ("model", "plan", "kv", "task", "seed", "batch_size", "batching")},
        )


class _counted:
    """How many outcomes there are, in the place of hundreds of them."""

    def __init__(self, outcomes: Sequence[float]) -> None:
        self._count = len(outcomes)

    def __repr__(self) -> str:
        return f"<{self._count} outcomes>"


# What a number is, says or costs. Everything else can change it and belongs to its key, fields to come
# included.
NOT_IN_KEY = frozenset(
    "variant params asked num_layers aggregation higher_is_better primary value stderr outcomes chance not_finite "
    "layer_runs depth seconds date command".split()
)


def key(record: Record) -> str:
    """One text for all fields that can change the number; equal keys are the same cell and metric."""
    return json.dumps(record.model_dump(mode="json", exclude=set(NOT_IN_KEY)), sort_keys=True)


def digest(records: Iterable[Record]) -> str:
    """Twelve hexadecimal digits over what these records say of which cells, whatever their order: other numbers, or a
    record more or less, give other digits.
    """
    lines = sorted(f"{key(record)} {record.value!r} {record.stderr!r} {record.outcomes!r}" for record in records)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
