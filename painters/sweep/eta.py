"""How long cells take: seconds per layer run and document, learnt from the cells that are done."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from painters.experiment import Cell
from painters.experiment.tuning import Tuning
from painters.results import Record

Key = tuple[str, str, str | None]  # model, task, protocol of the tuning
TRAINING = 3  # a training step costs about three times the forward: backward computes two gradients of each product
EVERY = 0.2  # seconds between two reports of one cell


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a sweep stands; `left` is None as long as nothing is known."""

    done: int  # cells scored or failed
    total: int
    what: str
    share: float  # of the present cells, from 0 to 1
    elapsed: float  # seconds
    left: float | None  # seconds, estimated


def passes(documents: int, training: int | None, tuning: Tuning | None) -> int:
    """How many documents a cell sends through the model, a training step counted as `TRAINING` forwards."""
    if tuning is None or tuning.protocol == "operated" or training is None:
        return documents
    seen = training if tuning.documents is None else min(training, tuning.documents)
    # Frozen layers give each document its states once; what learns behind them costs next to nothing.
    return documents + (seen if tuning.protocol == "frozen" else TRAINING * tuning.epochs * seen)


@dataclass(slots=True)
class Rate:
    """Seconds per layer run and document, as one fraction over all that was seen."""

    seconds: float = 0.0
    work: float = 0.0

    def add(self, seconds: float, work: float) -> None:
        self.seconds, self.work = self.seconds + seconds, self.work + work


@dataclass(slots=True)
class Rates:
    """The rates of model, task and protocol."""

    by_key: dict[Key, Rate] = field(default_factory=lambda: defaultdict(Rate))

    def learn(self, key: Key, seconds: float, work: float) -> None:
        """Nothing; so much work of this kind took so many seconds."""
        self.by_key[key].add(seconds, work)

    def of(self, key: Key) -> float | None:
        """Seconds per unit of work of this very kind; None where none was seen."""
        rate = self.by_key.get(key)
        return rate.seconds / rate.work if rate and rate.work else None

    def overall(self, model: str | None = None) -> float | None:
        """Seconds per unit of work over all kinds, or over those of `model`."""
        seen = [rate for key, rate in self.by_key.items() if model in (None, key[0])]
        work = sum(rate.work for rate in seen)
        return sum(rate.seconds for rate in seen) / work if work else None


def key_of(cell: Cell | Record) -> Key:
    """What cells must share for one to tell how long the other takes."""
    return cell.model, cell.task, cell.tuning.protocol if cell.tuning else None


def recorded(records: Iterable[Record], training: Callable[[str], int | None]) -> Rates:
    """The rates in a store; `training` tells the number of training documents of a task."""
    rates = Rates()
    for record in records:
        if record.asked is not None:  # each metric of a cell states the seconds and the work of the whole
            documents = passes(record.documents, training(record.task), record.tuning)
            rates.learn(key_of(record), record.seconds, record.layer_runs * documents)
    return rates


class Pace:
    """Counts the cells of a sweep, and says after each how much time is left."""

    def __init__(self, before: Rates, work: Callable[[Cell], float], tell: Callable[[Progress], None] | None) -> None:
        self._before, self._now, self._work, self._tell = before, Rates(), work, tell
        self._began = time.monotonic()
        self._waiting: dict[Key, float] = defaultdict(float)  # work by kind
        self._shares: dict[Cell, float] = {}  # of the cells that run now, from 0 to 1
        self._what = ""
        self._told = 0.0
        self.done = self.total = 0
        self.workers = 1

    @property
    def elapsed(self) -> float:
        """Seconds since the sweep began."""
        return time.monotonic() - self._began

    def expect(self, cells: Iterable[Cell]) -> None:
        """Nothing; these cells are to be done too."""
        for cell in cells:
            self.total += 1
            self._waiting[key_of(cell)] += self._work(cell)

    def start(self, *cells: Cell) -> None:
        """Nothing; these cells run now, together."""
        self._shares.update(dict.fromkeys(cells, 0.0))
        self._what = str(cells[0]) if len(cells) == 1 else f"{len(cells)} plans on {cells[0].task}"
        self._report()

    def within(self, done: int, total: int, what: str = "", *, cells: Iterable[Cell] | None = None) -> None:
        """Nothing; so much of `cells`, or of all that run, is done. A progress function of the harness."""
        self._shares.update(dict.fromkeys(self._shares if cells is None else cells, done / total if total else 0.0))
        if time.monotonic() - self._told > EVERY:
            self._report()

    def stop(self, *cells: Cell) -> None:
        """Nothing; these cells do not run any more, and are to be done as before."""
        for cell in cells:
            self._shares.pop(cell, None)

    def finish(self, cell: Cell, seconds: float | None) -> None:
        """Nothing; `cell` took so many seconds, or failed with None."""
        self.done += 1
        self.stop(cell)
        self._waiting[key_of(cell)] -= self._work(cell)
        if seconds is not None:
            self._now.learn(key_of(cell), seconds, self._work(cell))
        self._report()

    def left(self) -> float | None:
        """Seconds, each kind at the rate of the nearest that is known: itself now, itself before, its model, any."""
        share: dict[Key, float] = defaultdict(float)
        for cell, done in self._shares.items():
            share[key_of(cell)] += done * self._work(cell)
        total = 0.0
        for key, work in self._waiting.items():
            rates = (self._now.of(key), self._before.of(key), self._now.overall(key[0]), self._now.overall())
            rate = next((rate for rate in (*rates, self._before.overall()) if rate is not None), None)
            if work > 0 and rate is None:
                return None
            total += (rate or 0.0) * max(0.0, work - share.get(key, 0.0))
        return total / max(1, min(self.workers, self.total - self.done))

    def _report(self) -> None:
        self._told = time.monotonic()
        if self._tell is not None:
            share = sum(self._shares.values()) / max(1, len(self._shares))
            self._tell(Progress(self.done, self.total, self._what, share, self.elapsed, self.left()))
