"""Experiments: a question as a grid of cells, in a YAML file; and the key of a cell.

A *cell* is one model, plan, task and protocol. Its key is known before it is scored and holds everything asked that
can change the number. What only the answer tells (the digests of weights and requests, device, versions) is in the
record, and `painters.results` says which record answers which cell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

from painters.experiment.fields import Model
from painters.experiment.file import find, load, shipped
from painters.experiment.grid import Point, spread
from painters.experiment.protocol import ScoringProtocol
from painters.experiment.schema import Encoder, Experiment, Grid, Similarity
from painters.experiment.tuning import Tuning
from painters.experiment.yaml import ExperimentError
from painters.plan import Plan

__all__ = [
    "Cell",
    "Encoder",
    "Experiment",
    "ExperimentError",
    "Grid",
    "Model",
    "Point",
    "Similarity",
    "cell_key",
    "cells",
    "find",
    "load",
    "shipped",
]


@dataclass(frozen=True, slots=True)
class Cell:
    """One number, or a few metrics of one task, to be had."""

    model: str
    revision: str | None
    dtype: str
    plan: Plan
    kv: str
    task: str
    shots: int | None
    limit: int | None
    seed: int
    batch_size: int
    tuning: Tuning | None = None  # of an encoder; lm-eval scores the others as they are
    batching: str = "lm-eval"  # or "shared", which a scoring in lm-eval's batches answers too

    # What follows from the above or says where it came from: not in the key.
    num_layers: int = field(compare=False, kw_only=True)
    variant: str | None = field(default=None, compare=False)
    params: Mapping[str, int | str] | None = field(default=None, compare=False)
    source: str | None = field(default=None, compare=False)  # the path of the task's YAML

    @property
    def key(self) -> str:
        """One text for everything asked that can change the number."""
        asked = {name: getattr(self, name) for name in _KEY} | {"plan": str(self.plan)}
        return cell_key(**asked | {"tuning": self.tuning.model_dump() if self.tuning else None})

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the cells whose scorings answer this one: its own, and that of lm-eval's batches."""
        return tuple(dict.fromkeys((self.key, replace(self, batching="lm-eval").key)))

    @property
    def protocol(self) -> ScoringProtocol:
        """The protocol that the cell is scored with."""
        names = ("limit", "shots", "batch_size", "dtype", "seed", "kv")
        fields = {name: getattr(self, name) for name in names}
        return ScoringProtocol.model_validate(fields | {"exact_batching": self.batching == "lm-eval"})

    @property
    def is_intact(self) -> bool:
        """Whether the plan is the model as it is."""
        return self.plan == Plan.identity(self.num_layers)

    def __str__(self) -> str:
        params = "".join(f" {name}={value}" for name, value in (self.params or {}).items())
        what = f"{self.variant}{params}" if self.variant else str(self.plan)
        tuned = f", {self.tuning.protocol}" if self.tuning else ""
        return f"{what} on {self.task}{tuned}" + ("" if self.kv == "exact" else f", kv {self.kv}")


_KEY = tuple("model revision dtype plan kv task shots limit seed batch_size tuning batching".split())


def cell_key(
    *,
    model: str,
    revision: str | None,
    dtype: str,
    plan: str,
    kv: str,
    task: str,
    shots: int | None,
    limit: int | None,
    seed: int,
    batch_size: int,
    tuning: Mapping[str, Any] | None,
    batching: str = "lm-eval",
) -> str:
    """The key of a cell, from its fields as an experiment asks for them: `limit` and `shots` may be None.

    Batches of lm-eval's kind are not named: keys of stores that knew no others stay what they are.
    """
    fields = (model, revision, dtype, plan, kv, task, shots, limit, seed, batch_size, tuning, batching)
    named = dict(zip(_KEY, fields, strict=True))
    if batching == "lm-eval":
        del named["batching"]
    return json.dumps(named)


def cells(experiments: Experiment | Sequence[Experiment], layers_of: Callable[[Model], int | None]) -> tuple[Cell, ...]:
    """The distinct cells of the experiments in the order to score them; `layers_of` tells the size of a model, and one
    whose size is None has none.

    Model by model, decoders before encoders; of each the intact model first, then the variants in turn, and of each
    variant points that are spread over its grid, so that a figure takes shape early. Where plans are equal, the first
    variant gives its name.
    """
    given = [experiments] if isinstance(experiments, Experiment) else list(experiments)
    parts = list(dict.fromkeys(part for experiment in given for part in experiment.parts))
    parts.sort(key=lambda part: isinstance(part, Encoder))
    models = {(model.name, model.revision): model for part in parts for model in part.models}
    found: dict[str, Cell] = {}
    for called, model in models.items():
        size = layers_of(model)
        if size is None:
            continue
        asking = [part for part in parts if called in ((one.name, one.revision) for one in part.models)]
        intact = Point("identity", {}, Plan.identity(size), "exact")
        columns = [[(part, point) for point in spread(column)] for part in asking for column in part.columns(size)]
        first = [(part, intact) for part in asking]
        for part, point in (*first, *_in_turn(columns)):
            for cell in _cells_of(part, point, model, size):
                found.setdefault(cell.key, cell)
    return tuple(found.values())


def _in_turn(columns: Iterable[Sequence[Any]]) -> Iterator[Any]:
    for row in zip_longest(*columns):
        yield from (item for item in row if item is not None)


def _cells_of(part: Grid, point: Point, model: Model, num_layers: int) -> Iterator[Cell]:
    protocol = part.protocol
    for tuning, task in product(part.tunings, part.tasks):
        path = Path(task.name) if task.is_path else None
        yield Cell(
            model=model.name,
            revision=model.revision,
            dtype=protocol.dtype,
            plan=point.plan,
            kv=point.kv,
            task=path.stem if path else task.name,
            shots=protocol.shots if task.shots is None else task.shots,
            limit=protocol.limit if task.limit is None else task.limit,
            seed=protocol.seed,
            batch_size=protocol.batch_size,
            tuning=tuning,
            batching="lm-eval" if tuning or protocol.exact_batching else "shared",
            num_layers=num_layers,
            variant=point.variant,
            params=point.params if point.variant else None,
            source=str(path) if path else None,
        )
