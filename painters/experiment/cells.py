"""The cells of experiments, and their keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

from painters.experiment.fields import Model
from painters.experiment.grid import Point, spread
from painters.experiment.protocol import Chat, ScoringProtocol
from painters.experiment.schema import Encoder, Experiment, Grid
from painters.experiment.tuning import Tuning
from painters.plan import Plan
from painters.tasks import task_name

__all__ = ["Cell", "cell_key", "cells"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of model, plan, task and protocol.

    It gives one score, which may have several metrics. Two cells are equal if all fields are equal that can change the
    score: all but the last four.

    Attributes:
        model: The name of the model.
        revision: Its revision on the hub; None for the newest.
        dtype: The number type of the weights; "auto" for the checkpoint's.
        plan: The plan that the model runs.
        kv: How parallel groups fill the cache: "exact" or "averaged".
        task: The name of the task.
        shots: The number of examples in the prompt; None for the task's own number.
        limit: The number of documents, from the first on, or a share of them; None for all.
        seed: The seed of the few-shot prompts, or of an encoder's fine-tuning.
        batch_size: Rows in a batch.
        tuning: The fine-tuning of an encoder; None for a decoder, which lm-eval scores as it is.
        batching: "lm-eval" for its own batches, or "shared" for batches that plans share. A score in lm-eval's batches
            answers a cell with shared ones too.
        sample: The number of documents that are drawn at random; None for those of `limit`.
        sample_seed: The seed of the draw; None where none are drawn.
        chat: How prompts are made into conversations; None for lm-eval's plain prompts.
        stack: The stack of layers that the plan runs, such as "decoder"; None for the model's only one.
        num_layers: The number of layers in the model.
        variant: The name of the rule that built the plan; None if the file gives the plan.
        params: The parameters of that rule.
        source: The path of the task, if the experiment gives one.

    Examples:
        >>> from painters.experiment import cells, load
        >>> cell = cells(load("fig8"), lambda model: 12)[5]
        >>> print(cell)
        parallel start=0 loops=1 on nano_arc
        >>> cell.model, cell.plan, cell.limit, cell.is_intact
        ('nano-llama', Plan('0 {1-11}'), 300, False)
    """

    model: str
    revision: str | None
    dtype: str
    plan: Plan
    kv: str
    task: str
    shots: int | None
    limit: int | float | None
    seed: int
    batch_size: int
    tuning: Tuning | None = None
    batching: str = "lm-eval"
    sample: int | None = None
    sample_seed: int | None = None
    chat: Chat | None = None
    stack: str | None = None

    # These follow from the fields above, or say where they came from. They are not in the key.
    num_layers: int = field(compare=False, kw_only=True)
    variant: str | None = field(default=None, compare=False)
    params: Mapping[str, int | str] | None = field(default=None, compare=False)
    source: str | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        """The text that identifies the cell: everything that is requested and can change the score."""
        fields = {name: getattr(self, name) for name in _KEY_FIELDS} | {"plan": str(self.plan)}
        nested = {name: value and value.model_dump() for name, value in (("tuning", self.tuning), ("chat", self.chat))}
        return cell_key(**fields | nested)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the cells whose scores answer this one: its own, and that with lm-eval's batches."""
        return tuple(dict.fromkeys((self.key, replace(self, batching="lm-eval").key)))

    @property
    def protocol(self) -> ScoringProtocol:
        """The protocol that the cell is scored with."""
        names = ("limit", "sample", "shots", "batch_size", "dtype", "seed", "kv")
        fields = {name: getattr(self, name) for name in names} | {"sample_seed": self.sample_seed or 0}
        fields |= {} if self.chat is None else self.chat.model_dump()
        return ScoringProtocol.model_validate(fields | {"exact_batching": self.batching == "lm-eval"})

    @property
    def is_intact(self) -> bool:
        """Whether the plan is the model as it is."""
        return self.plan == Plan.identity(self.num_layers)

    def __str__(self) -> str:
        params = "".join(f" {name}={value}" for name, value in (self.params or {}).items())
        plan = f"{self.variant}{params}" if self.variant else str(self.plan)
        tuned = f", {self.tuning.protocol}" if self.tuning else ""
        return f"{plan} on {self.task}{tuned}" + ("" if self.kv == "exact" else f", kv {self.kv}")


_LATER_FIELDS = {"batching": "lm-eval", "sample": None, "sample_seed": None, "chat": None, "stack": None}
"""The fields that keys got later, with the values that are left out of them: keys in older stores stay valid."""
_KEY_FIELDS = (*"model revision dtype plan kv task shots limit seed batch_size tuning".split(), *_LATER_FIELDS)


def cell_key(  # noqa: PLR0913 - a key is made of all its fields, each by name
    *,
    model: str,
    revision: str | None,
    dtype: str,
    plan: str,
    kv: str,
    task: str,
    shots: int | None,
    limit: int | float | None,
    seed: int,
    batch_size: int,
    tuning: Mapping[str, Any] | None,
    batching: str = "lm-eval",
    sample: int | None = None,
    sample_seed: int | None = None,
    chat: Mapping[str, Any] | None = None,
    stack: str | None = None,
) -> str:
    """Return the key of a cell.

    Args:
        model: The name of the model.
        revision: Its revision; None for the newest.
        dtype: The number type of the weights, as requested.
        plan: The canonical text of the plan.
        kv: How parallel groups fill the cache.
        task: The name of the task.
        shots: The number of examples in the prompt, as requested; None for the task's own number.
        limit: The number of documents or the share of them, as requested; None for all.
        seed: The seed of the prompts or the fine-tuning.
        batch_size: Rows in a batch.
        tuning: The fields of the fine-tuning; None for a decoder.
        batching: The kind of batches. This field and the next ones are left out of the key where they have their
            defaults, so that the keys in stores from before there were others stay valid.
        sample: The number of documents to draw at random, as requested; None where none are drawn.
        sample_seed: The seed of the draw.
        chat: The fields of `Chat`; None for lm-eval's plain prompts.
        stack: The stack of layers, as requested; None for the model's only one.

    Returns:
        The key: a JSON object of the fields.

    Examples:
        >>> from painters.experiment import cell_key
        >>> cell_key(model="nano-llama", revision=None, dtype="auto", plan="0-3", kv="exact", task="nano_arc",
        ...          shots=None, limit=2, seed=1234, batch_size=8, tuning=None)
        '{"model": "nano-llama", "revision": null, "dtype": "auto", "plan": "0-3", "kv": "exact", ...}'
    """
    first = (model, revision, dtype, plan, kv, task, shots, limit, seed, batch_size, tuning)
    fields = dict(zip(_KEY_FIELDS, (*first, batching, sample, sample_seed, chat, stack), strict=True))
    return json.dumps(
        {name: value for name, value in fields.items() if name not in _LATER_FIELDS or value != _LATER_FIELDS[name]}
    )


def cells(experiments: Experiment | Sequence[Experiment], layers_of: Callable[[Model], int | None]) -> tuple[Cell, ...]:
    """Return the distinct cells of experiments, in the order in which to score them.

    Decoders come before encoders, and each model's cells are together. The intact model is its first plan. The
    variants follow in turn, each with points spread over its range, so that a figure takes shape early. If variants
    build equal plans, the first of them names the cell.

    Args:
        experiments: One experiment or several.
        layers_of: A function that returns the number of layers of a model, or None to leave the model out.

    Returns:
        The cells, each once.

    Raises:
        ExperimentError: A variant does not fit a model of this size, or there are too many cells.

    Examples:
        >>> from painters.experiment import cells, load
        >>> requested = cells(load("fig8"), lambda model: 12)
        >>> len(requested), requested[0].model, requested[0].is_intact
        (90, 'nano-llama', True)
    """
    several = [experiments] if isinstance(experiments, Experiment) else list(experiments)
    grids = list(dict.fromkeys(grid for experiment in several for grid in experiment.parts))
    grids.sort(key=lambda grid: isinstance(grid, Encoder))
    models = {_identifier(model): model for grid in grids for model in grid.models}
    distinct: dict[str, Cell] = {}
    for identifier, model in models.items():
        size = layers_of(model)
        if size is None:
            continue
        of_model = [grid for grid in grids if identifier in map(_identifier, grid.models)]
        intact = Point("identity", {}, Plan.identity(size), "exact")
        columns = [[(grid, point) for point in spread(column)] for grid in of_model for column in grid.columns(size)]
        first = [(grid, intact) for grid in of_model]
        for grid, point in (*first, *_in_turn(columns)):
            for cell in _cells_of(grid, point, model, size):
                distinct.setdefault(cell.key, cell)
    return tuple(distinct.values())


def _identifier(model: Model) -> tuple[str | None, ...]:
    """Return what is equal for entries of the same stack of the same model."""
    return model.name, model.revision, model.stack


def _in_turn(columns: Iterable[Sequence[Any]]) -> Iterator[Any]:
    """Yield the first item of each column, then the second of each, and so on."""
    for row in zip_longest(*columns):
        yield from (item for item in row if item is not None)


def _cells_of(grid: Grid, point: Point, model: Model, num_layers: int) -> Iterator[Cell]:
    """Yield the cells of one point of a grid: one for each tuning and task."""
    protocol = grid.protocol
    for tuning, task in product(grid.tunings, grid.tasks):
        path = Path(task.name) if task.is_path else None
        sample = protocol.sample if task.limit is None else None
        yield Cell(
            model=model.name,
            revision=model.revision,
            dtype=protocol.dtype,
            plan=point.plan,
            kv=point.kv,
            task=task_name(path) if path else task.name,
            shots=protocol.shots if task.shots is None else task.shots,
            limit=protocol.limit if task.limit is None else task.limit,
            sample=sample,
            sample_seed=None if sample is None else protocol.sample_seed,
            chat=protocol.chat,
            seed=protocol.seed,
            batch_size=protocol.batch_size,
            tuning=tuning,
            batching="lm-eval" if tuning or protocol.exact_batching else "shared",
            stack=model.stack,
            num_layers=num_layers,
            variant=point.variant,
            params=point.params if point.variant else None,
            source=str(path) if path else None,
        )
