"""The engines of a sweep: what scores its chunks. `Local` is one model in this process; `sweep.ray` has another."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Protocol, TypeAlias

from painters.experiment import Cell
from painters.memory import free, without_locals
from painters.ranks import LostProcessError, ranks
from painters.results import Record
from painters.results.partial import Partials
from painters.sweep.chunks import Chunk, Chunks
from painters.sweep.eta import EtaEstimator
from painters.sweep.scorers import CellScorer, LoadedModel, load, score

ScoredChunk: TypeAlias = tuple[Chunk, list[list[Record]] | Exception, float]
"""A chunk, the records of each of its cells or the error that prevented them, and the seconds that it took."""


class Engine(Protocol):
    """Loads models one after the other, and scores chunks of cells with the one that is loaded."""

    workers: int  # chunks that are scored at once
    notes: Counter[str]  # what a user should know of how it went -> how often

    def load(self, cell: Cell, cells: int) -> LoadedModel:
        """Load the model of `cell`, which about so many cells need."""

    def scored(self, chunks: Chunks, eta: EtaEstimator, partials: Partials) -> Iterator[ScoredChunk]:
        """Yield every chunk as soon as it is done, also those that are put back into `chunks` on the way.

        Answers go to `partials` until their chunk is done.
        """

    def close(self) -> None:
        """Free what the engine holds."""


class Local:
    """One model in this process.

    Args:
        device: Where the model goes; None takes the device of this process.
    """

    workers = 1

    def __init__(self, device: str | None) -> None:
        self._device = device
        self._scorer: CellScorer | None = None
        self.notes: Counter[str] = Counter()

    def load(self, cell: Cell, cells: int) -> LoadedModel:
        """Load the model of `cell`, and let go of the one before it first."""
        self._scorer = None
        free()
        self._scorer = load(cell, self._device or ranks().device)
        return self._scorer

    def scored(self, chunks: Chunks, eta: EtaEstimator, partials: Partials) -> Iterator[ScoredChunk]:
        """Score one chunk after the other and yield each."""
        assert self._scorer is not None
        while chunk := chunks.take():
            eta.start(*chunk)
            began = time.monotonic()
            try:
                outcome: list[list[Record]] | Exception = score(self._scorer, chunk, eta.within, partials)
            except LostProcessError:
                raise
            except Exception as error:  # a plan, a task or a metric of others: one cell must not sink the rest
                outcome = without_locals(error)
            self.notes.update(self._scorer.notes)
            self._scorer.notes.clear()
            yield chunk, outcome, ranks().same(time.monotonic() - began)

    def close(self) -> None:
        """Let go of the model."""
        self._scorer = None
