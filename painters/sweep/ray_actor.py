"""What runs in a process of Ray: an actor that holds one model at a time and scores chunks of cells with it."""

from __future__ import annotations

import functools
import traceback
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from painters.experiment import Cell
from painters.memory import free
from painters.models import bundled
from painters.results import Record
from painters.results.partial import Partial, PartialsInMemory
from painters.sweep.chunks import Chunk
from painters.sweep.scorers import CellScorer, format_error, model_key, score

LoadScorer = Callable[[Cell, str | None], CellScorer]
"""Loads the model of a cell on a device; None takes the best at hand."""
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RemoteFailure:
    """An exception as data, because not every exception can be pickled."""

    reason: str
    trace: str


def _errors_as_data(method: Callable[P, T]) -> Callable[P, T | RemoteFailure]:
    """Make `method` return a RemoteFailure in place of raising an exception."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T | RemoteFailure:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            return RemoteFailure(format_error(error), traceback.format_exc())

    return call


class Actor:
    """A model in a process of its own.

    Args:
        load_scorer: Loads the model of a cell.
        device: Where models go.
        home: The folder that the driver runs in; relative paths of models start there.
    """

    def __init__(self, load_scorer: LoadScorer, device: str | None, home: str) -> None:
        self._load_scorer, self._device, self._home = load_scorer, device, home
        self._scorer: CellScorer | None = None
        self._holds: Hashable = None
        self._share = (0, 1)
        self._partials = PartialsInMemory()

    @_errors_as_data
    def load(self, cell: Cell) -> str:
        """Load the model of `cell` and return the digest of its weights."""
        return self._scorer_of(cell).weights

    @_errors_as_data
    def requests(self, cell: Cell) -> str:
        """Return the digest of what the cell's task asks."""
        return self._scorer_of(cell).requests(cell)

    @_errors_as_data
    def group(self, cell: Cell) -> Hashable:
        """Return what the cell has in common with those that are scored together with it."""
        return self._scorer_of(cell).group(cell)

    @_errors_as_data
    def score(
        self, chunk: Chunk, known: Sequence[Partial] = ()
    ) -> tuple[list[list[Record]], Counter[str], tuple[str, ...]]:
        """Return the records of each cell, what a user should know of how that went, and what was scored.

        `known` is what an interrupted scoring left; further answers go to the driver by `share`.
        """
        self._share = (0, 1)
        self._partials = PartialsInMemory(known)
        scorer = self._scorer_of(chunk[0])
        records = score(scorer, chunk, self._on_progress, self._partials)
        notes = Counter(scorer.notes)
        scorer.notes.clear()
        return records, notes, self._partials.begun

    def share(self) -> tuple[int, int, Sequence[Partial]]:
        """Return how many parts of the chunk are done, how many it has, and the answers since the last call."""
        return *self._share, self._partials.written()

    def _on_progress(self, done: int, total: int, what: str) -> None:
        self._share = (done, total)

    def _scorer_of(self, cell: Cell) -> CellScorer:
        """Return the scorer of the cell's model, which is loaded unless it is the one that is held."""
        if self._scorer is None or self._holds != model_key(cell):
            self._scorer = None
            free()
            path = Path(self._home, cell.model)
            is_name = cell.model in bundled.models() or not path.exists()
            self._scorer = self._load_scorer(cell if is_name else replace(cell, model=str(path)), self._device)
            self._holds = model_key(cell)
        return self._scorer
