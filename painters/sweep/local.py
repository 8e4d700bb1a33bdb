"""Who scores the chunks of a sweep: a model in this process, or whatever else is an `Engine`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Protocol, TypeAlias

from painters.experiment import Cell
from painters.memory import free, without_locals
from painters.ranks import LostProcessError, ranks
from painters.results import Record
from painters.sweep.chunks import Chunk, Chunks
from painters.sweep.eta import Pace
from painters.sweep.scorers import Bench, Loaded, load, score

Scored: TypeAlias = tuple[Chunk, list[list[Record]] | Exception, float]
"""A chunk, the records of each of its cells or why there are none, and the seconds that it took."""


class Engine(Protocol):
    """Loads models one after the other, and scores chunks of cells with the one that is loaded."""

    workers: int  # chunks that are scored at once
    notes: Counter[str]  # what a user should know of how it went -> how often

    def load(self, cell: Cell, cells: int) -> Loaded:
        """The model of `cell`, which about so many cells ask for."""

    def scored(self, chunks: Chunks, pace: Pace) -> Iterator[Scored]:
        """Every chunk as soon as it is done, those included that are added on the way."""

    def close(self) -> None:
        """Nothing; what the engine held is free."""


class Local:
    """One model in this process."""

    workers = 1

    def __init__(self, device: str | None) -> None:
        self._device = device
        self._bench: Bench | None = None
        self.notes: Counter[str] = Counter()

    def load(self, cell: Cell, cells: int) -> Loaded:
        """The model of `cell`; the one before is let go of first."""
        self._bench = None
        free()
        self._bench = load(cell, self._device or ranks().device)
        return self._bench

    def scored(self, chunks: Chunks, pace: Pace) -> Iterator[Scored]:
        """Chunk after chunk."""
        assert self._bench is not None
        while chunk := chunks.take():
            pace.start(*chunk)
            began = time.monotonic()
            try:
                found: list[list[Record]] | Exception = score(self._bench, chunk, pace.within)
            except LostProcessError:
                raise
            except Exception as error:  # a plan, a task or a metric of others: one cell must not sink the rest
                found = without_locals(error)
            self.notes.update(self._bench.notes)
            self._bench.notes.clear()
            yield chunk, found, ranks().same(time.monotonic() - began)

    def close(self) -> None:
        """Nothing; the model is let go of."""
        self._bench = None
