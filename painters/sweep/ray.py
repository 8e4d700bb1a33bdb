"""Chunks scored by actors of Ray, on the GPUs of a cluster or the processor cores of this machine.

Each actor holds one model at a time and takes the next chunk whenever it is done with one. It is told cells and answers
with records: the driver alone reads and writes the store. A chunk whose actor was lost is scored again, and a new actor
takes the place of the lost one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from painters.errors import PaintersError
from painters.experiment import Cell
from painters.memory import free
from painters.models import bundled
from painters.results import Record
from painters.sweep.chunks import Chunk, Chunks
from painters.sweep.eta import Pace
from painters.sweep.local import Scored
from painters.sweep.scorers import Bench, Loaded, load, loaded, score, told

TRIES = 3
"""How often a chunk may lose its actor; then each of its cells by itself, and then the cell has failed."""
EVERY = 1.0  # seconds between two looks at how far the chunks are

Make = Callable[[Cell, str | None], Bench]
P = ParamSpec("P")
T = TypeVar("T")


class EngineError(PaintersError):
    """Ray, or a cluster, that cannot be had as asked for."""


class ActorError(PaintersError):
    """What went wrong in an actor; a note holds the traceback there."""


class Lost(PaintersError):
    """An actor that is gone, or that cannot be reached."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """An exception as data: not every exception survives its way through pickle."""

    reason: str
    trace: str


def _as_data(method: Callable[P, T]) -> Callable[P, T | _Failed]:
    """The method, which answers with what went wrong in place of raising it."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T | _Failed:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            return _Failed(told(error), traceback.format_exc())

    return call


class Actor:
    """A model in a process of its own; relative paths of models are those of the driver's folder `home`."""

    def __init__(self, make: Make, device: str | None, home: str) -> None:
        self._make, self._device, self._home = make, device, home
        self._bench: Bench | None = None
        self._holds: Hashable = None
        self._share = (0, 1)

    @_as_data
    def load(self, cell: Cell) -> str:
        """The digest of the weights of the cell's model, which is loaded."""
        return self._at(cell).weights

    @_as_data
    def requests(self, cell: Cell) -> str:
        """As a bench does."""
        return self._at(cell).requests(cell)

    @_as_data
    def group(self, cell: Cell) -> Hashable:
        """As a bench does."""
        return self._at(cell).group(cell)

    @_as_data
    def score(self, chunk: Chunk) -> tuple[list[list[Record]], Counter[str]]:
        """The records of each cell, and what the bench has noted since it was asked last."""
        self._share = (0, 1)
        bench = self._at(chunk[0])
        found = score(bench, chunk, self._tell)
        notes = Counter(bench.notes)
        bench.notes.clear()
        return found, notes

    def share(self) -> tuple[int, int]:
        """How much of the chunk is done, and how much there is of it."""
        return self._share

    def _tell(self, done: int, total: int, what: str) -> None:
        self._share = (done, total)

    def _at(self, cell: Cell) -> Bench:
        if self._bench is None or self._holds != loaded(cell):
            self._bench = None
            free()
            folder = Path(self._home, cell.model)
            known = cell.model in bundled.models() or not folder.is_dir()
            self._bench = self._make(cell if known else replace(cell, model=str(folder)), self._device)
            self._holds = loaded(cell)
        return self._bench


@dataclass(frozen=True, slots=True)
class _Job:
    """What an actor is at: a chunk, or loading, where there is none."""

    actor: Any
    chunk: Chunk = ()
    deaths: int = 0  # of those that loaded in this place before
    began: float = 0.0


class Ray:
    """An engine of actors. Each has a GPU of its own where the cluster has some, else one processor core.

    The cluster is that of RAY_ADDRESS, or the one that this process has joined, or else one that is started here and
    ends with the engine. `workers` defaults to as many as the cluster has GPUs, or cores.
    """

    def __init__(self, workers: int | None, device: str | None, make: Make = load) -> None:
        if device is not None and ":" in device and not device.endswith(":0"):
            raise EngineError(f"device {device!r} with the engine ray, which gives each worker a GPU: leave it out")
        self.notes: Counter[str] = Counter()
        self._ray = _imported()
        self._open = contextlib.ExitStack()
        try:
            self.workers, options = self._start(workers, device)
        except BaseException:
            self.close()
            raise
        self._class = self._ray.remote(**options, max_restarts=0, concurrency_groups={"look": 1})(Actor)
        self._arguments = (make, device, str(Path.cwd()))
        self._idle: list[Any] = []
        self._jobs: dict[Any, _Job] = {}
        self._error: Exception | None = None  # why the last worker was given up
        self._cell: Cell | None = None
        self._weights: str | None = None

    def load(self, cell: Cell, cells: int) -> Loaded:
        """The model of `cell`, as soon as one actor holds it; the others are loading."""
        actors = [*self._idle, *(job.actor for job in self._jobs.values())]
        self._cell, self._weights, self._idle, self._jobs = cell, None, [], {}
        for actor in actors:
            self._begin(actor)
        self._grow(max(1, cells))
        return _Remote(self._wait(), self._ask)

    def scored(self, chunks: Chunks, pace: Pace) -> Iterator[Scored]:
        """Every chunk as soon as some actor is done with it."""
        deaths: Counter[Chunk] = Counter()
        self._grow(len(chunks))
        while chunks or any(job.chunk for job in self._jobs.values()):
            while chunks and self._idle:
                chunk, actor = chunks.take(), self._idle.pop(0)
                pace.start(*chunk)
                self._jobs[actor.score.remote(chunk)] = _Job(actor, chunk, began=time.monotonic())
            if not self._jobs:
                assert self._error is not None
                yield chunks.take(), self._error, 0.0
                continue
            if (ended := self._ended(EVERY)) is None:
                self._look(pace)
                continue
            job, found = ended
            if not job.chunk:
                self._settle(job, found)
                continue
            if not isinstance(found, Lost):
                self._idle.append(job.actor)
            else:
                self._replace(job)
                deaths[job.chunk] += 1
                if deaths[job.chunk] < TRIES:
                    pace.stop(*job.chunk)
                    chunks.again(job.chunk)
                    continue
            if not isinstance(found, Exception):
                found, notes = found
                self.notes.update(notes)
            yield job.chunk, found, time.monotonic() - job.began

    def close(self) -> None:
        """Nothing; the actors are gone, and the cluster too if it was started here."""
        for actor in (*getattr(self, "_idle", ()), *(job.actor for job in getattr(self, "_jobs", {}).values())):
            self._ray.kill(actor)
        self._open.close()

    def _start(self, workers: int | None, device: str | None) -> tuple[int, dict[str, int]]:
        """The number of workers, and what each of them needs of the cluster."""
        loud = bool(os.environ.get("PAINTERS_TRACEBACK"))
        if not loud:
            self._open.enter_context(_quiet())
        if not self._ray.is_initialized():
            address, cores = os.environ.get("RAY_ADDRESS"), _cores()
            here = {"address": "local", "num_cpus": max(workers or 0, cores), "include_dashboard": False}
            self._open.callback(self._ray.shutdown)
            with _own_signals():
                try:
                    self._ray.init(
                        **({} if address else here), log_to_driver=loud, logging_level="INFO" if loud else "ERROR"
                    )
                except (ConnectionError, RuntimeError, ValueError) as error:
                    where = f"the cluster at RAY_ADDRESS={address}" if address else "a cluster on this machine"
                    raise EngineError(f"engine ray: {where} cannot be had: {error}") from error
        resources = self._ray.cluster_resources()
        gpus = 0 if device is not None and not device.startswith("cuda") else int(resources.get("GPU", 0))
        found = gpus or int(resources.get("CPU", 0))
        kind = "GPU" if gpus else "CPU"
        if (workers or 1) > found:
            raise EngineError(
                f"engine ray: {workers or 1} workers need {workers or 1} {kind}s, one each, and the cluster has {found}"
            )
        return workers or found, {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": 1}

    def _grow(self, cells: int) -> None:
        """Nothing; there are as many actors as workers, and no more than so many cells need."""
        while len(self._idle) + len(self._jobs) < min(self.workers, cells):
            self._begin(self._class.remote(*self._arguments))

    def _begin(self, actor: Any, deaths: int = 0) -> None:
        self._jobs[actor.load.remote(self._cell)] = _Job(actor, deaths=deaths)

    def _replace(self, job: _Job) -> None:
        """Nothing; another actor loads in the place of the one that is lost, or that only does not answer."""
        self.notes["A worker was lost and replaced"] += 1
        self._ray.kill(job.actor)
        self._begin(self._class.remote(*self._arguments), 0 if job.chunk else job.deaths + 1)

    def _settle(self, job: _Job, found: Any) -> None:
        """Nothing; the actor has loaded and is idle, or is replaced, or is given up for this model."""
        if isinstance(found, Lost) and job.deaths + 1 < TRIES:
            self._replace(job)
            return
        if not isinstance(found, Exception):
            self._weights = self._weights or found
            if found == self._weights:
                self._idle.append(job.actor)
                return
            found = EngineError(
                f"{self._cell.model if self._cell else ''}: one worker has other weights ({found}) than the first "
                f"({self._weights}): give every machine the same files, or a revision"
            )
        self._error = found
        self.notes[f"A worker was given up: {told(found)}"] += 1
        self._ray.kill(job.actor)

    def _wait(self) -> str:
        """The digest of the weights; an actor is idle. Raises what kept the last one from it."""
        while not self._idle:
            if not self._jobs:
                assert self._error is not None
                raise self._error
            ended = self._ended(None)
            assert ended is not None
            self._settle(*ended)
        return self._weights or ""

    def _ask(self, method: str, cell: Cell) -> Any:
        """What an idle actor answers; of another one where that was lost."""
        for _ in range(TRIES):
            self._wait()
            actor = self._idle[0]
            found = self._got(getattr(actor, method).remote(cell))
            if not isinstance(found, Lost):
                break
            self._replace(_Job(self._idle.pop(0)))
        if isinstance(found, Exception):
            raise found
        return found

    def _ended(self, seconds: float | None) -> tuple[_Job, Any] | None:
        """The next job that ends, with its answer or why there is none; None if so many seconds pass."""
        done, _ = self._ray.wait(list(self._jobs), timeout=seconds)
        return (self._jobs.pop(done[0]), self._got(done[0])) if done else None

    def _got(self, reference: Any) -> Any:
        """An actor's answer; what went wrong as an exception that is returned."""
        try:
            found = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            return Lost(f"the worker that scored it was lost, {TRIES} times in a row: {why}")
        if isinstance(found, _Failed):
            failed = ActorError(found.reason)
            failed.add_note(found.trace)
            return failed
        return found

    def _look(self, pace: Pace) -> None:
        """Nothing; `pace` knows how far the chunks are that run."""
        jobs = [job for job in self._jobs.values() if job.chunk]
        asked = [job.actor.share.options(concurrency_group="look").remote() for job in jobs]
        with contextlib.suppress(self._ray.exceptions.RayError):  # a lost one is met elsewhere
            for job, (done, total) in zip(jobs, self._ray.get(asked, timeout=EVERY), strict=True):
                pace.within(done, total, cells=job.chunk)


@dataclass(frozen=True, slots=True)
class _Remote:
    """A model as an actor knows it."""

    weights: str
    ask: Callable[[str, Cell], Any]

    def requests(self, cell: Cell) -> str:
        return str(self.ask("requests", cell))

    def group(self, cell: Cell) -> Hashable:
        found: Hashable = self.ask("group", cell)
        return found


def require() -> None:
    """Nothing; EngineError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise EngineError("engine ray: Ray is not installed. To have it: pip install 'painters[ray]'")


def _imported() -> Any:
    # Read when ray is imported: nothing is reported to anybody, and no lines are held back to be printed at the end.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    require()
    return importlib.import_module("ray")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Nothing; SIGTERM means afterwards what it meant before, for Ray sets a handler of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing; meanwhile the threads in which Ray prints its news write nothing to stdout."""

    class Stdout:
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        def write(self, text: str) -> int:
            if threading.current_thread().name.startswith("ray_"):
                return len(text)
            return int(self._stream.write(text))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

    with contextlib.redirect_stdout(Stdout(sys.stdout)):
        yield
