"""What scores cells: a loaded model with the tasks that were prepared for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, TypeVar

from painters.errors import PaintersError
from painters.experiment import Cell
from painters.progress import OnProgress
from painters.results import Asked, Record
from painters.results.partial import Partials
from painters.tasks import TaskError

T = TypeVar("T")


class LoadedModel(Protocol):
    """What is known about a loaded model and the tasks that it is scored on."""

    @property
    def weights(self) -> str:
        """The digest of its weights."""

    def requests(self, cell: Cell) -> str:
        """Return the digest of what the cell's task asks today."""

    def group(self, cell: Cell) -> Hashable:
        """Return what is equal for cells that cost less when they are scored together.

        A cell that shares nothing is a group of its own. Raises PaintersError where the cell's task cannot be loaded.
        """


class CellScorer(LoadedModel, Protocol):
    """A loaded model that scores cells."""

    @property
    def notes(self) -> Counter[str]:
        """What a user should know about the scoring so far, and how often it happened."""

    def score(self, cells: Sequence[Cell], on_progress: OnProgress, partials: Partials) -> Iterator[list[Record]]:
        """Yield the records of each cell, one for each metric, without what the cell asked.

        Args:
            cells: Cells of one group.
            on_progress: Called now and then with how much is done.
            partials: What an interrupted sweep left of them, and where answers are kept until there are records.
        """


def load(cell: Cell, device: str | None) -> CellScorer:
    """Load the model of `cell`, ready to score every cell with the same `model_key`."""
    return DecoderScorer(cell, device) if cell.tuning is None else EncoderScorer(cell, device)


def model_key(cell: Cell) -> Hashable:
    """Return what is equal for cells that one loaded model scores."""
    return cell.model, cell.revision, cell.dtype, cell.stack, cell.tuning is not None


def score(scorer: CellScorer, cells: Sequence[Cell], on_progress: OnProgress, partials: Partials) -> list[list[Record]]:
    """Return the records of each cell with what the cell asked; the cells are of one group.

    Raises PaintersError where the records would not answer a cell.
    """
    scored = scorer.score(cells, on_progress, partials)
    return [records_for(cell, records) for cell, records in zip(cells, scored, strict=True)]


def format_error(error: Exception) -> str:
    """Return why a cell failed; errors that are not painters' own come with their class."""
    return str(error) if isinstance(error, PaintersError) else f"{type(error).__name__}: {error}".strip()


def records_for(cell: Cell, records: list[Record]) -> list[Record]:
    """Return the records with what the cell asked; raise PaintersError where they would not answer it."""
    asked = Asked(
        revision=cell.revision,
        dtype=cell.dtype,
        shots=cell.shots,
        limit=cell.limit,
        sample=cell.sample,
        sample_seed=cell.sample_seed,
        metrics=tuple(record.metric for record in records),
    )
    fields = {"asked": asked, "variant": cell.variant, "params": cell.params, "model": cell.model}
    answers = [record.model_copy(update=fields) for record in records]
    if other := next((record for record in answers if record.cell_key not in cell.keys), None):
        raise PaintersError(
            f"{cell}: what was scored answers another cell ({other.cell_key}, not {cell.key}), so this one would "
            f"stay missing. A task's YAML must be named as its task"
        )
    return answers


class DecoderScorer:
    """Scores the cells of a causal language model on lm-eval's tasks."""

    def __init__(self, cell: Cell, device: str | None) -> None:
        from painters import harness

        model, tokenizer = harness.load_model(cell.model, revision=cell.revision, dtype=cell.dtype, device=device)
        self._scorer = harness.Scorer(model, tokenizer, cell.stack)
        self.weights = self._scorer.weights
        self.notes = self._scorer.notes
        self._tasks = _Once()

    def requests(self, cell: Cell) -> str:
        """Return the digest of the prompts and answers."""
        return str(self._prepared(cell).digest)

    def group(self, cell: Cell) -> Hashable:
        """Return the same for plans that are asked the same log-likelihoods; every plan generates by itself."""
        own_group = None if self._prepared(cell).is_scored_by_likelihood else cell.key
        return cell.source, cell.task, cell.protocol, own_group

    def score(self, cells: Sequence[Cell], on_progress: OnProgress, partials: Partials) -> Iterator[list[Record]]:
        """Yield the records of each cell, one for each metric."""
        protocol, task = cells[0].protocol, self._prepared(cells[0])
        plans = self._scorer.check([cell.plan for cell in cells], protocol)
        scored = self._scorer.score(plans, task, protocol, progress=on_progress, partials=partials)
        for _, records in groupby(scored, key=lambda record: record.plan):
            yield list(records)

    def _prepared(self, cell: Cell) -> Any:
        """Return the cell's task with its requests, which is prepared once."""
        from painters.harness.tasks import prepare_with

        def make() -> Any:
            name = cell.source or cell.task
            prepared = prepare_with(name, cell.protocol, self._scorer.tokenizer)
            if len(prepared) > 1:
                names = ", ".join(task.name for task in prepared)
                raise TaskError(f"task {name!r} is a group: a cell has one task, so name them one by one ({names})")
            self.notes.update(prepared[0].notes)
            return prepared[0]

        asked = cell.source, cell.task, cell.protocol.selection, cell.shots, cell.seed, cell.chat
        return self._tasks.get(asked, make)


class EncoderScorer:
    """Scores the cells of an encoder, which is fine-tuned on tasks in the form of GLUE's."""

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
        """Return the digest of the documents to learn from and to answer."""
        return str(self._prepared(cell).digest)

    def group(self, cell: Cell) -> Hashable:
        """Return the same for plans that share a fine-tuning and documents; under `retuned` each has its own."""
        assert cell.tuning is not None
        self._prepared(cell)
        own_group = cell.key if cell.tuning.protocol == "retuned" else None
        selection = cell.protocol.selection
        return cell.source, cell.task, selection, cell.tuning, cell.seed, cell.batch_size, own_group

    def score(self, cells: Sequence[Cell], on_progress: OnProgress, partials: Partials) -> Iterator[list[Record]]:
        """Return the records of each cell, one for each metric."""
        first = cells[0]
        assert first.tuning is not None
        scored = self._scorer.score_together(
            [cell.plan for cell in cells],
            self._prepared(first),
            first.tuning,
            seed=first.seed,
            batch_size=first.batch_size,
            progress=on_progress,
            partials=partials,
        )
        by_plan = {plan: list(records) for plan, records in groupby(scored, key=lambda record: record.plan)}
        return (by_plan[str(cell.plan)] for cell in cells)

    def _prepared(self, cell: Cell) -> Any:
        """Return the cell's task with its documents, which is prepared once."""
        tuning = cell.tuning
        assert tuning is not None
        task = Path(cell.source) if cell.source else cell.task
        selected: dict[str, Any] = {"limit": cell.limit, "sample": cell.sample, "sample_seed": cell.sample_seed}

        def make() -> Any:
            prepared = self._scorer.prepare(task, tuning, **selected)
            self.notes.update(prepared.notes)
            return prepared

        name = (task, cell.protocol.selection, tuning.documents, tuning.max_length)
        return self._tasks.get(name, make)


class _Once:
    """Makes each thing once; what failed fails again at once, without another minute of trying."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}
        self._errors: dict[Hashable, Exception] = {}

    def get(self, name: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returned for this name at its first call, or raise what it raised then."""
        if name in self._errors:
            raise self._errors[name]
        if name not in self._made:
            try:
                self._made[name] = make()
            except Exception as error:  # a task's own code raises what it likes
                self._errors[name] = error
                raise
        made: T = self._made[name]
        return made
