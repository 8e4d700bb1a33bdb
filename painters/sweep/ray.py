"""Score chunks on actors of Ray: on the GPUs of a cluster, or on the processor cores of this machine.

Each actor holds one model at a time, and gets the next chunk whenever it is done with one. Actors get cells and return
records; the driver alone reads and writes the store. A chunk whose actor was lost is scored again, and a new actor
replaces the lost one.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from painters.errors import PaintersError
from painters.experiment import Cell
from painters.results.partial import Partials
from painters.sweep.chunks import Chunk, Chunks
from painters.sweep.eta import EtaEstimator
from painters.sweep.local import ScoredChunk
from painters.sweep.ray_actor import Actor, LoadScorer, RemoteFailure
from painters.sweep.ray_cluster import Cluster, EngineError, require
from painters.sweep.scorers import LoadedModel, format_error, load

__all__ = ["ActorError", "EngineError", "LostWorkerError", "Ray", "require"]

TRIES = 3
"""How often a chunk may lose its actor. Then each of its cells is tried by itself, as often, before it has failed."""
EVERY = 1.0  # seconds between two looks at how far the chunks are


class ActorError(PaintersError):
    """What went wrong in an actor; a note on the exception holds the traceback there."""


class LostWorkerError(PaintersError):
    """An actor that is gone, or that cannot be reached."""


@dataclass(frozen=True, slots=True)
class _Job:
    """What an actor is doing: scoring a chunk, or loading a model, where the chunk is empty."""

    actor: Any
    chunk: Chunk = ()
    deaths: int = 0  # of the actors before it that died while they loaded this model
    began: float = 0.0


class Ray:
    """An engine of actors. Each has a GPU of its own where the cluster has some, else one processor core.

    The cluster is that of RAY_ADDRESS, or the one that this process has joined, or else one that is started here and
    ends with the engine.

    Args:
        workers: The number of actors; None takes as many as the cluster has GPUs, or cores.
        device: Where each actor's model goes, such as "cpu"; None takes a GPU where the cluster has some.
        load_scorer: Loads the model of a cell; called in the actors.
    """

    def __init__(self, workers: int | None, device: str | None, load_scorer: LoadScorer = load) -> None:
        self.notes: Counter[str] = Counter()
        self._cluster = Cluster(workers, device)
        self._ray = self._cluster.ray
        self.workers = self._cluster.workers
        remote = self._ray.remote(**self._cluster.options, max_restarts=0, concurrency_groups={"look": 1})
        self._class = remote(Actor)
        self._arguments = (load_scorer, device, str(Path.cwd()))
        self._idle: list[Any] = []
        self._jobs: dict[Any, _Job] = {}
        self._error: Exception | None = None  # why the last worker was given up
        self._cell: Cell | None = None
        self._weights: str | None = None
        self._partials = Partials(None)

    def load(self, cell: Cell, cells: int) -> LoadedModel:
        """Return the model of `cell` as soon as one actor holds it; the other actors go on loading."""
        actors = [*self._idle, *(job.actor for job in self._jobs.values())]
        self._cell, self._weights, self._idle, self._jobs = cell, None, [], {}
        for actor in actors:
            self._begin(actor)
        self._grow(max(1, cells))
        return _RemoteModel(self._wait(), self._ask)

    def scored(self, chunks: Chunks, eta: EtaEstimator, partials: Partials) -> Iterator[ScoredChunk]:
        """Yield every chunk as soon as an actor is done with it."""
        self._partials = partials
        deaths: Counter[Chunk] = Counter()
        self._grow(len(chunks))
        while chunks or any(job.chunk for job in self._jobs.values()):
            while chunks and self._idle:
                self._score(chunks.take(), eta)
            if not self._jobs:
                assert self._error is not None
                yield chunks.take(), self._error, 0.0
                continue
            if (ended := self._ended(EVERY)) is None:
                self._look(eta)
                continue
            job, answer = ended
            if not job.chunk:
                self._settle(job, answer)
                continue
            if not isinstance(answer, LostWorkerError):
                self._idle.append(job.actor)
            else:
                self._replace(job)
                deaths[job.chunk] += 1
                if deaths[job.chunk] < TRIES:
                    eta.stop(*job.chunk)
                    chunks.retry(job.chunk)
                    continue
            if not isinstance(answer, Exception):
                answer, notes, scorings = answer
                self.notes.update(notes)
                partials.take(scorings)
            yield job.chunk, answer, time.monotonic() - job.began

    def close(self) -> None:
        """End the actors, and the cluster too if it was started here."""
        for actor in (*self._idle, *(job.actor for job in self._jobs.values())):
            self._ray.kill(actor)
        self._cluster.close()

    def _score(self, chunk: Chunk, eta: EtaEstimator) -> None:
        """Give `chunk` to the actor that has been idle for longest."""
        actor = self._idle.pop(0)
        eta.start(*chunk)
        known = self._partials.lines(chunk[0].task, map(str, (cell.plan for cell in chunk)))
        self._jobs[actor.score.remote(chunk, known)] = _Job(actor, chunk, began=time.monotonic())

    def _grow(self, cells: int) -> None:
        """Start actors until there are as many as workers, but no more than `cells`."""
        while len(self._idle) + len(self._jobs) < min(self.workers, cells):
            self._begin(self._class.remote(*self._arguments))

    def _begin(self, actor: Any, deaths: int = 0) -> None:
        """Let `actor` load the present model."""
        self._jobs[actor.load.remote(self._cell)] = _Job(actor, deaths=deaths)

    def _replace(self, job: _Job) -> None:
        """End an actor that is lost, for it may only be out of reach, and start another in its place."""
        self.notes["A worker was lost and replaced"] += 1
        self._ray.kill(job.actor)
        self._begin(self._class.remote(*self._arguments), 0 if job.chunk else job.deaths + 1)

    def _settle(self, job: _Job, answer: Any) -> None:
        """Make an actor that has loaded idle; replace one that was lost, or give up one that cannot load."""
        if isinstance(answer, LostWorkerError) and job.deaths + 1 < TRIES:
            self._replace(job)
            return
        if not isinstance(answer, Exception):
            self._weights = self._weights or answer
            if answer == self._weights:
                self._idle.append(job.actor)
                return
            answer = EngineError(
                f"{self._cell.model if self._cell else ''}: one worker has other weights ({answer}) than the first "
                f"({self._weights}): give every machine the same files, or a revision"
            )
        self._error = answer
        self.notes[f"A worker was given up: {format_error(answer)}"] += 1
        self._ray.kill(job.actor)

    def _wait(self) -> str:
        """Wait until an actor is idle and return the digest of its weights; raise why none can load them."""
        while not self._idle:
            if not self._jobs:
                assert self._error is not None
                raise self._error
            ended = self._ended(None)
            assert ended is not None
            self._settle(*ended)
        return self._weights or ""

    def _ask(self, method: str, cell: Cell) -> Any:
        """Return what an idle actor's method answers; where the actor is lost, ask another one."""
        for _ in range(TRIES):
            self._wait()
            actor = self._idle[0]
            answer = self._answer(getattr(actor, method).remote(cell))
            if not isinstance(answer, LostWorkerError):
                break
            self._replace(_Job(self._idle.pop(0)))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ended(self, seconds: float | None) -> tuple[_Job, Any] | None:
        """Return the next job that ends, with its answer or error; None if none does within so many seconds."""
        done, _ = self._ray.wait(list(self._jobs), timeout=seconds)
        return (self._jobs.pop(done[0]), self._answer(done[0])) if done else None

    def _answer(self, reference: Any) -> Any:
        """Return an actor's answer; where something went wrong, return (not raise) the exception."""
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            return LostWorkerError(f"the worker that scored it was lost, {TRIES} times in a row: {why}")
        if isinstance(answer, RemoteFailure):
            failure = ActorError(answer.reason)
            failure.add_note(answer.trace)
            return failure
        return answer

    def _look(self, eta: EtaEstimator) -> None:
        """Ask the actors how far their chunks are, pass it on to `eta`, and keep the answers that they have so far."""
        jobs = [job for job in self._jobs.values() if job.chunk]
        shares = [job.actor.share.options(concurrency_group="look").remote() for job in jobs]
        for job, share in zip(jobs, shares, strict=True):
            with contextlib.suppress(self._ray.exceptions.RayError):  # `_ended` meets the actors that are lost
                done, total, partials = self._ray.get(share, timeout=EVERY)
                eta.within(done, total, cells=job.chunk)
                self._partials.take((), partials)


@dataclass(frozen=True, slots=True)
class _RemoteModel:
    """A model that actors hold."""

    weights: str
    ask: Callable[[str, Cell], Any]

    def requests(self, cell: Cell) -> str:
        return str(self.ask("requests", cell))

    def group(self, cell: Cell) -> Hashable:
        key: Hashable = self.ask("group", cell)
        return key
