"""A sweep that is stopped at random moments: how many answers it is asked for twice, and what its records are."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from faults.kills import content, fork
from painters.harness.kept import KeptLikelihoods
from painters.plan import Plan
from painters.results import Record, Store


@dataclass(slots=True)
class Tally:
    """What happened, and what it cost."""

    stops: Counter[str] = field(default_factory=Counter)  # signals that ended a sweep
    finished: int = 0  # sweeps that ended by themselves
    whole: int = 0  # log-likelihoods that an undisturbed sweep asks for
    twice: int = 0  # log-likelihoods that were asked for again
    allowed: int = 0  # the most that may be: a chunk of documents for each stop
    different: int = 0  # records that are not those of an undisturbed sweep
    left: int = 0  # files of partial results after a sweep that ended
    failed: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return self.twice <= self.allowed and not (self.different or self.left or self.failed)

    def text(self) -> str:
        signals = ", ".join(f"{number} {name}" for name, number in self.stops.items())
        return (
            f"{self.stops.total()} stops ({signals}), {self.finished} sweeps ended by themselves, each with "
            f"{self.whole} log-likelihoods: {self.twice} asked twice ({self.allowed} allowed, a chunk for each stop), "
            f"{self.different} records different from an undisturbed sweep, {self.left} files left over"
            + "".join(f"\nfailed: {told}" for told in self.failed)
        )


def counting(work: Callable[[Path], object], log: Path, store: Path) -> None:
    """Do `work` on a store, and note in `log` how many log-likelihoods of each batch begin to be asked for."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in the background
    whole = KeptLikelihoods.lacking
    number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def lacking(kept: KeptLikelihoods, requests: Sequence[int]) -> tuple[Plan, ...]:
        plans = whole(kept, requests)
        if plans:
            os.write(number, b"%d %d\n" % (len(plans), len(requests)))
        return plans

    KeptLikelihoods.lacking = lacking  # type: ignore[method-assign]  # in a process of its own
    work(store)


def asked(log: Path) -> list[int]:
    """The log-likelihoods of each batch that was begun."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [int(plans) * int(requests) for plans, requests in map(str.split, lines)]


def twentieth(batches: list[int]) -> int:
    """The log-likelihoods of a chunk: a twentieth of all, and the batch that runs."""
    return sum(batches) // 20 + max(batches)


def storm(
    work: Callable[[Path], object],
    folder: Path,
    *,
    stops: int,
    signals: Sequence[int],
    seed: int,
    between: tuple[float, float],
    chunk: Callable[[list[int]], int],
) -> Tally:
    """What came of a sweep that is stopped so many times, each time some share of its time after its start.

    Args:
        work: Sweeps into a store.
        folder: Where stores and logs go.
        stops: How many stops.
        signals: One of these each time.
        seed: Of the moments.
        between: The least and the largest share of an undisturbed sweep's seconds, from the start to the stop.
        chunk: How many log-likelihoods one stop may lose, by the batches of an undisturbed sweep.
    """
    tally, moments, round_ = Tally(), random.Random(seed), 0
    began = time.monotonic()
    os.waitpid(fork(partial(counting, work, folder / "whole.log", folder / "whole"), folder / "said"), 0)
    whole, batches = Store(folder / "whole").records(), asked(folder / "whole.log")
    tally.whole, seconds = sum(batches), time.monotonic() - began
    while tally.stops.total() < stops and round_ < 5 * stops:
        store, log = folder / f"store-{round_}", folder / f"log-{round_}"
        stopped = 0
        while True:
            process = fork(partial(counting, work, log, store), folder / "said")
            number = moments.choice(list(signals))
            wants_stop = tally.stops.total() < stops
            if wants_stop and _stop(process, number, seconds * moments.uniform(*between)):
                tally.stops[signal.Signals(number).name] += 1
                stopped += 1
                continue
            if not wants_stop and (code := os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])):
                tally.failed.append(f"a sweep ended with code {code}")
            if wants_stop:
                seconds *= 0.7  # the stop came too late: the undisturbed sweep had a slower machine
            break
        _compare(tally, store, whole)
        tally.twice += sum(asked(log)) - tally.whole
        tally.allowed += stopped * chunk(batches)
        tally.finished += 1
        round_ += 1
    return tally


def _stop(process: int, number: int, seconds: float) -> bool:
    """Send a signal after so many seconds and wait for the end; False where the process had ended by itself."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(process, os.WNOHANG)[0]:
            return False
        time.sleep(0.005)
    os.kill(process, number)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status) != 0


def _compare(tally: Tally, store: Path, whole: list[Record]) -> None:
    """Count the records that differ from those of an undisturbed sweep, and what is left over."""
    found, expected = content(Store(store).records()), content(whole)
    tally.different += (found - expected).total() + (expected - found).total()
    tally.left += len(list(store.glob("*.partial")))
