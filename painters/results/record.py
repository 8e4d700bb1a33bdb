"""The fields of a record, and which of them make its key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from painters import experiment
from painters.errors import PaintersError
from painters.experiment import Chat
from painters.experiment.tuning import Tuning
from painters.plan import MAX_LAYERS, Plan

__all__ = ["NOT_IN_KEY", "Asked", "Batching", "Record", "ResultsError", "digest", "key"]

Batching: TypeAlias = Literal["lm-eval", "shared"]
"""How requests were batched: row by row as lm-eval does, or with common prefixes shared, which equals lm-eval's
numbers up to rounding."""


_LATER_FIELDS = frozenset({"sample", "sample_seed", "chat", "name", "stack"})
"""Fields that records got later. Where they are None they are left out of lines, keys and digests, so that those of
older records stay what they were."""


class ResultsError(PaintersError, ValueError):
    """A file of records that cannot be read."""


def _without_later_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields without those of `_LATER_FIELDS` that are None."""
    return {name: value for name, value in fields.items() if value is not None or name not in _LATER_FIELDS}


class Asked(BaseModel):
    """What an experiment asked for, where a record only holds what that came to.

    `limit` and `shots` may have been None and `dtype` "auto"; the record states the resulting numbers and dtype. A
    sample may have been larger than the task; the record then states no seed, because no document was drawn.
    `metrics` lists all metrics of the cell, so that a cell whose last lines were lost is recognised as incomplete.

    Examples:
        >>> Asked(revision=None, dtype="auto", shots=None, limit=100, metrics=("acc", "acc_norm"))
        Asked(revision=None, dtype='auto', shots=None, limit=100, metrics=('acc', 'acc_norm'), ...)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str | None
    dtype: str
    shots: int | None
    limit: int | float | None
    metrics: tuple[str, ...] = Field(min_length=1)
    sample: int | None = None
    sample_seed: int | None = None

    @model_serializer(mode="wrap")
    def _without_unset(self, fields_of: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_later_fields(fields_of(self))


class Record(BaseModel):
    """One metric of one scored cell: a model under a plan, on a task, by a protocol.

    A record is immutable. `painters.harness.score` and `painters.glue.Scorer.score` return records, `append` and
    `Store` keep them. The fields are plain values; `value`, `stderr`, `outcomes` and `chance` are None where the number
    does not exist.

    Examples:
        >>> from painters.harness import score
        >>> from painters.models import load_model
        >>> record, *_ = score(*load_model("nano-llama"), "0-10", "nano_arc", limit=2)
        >>> record.plan, record.model, record.task, record.metric
        ('0-10', 'nano-llama', 'nano_arc', 'acc')
        >>> record.documents, len(record.outcomes), record.layer_runs, record.is_intact
        (2, 2, 11, False)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    plan: str
    variant: str | None = None  # the rule that made the plan, where it is known
    params: dict[str, int | float | str] | None = None  # the rule's parameters
    asked: Asked | None = None  # only for a cell of an experiment

    model: str
    revision: str | None  # the commit on the hub
    weights: str | None  # a digest of the parameters: local folders and models in memory have no commit
    num_layers: int = Field(ge=1, le=MAX_LAYERS)
    stack: str | None = None  # the list of layers that the plan runs, where it was named
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
    tuning: Tuning | None = None  # how an encoder was fine-tuned before it was scored
    sample_seed: int | None = None  # the seed that drew the documents; None: they are the first ones, or all
    chat: Chat | None = None  # how prompts were made into conversations; None: lm-eval's plain prompts

    metric: str
    aggregation: str  # how outcomes become the value: see `painters.results.scoring`
    higher_is_better: bool
    primary: bool  # whether this metric stands for its task
    value: float | None
    stderr: float | None
    outcomes: tuple[float, ...] | None  # one per document, in the task's order
    chance: float | None  # the value of guessing
    not_finite: int = Field(ge=0)  # answers whose log-likelihood was infinite or NaN

    layer_runs: int
    depth: int
    seconds: float  # for all metrics of the cell together
    versions: dict[str, str]  # library -> version
    date: str  # UTC, ISO 8601
    command: str | None = None  # the command that wrote the record; "python" where a program called painters
    name: str | None = None  # what figures and reports call the model, where the user chose it

    @model_validator(mode="after")
    def _check_outcomes(self) -> Record:
        # Figures reserve room for as many documents as a record claims.
        if self.outcomes is not None and len(self.outcomes) != self.documents:
            raise ValueError(f"outcomes of {len(self.outcomes)} documents, where documents is {self.documents}")
        return self

    @model_serializer(mode="wrap")
    def _without_unset(self, fields_of: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_later_fields(fields_of(self))

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, (_Count(value) if name == "outcomes" and value is not None else value)

    def _repr_html_(self) -> str:
        """Return the record as notebooks show it: a table with a row per field, the main fields first."""
        shown = {name: getattr(self, name) for name in ("plan", "model", "task", "metric", "value", "stderr")}
        shown |= {name: value for name, value in self if name not in shown}
        shown["outcomes"] = None if self.outcomes is None else _Count(self.outcomes)
        rows = "".join(
            f"<tr><th style='text-align: left'>{name}</th><td style='text-align: left'>{escape(str(value))}</td></tr>"
            for name, value in shown.items()
            if value is not None
        )
        return f"<table>{rows}</table>"

    @property
    def is_intact(self) -> bool:
        """Whether the plan is the identity: the baseline, the model as it is."""
        return self.plan == str(Plan.identity(self.num_layers))

    @property
    def cell_key(self) -> str | None:
        """The key of the experiment's cell that this record answers; None outside of experiments."""
        if self.asked is None:
            return None
        return experiment.cell_key(
            tuning=self.tuning.model_dump() if self.tuning else None,
            chat=self.chat.model_dump() if self.chat else None,
            **self.asked.model_dump(exclude={"metrics"}),
            stack=self.stack,
            **{name: getattr(self, name) for name in ("model", "plan", "kv", "task", "seed", "batch_size", "batching")},
        )


class _Count:
    """The number of outcomes, shown in place of the outcomes themselves, which may be thousands."""

    def __init__(self, outcomes: Sequence[float]) -> None:
        self._count = len(outcomes)

    def __repr__(self) -> str:
        return f"<{self._count} outcomes>"


NOT_IN_KEY = frozenset(
    "variant params asked num_layers aggregation higher_is_better primary value stderr outcomes chance not_finite "
    "layer_runs depth seconds date command name".split()
)
"""The fields that state a result, describe it, or say what it cost.

All other fields can change the number and belong to the key, future fields included.
"""


def key(record: Record) -> str:
    """Return one text for all fields that can change the number.

    Args:
        record: A record.

    Returns:
        JSON with sorted names. Two records with equal keys are the same metric of the same cell.

    Examples:
        >>> from painters.harness import score
        >>> from painters.models import load_model
        >>> accuracy, normalised_accuracy = score(*load_model("nano-llama"), "0-10", "nano_arc", limit=2)
        >>> key(accuracy) == key(accuracy.model_copy(update={"value": 0.5, "seconds": 9.0}))
        True
        >>> key(accuracy) == key(normalised_accuracy)
        False
    """
    return json.dumps(record.model_dump(mode="json", exclude=set(NOT_IN_KEY)), sort_keys=True)


def digest(records: Iterable[Record]) -> str:
    """Return a digest of the keys and results of records, whatever their order.

    Figures state it, so that a reader can check that the records at hand are those that were drawn. Costs, dates and
    commands do not count.

    Args:
        records: The records.

    Returns:
        Twelve hexadecimal digits. Other values, or a record more or less, give other digits.

    Examples:
        >>> digest([])
        'e3b0c44298fc'
        >>> from painters.harness import score
        >>> from painters.models import load_model
        >>> records = score(*load_model("nano-llama"), "0-10", "nano_arc", limit=2)
        >>> digest(records) == digest(reversed(records))
        True
        >>> digest(records) == digest(records[:1])
        False
    """
    lines = sorted(f"{key(record)} {record.value!r} {record.stderr!r} {record.outcomes!r}" for record in records)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
