"""Where cells are scored: a loaded model with the tasks that were prepared for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, TypeVar

from painters.errors import PaintersError
from painters.experiment import Cell
from painters.results import Asked, Record
from painters.tasks import TaskError

T = TypeVar("T")


class Tell(Protocol):
    """Called now and then: how much of a cell is done."""

    def __call__(self, done: int, total: int, what: str) -> None: ...


class Loaded(Protocol):
    """What is known of a loaded model and of the tasks that it is to be scored on."""

    @property
    def weights(self) -> str:
        """Their digest."""

    def requests(self, cell: Cell) -> str:
        """The digest of what the cell's task asks today."""

    def group(self, cell: Cell) -> Hashable:
        """What cells have in common that are scored together for less; of its own for a cell that shares nothing.

        PaintersError where the cell's task cannot be had.
        """


class Bench(Loaded, Protocol):
    """A loaded model that scores cells."""

    @property
    def notes(self) -> Counter[str]:
        """What a user should know of how it went so far, and how often."""

    def score(self, cells: Sequence[Cell], tell: Tell) -> Iterator[list[Record]]:
        """For each of the cells of one group, in their order, one record for each metric, as the scorer makes them."""


def load(cell: Cell, device: str | None) -> Bench:
    """The model of `cell`, ready to score it and its kind."""
    return Decoder(cell, device) if cell.tuning is None else Encoder(cell, device)


def loaded(cell: Cell) -> Hashable:
    """What cells have in common that one bench scores."""
    return cell.model, cell.revision, cell.dtype, cell.tuning is not None


def score(bench: Bench, cells: Sequence[Cell], tell: Tell) -> list[list[Record]]:
    """The records of each of the cells, which are of one group; PaintersError where they would not answer it."""
    return [answer(cell, records) for cell, records in zip(cells, bench.score(cells, tell), strict=True)]


def told(error: Exception) -> str:
    """Why a cell failed; of faults that are not painters' own with their kind."""
    return str(error) if isinstance(error, PaintersError) else f"{type(error).__name__}: {error}".strip()


def answer(cell: Cell, records: list[Record]) -> list[Record]:
    """The records with what was asked; PaintersError where they would not answer the cell."""
    asked = Asked(
        revision=cell.revision,
        dtype=cell.dtype,
        shots=cell.shots,
        limit=cell.limit,
        metrics=tuple(record.metric for record in records),
    )
    said = {"asked": asked, "variant": cell.variant, "params": cell.params, "model": cell.model}
    found = [record.model_copy(update=said) for record in records]
    if other := next((record for record in found if record.cell_key not in cell.keys), None):
        raise PaintersError(
            f"{cell}: what was scored answers another cell ({other.cell_key}, not {cell.key}), so this one would be "
            f"missing for ever. A task's YAML must be named as its task"
        )
    return found


class Decoder:
    """A causal language model on lm-eval's tasks."""

    def __init__(self, cell: Cell, device: str | None) -> None:
        from painters import harness

        model, tokenizer = harness.load_model(cell.model, revision=cell.revision, dtype=cell.dtype, device=device)
        self._scorer = harness.Scorer(model, tokenizer)
        self.weights = self._scorer.weights
        self.notes = self._scorer.notes
        self._tasks = _Once()

    def requests(self, cell: Cell) -> str:
        """The digest of the prompts and answers."""
        return str(self._prepared(cell).digest)

    def group(self, cell: Cell) -> Hashable:
        """One for the plans that are asked the same log-likelihoods; every plan generates by itself."""
        task = (cell.source, cell.task, cell.limit, cell.shots, cell.seed)
        alone = None if self._prepared(cell).is_scored_by_likelihood else cell.key
        return (*task, cell.kv, cell.batch_size, cell.batching, alone)

    def score(self, cells: Sequence[Cell], tell: Tell) -> Iterator[list[Record]]:
        """For each cell one record for each metric."""
        first = cells[0]
        plans = self._scorer.check([cell.plan for cell in cells], first.kv, first.batch_size)
        found = self._scorer.score(
            plans,
            self._prepared(first),
            kv=first.kv,
            batch_size=first.batch_size,
            exact_batching=first.batching == "lm-eval",
            progress=tell,
        )
        for _, records in groupby(found, key=lambda record: record.plan):
            yield list(records)

    def _prepared(self, cell: Cell) -> Any:
        from painters import harness

        def make() -> Any:
            name = cell.source or cell.task
            found = harness.prepare(name, limit=cell.limit, num_fewshot=cell.shots, seed=cell.seed)
            if len(found) > 1:
                names = ", ".join(task.name for task in found)
                raise TaskError(f"task {name!r} is a group: a cell has one task, so name them one by one ({names})")
            return found[0]

        return self._tasks.get((cell.source, cell.task, cell.limit, cell.shots, cell.seed), make)


class Encoder:
    """An encoder that learns the tasks of GLUE's kind."""

    def __init__(self, cell: Cell, device: str | None) -> None:
        from painters import glue

        self._model, self._tokenizer = glue.load_encoder(
            cell.model, revision=cell.revision, dtype=cell.dtype, device=device
        )
        self._scorer = glue.Scorer(self._model, self._tokenizer)
        self.weights = self._scorer.weights
        self.notes: Counter[str] = Counter()
        self._tasks = _Once()

    def requests(self, cell: Cell) -> str:
        """The digest of the documents to learn from and to answer."""
        return str(self._prepared(cell).digest)

    def group(self, cell: Cell) -> Hashable:
        """One for the plans that share a fine-tuning and documents; under `retuned` each has its own."""
        assert cell.tuning is not None
        self._prepared(cell)
        alone = cell.key if cell.tuning.protocol == "retuned" else None
        return cell.source, cell.task, cell.limit, cell.tuning, cell.seed, cell.batch_size, alone

    def score(self, cells: Sequence[Cell], tell: Tell) -> Iterator[list[Record]]:
        """For each cell one record for each metric."""
        first = cells[0]
        assert first.tuning is not None
        found = self._scorer.score_together(
            [cell.plan for cell in cells],
            self._prepared(first),
            first.tuning,
            seed=first.seed,
            batch_size=first.batch_size,
            progress=tell,
        )
        by_plan = {plan: list(records) for plan, records in groupby(found, key=lambda record: record.plan)}
        return (by_plan[str(cell.plan)] for cell in cells)

    def _prepared(self, cell: Cell) -> Any:
        tuning = cell.tuning
        assert tuning is not None
        task = Path(cell.source) if cell.source else cell.task
        name = (task, cell.limit, tuning.documents, tuning.max_length)
        return self._tasks.get(name, lambda: self._scorer.prepare(task, tuning, limit=cell.limit))


class _Once:
    """Makes each thing once; what could not be made fails again at once, without another minute of trying."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}
        self._failed: dict[Hashable, Exception] = {}

    def get(self, name: Hashable, make: Callable[[], T]) -> T:
        if name in self._failed:
            raise self._failed[name]
        if name not in self._made:
            try:
                self._made[name] = make()
            except Exception as error:  # a task's own code raises what it likes
                self._failed[name] = error
                raise
        made: T = self._made[name]
        return made
