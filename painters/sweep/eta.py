"""How long cells take: seconds per layer run and document, learnt from the cells that are done."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from painters.experiment import Cell
from painters.experiment.tuning import Tuning
from painters.results import Record

RateKey = tuple[str, str, str | None]  # model, task, protocol of the tuning
TRAINING = 3  # a training step costs about three times the forward: backward computes two gradients of each product
EVERY = 0.2  # seconds between two reports of one cell


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sweep is.

    Attributes:
        done: Cells that are scored or have failed.
        total: Cells to be scored.
        what: What is scored at present.
        share: How much of the present cells is done, from 0 to 1.
        documents: How many documents the present cells have been asked, of all that they have.
        elapsed: Seconds since the sweep began.
        left: Estimated seconds until it ends; None as long as nothing was timed.
        cells: How many cells are scored at present.

    Examples:
        >>> now = Progress(3, 12, "2 plans on nano_arc", share=0.5, elapsed=7.0, left=None, documents=(3, 6), cells=2)
        >>> f"{now.done + now.share * now.cells} of {now.total} cells"
        '4.0 of 12 cells'
    """

    done: int
    total: int
    what: str
    share: float
    elapsed: float
    left: float | None
    documents: tuple[int, int] = (0, 0)
    cells: int = 1


def passes(documents: int, training: int | None, tuning: Tuning | None) -> int:
    """Return how many documents a cell sends through the model.

    A training step counts as `TRAINING` forwards.

    Args:
        documents: Documents that the cell scores.
        training: Documents of the task's training split; None where their number is not known.
        tuning: How an encoder is fine-tuned; None for a decoder.
    """
    if tuning is None or tuning.protocol == "operated" or training is None:
        return documents
    seen = training if tuning.documents is None else min(training, tuning.documents)
    # Frozen layers compute the states of each document once; training the classifier on them costs next to nothing.
    return documents + (seen if tuning.protocol == "frozen" else TRAINING * tuning.epochs * seen)


@dataclass(slots=True)
class Rate:
    """Seconds per layer run and document: the total of the seconds over the total of the work."""

    seconds: float = 0.0
    work: float = 0.0

    def add(self, seconds: float, work: float) -> None:
        """Count work, in layer runs times documents, that took so many seconds."""
        self.seconds, self.work = self.seconds + seconds, self.work + work


@dataclass(slots=True)
class Rates:
    """The rate of each model, task and protocol."""

    by_key: dict[RateKey, Rate] = field(default_factory=lambda: defaultdict(Rate))

    def copy(self) -> Rates:
        """Return rates that can learn more without changing these."""
        rates = Rates()
        for key, rate in self.by_key.items():
            rates.learn(key, rate.seconds, rate.work)
        return rates

    def learn(self, key: RateKey, seconds: float, work: float) -> None:
        """Count work of this key that took so many seconds."""
        self.by_key[key].add(seconds, work)

    def of(self, key: RateKey) -> float | None:
        """Return the seconds per unit of work of exactly this key; None where none was timed."""
        rate = self.by_key.get(key)
        return rate.seconds / rate.work if rate and rate.work else None

    def overall(self, model: str | None = None) -> float | None:
        """Return the seconds per unit of work over all keys or those of `model`; None where none was timed."""
        rates = [rate for key, rate in self.by_key.items() if model in (None, key[0])]
        work = sum(rate.work for rate in rates)
        return sum(rate.seconds for rate in rates) / work if work else None


@dataclass(slots=True)
class _Running:
    """Cells that are scored together now: since when, and how much of them is done, from 0 to 1."""

    cells: tuple[Cell, ...]
    began: float
    share: float = 0.0
    first: float | None = None  # the share at the first report: what an interrupted sweep had done already

    def reach(self, share: float) -> None:
        """Note how much is done."""
        self.share = share
        if self.first is None:
            self.first, self.began = share, time.monotonic()


def key_of(cell: Cell | Record) -> RateKey:
    """Return what two cells have in common if the time of one predicts the time of the other."""
    return cell.model, cell.task, cell.tuning.protocol if cell.tuning else None


def recorded(records: Iterable[Record], training: Callable[[str], int | None]) -> Rates:
    """Return the rates of the records of a store.

    Args:
        records: The records; those without `asked`, which no sweep wrote, are left out.
        training: Returns the number of training documents of a task, or None.
    """
    rates = Rates()
    for record in records:
        if record.asked is not None:  # each metric of a cell states the seconds and the work of the whole cell
            documents = passes(record.documents, training(record.task), record.tuning)
            rates.learn(key_of(record), record.seconds, record.layer_runs * documents)
    return rates


class EtaEstimator:
    """Counts the cells of a sweep, and estimates after each how much time is left.

    Args:
        before: The rates of the store's records, for kinds of cells of which this sweep has timed none yet.
        work: Returns the work of a cell, in layer runs times documents.
        on_progress: Called with each `Progress`; None reports nothing.
        documents: Returns the number of documents that a cell scores; None where it is not known.
    """

    def __init__(
        self,
        before: Rates,
        work: Callable[[Cell], float],
        on_progress: Callable[[Progress], None] | None,
        documents: Callable[[Cell], int | None] = lambda _: None,
    ) -> None:
        self._before, self._now, self._work, self._on_progress = before, Rates(), work, on_progress
        self._documents = documents
        self._began = time.monotonic()
        self._waiting: dict[RateKey, float] = defaultdict(float)  # work by key
        self._running: dict[Cell, _Running] = {}
        self._what = ""
        self._reported_at = 0.0
        self.done = self.total = 0
        self.workers = 1

    @property
    def elapsed(self) -> float:
        """Seconds since the sweep began."""
        return time.monotonic() - self._began

    def expect(self, cells: Iterable[Cell]) -> None:
        """Add these cells to those that are to be scored."""
        for cell in cells:
            self.total += 1
            self._waiting[key_of(cell)] += self._work(cell)

    def start(self, *cells: Cell) -> None:
        """Note that these cells are being scored now, together."""
        running = _Running(cells, time.monotonic())
        self._running.update(dict.fromkeys(cells, running))
        self._what = str(cells[0]) if len(cells) == 1 else f"{len(cells)} plans on {cells[0].task}"
        self._report()

    def within(self, done: int, total: int, what: str = "", *, cells: Iterable[Cell] | None = None) -> None:
        """Note how much of `cells` is done, or of all cells that run; this is a `progress.OnProgress`."""
        share = done / total if total else 0.0
        for cell in list(self._running) if cells is None else cells:
            if (running := self._running.get(cell)) is not None:
                running.reach(share)
        if time.monotonic() - self._reported_at > EVERY:
            self._report()

    def stop(self, *cells: Cell) -> None:
        """Note that these cells are not being scored any more, and are still to be scored."""
        for cell in cells:
            self._running.pop(cell, None)

    def finish(self, cell: Cell, seconds: float | None) -> None:
        """Note that `cell` took so many seconds; None where it failed."""
        self.done += 1
        self.stop(cell)
        self._waiting[key_of(cell)] -= self._work(cell)
        if seconds is not None:
            self._now.learn(key_of(cell), seconds, self._work(cell))
        self._report()

    def left(self) -> float | None:
        """Return the estimated seconds that are left; None while some kind of cell has no rate.

        The rate of a kind is the first known of: the kind in this sweep, the kind in the store, its model in this
        sweep, everything in this sweep, everything in the store. This sweep includes what runs at present.
        """
        share: dict[RateKey, float] = defaultdict(float)
        for cell, running in self._running.items():
            share[key_of(cell)] += running.share * self._work(cell)
        now = self._now.copy()
        for running in {id(running): running for running in self._running.values()}.values():
            work = sum(map(self._work, running.cells)) * (running.share - (running.first or 0.0))
            if work > 0:
                now.learn(key_of(running.cells[0]), time.monotonic() - running.began, work)
        total = 0.0
        for key, work in self._waiting.items():
            rates = (now.of(key), self._before.of(key), now.overall(key[0]), now.overall())
            rate = next((rate for rate in (*rates, self._before.overall()) if rate is not None), None)
            if work > 0 and rate is None:
                return None
            total += (rate or 0.0) * max(0.0, work - share.get(key, 0.0))
        return total / max(1, min(self.workers, self.total - self.done))

    def _report(self) -> None:
        self._reported_at = time.monotonic()
        if self._on_progress is not None:
            shares = [running.share for running in self._running.values()]
            share = sum(shares) / max(1, len(shares))
            self._on_progress(
                Progress(
                    done=self.done,
                    total=self.total,
                    what=self._what,
                    share=share,
                    elapsed=self.elapsed,
                    left=self.left(),
                    documents=self._documents_done(),
                    cells=len(shares),
                )
            )

    def _documents_done(self) -> tuple[int, int]:
        """Return how many documents the chunk that was begun last has been asked, and how many it has."""
        if not self._running:
            return 0, 0
        cell, running = next(reversed(self._running.items()))
        documents = self._documents(cell) or 0
        return int(running.share * documents + 1e-6), documents
