"""Cases one after the other, each from a seed and its number, with counts, the slowest one and the largest one."""

from __future__ import annotations

import gc
import random
import resource
import sys
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

EVERY = 10.0  # seconds between two lines of progress
SHOWN = 5  # wrong cases that are printed
PAUSES = (0, 0.2, 0.5, 1)  # before a slow case is run again: others may have had the processor
LIMIT = 0.1


class Wrong(AssertionError):
    """What a case must not do."""


class Watch:
    """The longest of the calls under it, in seconds of processor time."""

    def __init__(self) -> None:
        self.longest = 0.0

    def __enter__(self) -> None:
        self._start = time.process_time()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.longest = max(self.longest, time.process_time() - self._start)


def yardstick() -> float:
    """Seconds of processor time that a fixed piece of work takes now.

    Where other processes use the same core and its caches, everything takes longer by the same factor or so.
    """
    watch = Watch()
    with watch:
        sum([len(str(number)) for number in range(20_000)])
    return watch.longest


@dataclass(frozen=True)
class Part:
    """What is fed, and what it may do: `check` returns the name of what came of an input, or raises."""

    name: str
    what: str
    cases: int  # that `make fuzz` runs
    make: Callable[[random.Random], Any]
    check: Callable[[Any, Watch], str]
    show: Callable[[Any], str] = repr
    shrink: Callable[[Any, Callable[[Any], bool]], Any] | None = None
    seconds: float | None = LIMIT
    megabytes: float | None = None  # that one input may take
    traced: int = 0  # the memory of every so many is measured


@dataclass
class Tally:
    """What came of the cases."""

    part: Part
    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, 0)
    largest: tuple[float, int] = (0.0, 0)
    grown: float = 0.0  # megabytes of the whole process
    seconds: float = 0.0
    idle: float = field(default_factory=yardstick)  # the least that the yardstick took

    def text(self) -> str:
        """The counts in a line or three."""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.outcomes.most_common())
        lines = [
            f"{self.part.name}: {self.outcomes.total():,} cases in {self.seconds:.0f} s (seed {self.seed}): {counts}; "
            f"{len(self.wrong)} wrong"
        ]
        if self.part.seconds is not None:
            lines.append(
                f"  slowest {1000 * self.slowest[0]:.1f} ms of processor time (case {self.slowest[1]}), of those above "
                f"{1000 * self.part.seconds:.0f} ms the least of {1 + len(PAUSES)} runs, in times of an idle core"
            )
        if self.part.traced:
            lines.append(
                f"  most memory for an input {self.largest[0]:.1f} MB (case {self.largest[1]}; every "
                f"{self.part.traced}th was measured); the process grew by {self.grown:.0f} MB"
            )
        return "\n".join(lines)


def case(part: Part, seed: int, number: int) -> Any:
    """The input of one case."""
    return part.make(random.Random(f"{part.name} {seed} {number}"))


def run(part: Part, seed: int, cases: int, first: int = 0, time_box: float | None = None, quiet: bool = False) -> Tally:
    """What came of `cases` cases from number `first` on, or of those that `time_box` seconds were enough for."""
    tally, start = Tally(part, seed), time.monotonic()
    before, told = resident(), start
    for done in range(cases):
        one(tally, case(part, seed, first + done), first + done, quiet)
        now = time.monotonic()
        if time_box is not None and now - start > time_box:
            break
        if now - told > EVERY:
            told = now
            tally.idle = min(tally.idle, yardstick())
            if quiet:
                continue
            progress(tally, cases, now - start, time_box)
    tally.grown, tally.seconds = resident() - before, time.monotonic() - start
    if part.megabytes is not None and tally.grown > part.megabytes + 200:
        complain(tally, f"the process grew by {tally.grown:.0f} MB", quiet)
    return tally


def one(tally: Tally, given: Any, number: int, quiet: bool) -> None:
    """Count the case."""
    part = tally.part
    try:
        outcome = limited(tally, given, number)
    except Exception as error:
        outcome = "wrong"
        told = str(error) if isinstance(error, Wrong) else traceback.format_exc()
        if part.shrink is not None:
            given = part.shrink(given, lambda smaller: fails(part, smaller))
        told = (
            f"{told}\n  input: {part.show(given)[:2000]}\n"
            f"  again: PYTHONPATH=tests python -m fuzz {part.name} --seed {tally.seed} --first {number} --cases 1"
        )
        complain(tally, told, quiet)
    tally.outcomes[outcome] += 1


def limited(tally: Tally, given: Any, number: int) -> str:
    """What came of the case; Wrong where it took too long or too much."""
    part, watch = tally.part, Watch()
    if part.traced and number % part.traced == 0:
        gc.collect()
        tracemalloc.start()
        try:
            outcome = part.check(given, watch)
            peak = tracemalloc.get_traced_memory()[1] / 1e6
        finally:
            tracemalloc.stop()
        tally.largest = max(tally.largest, (peak, number))
        if part.megabytes is not None and peak > part.megabytes:
            raise Wrong(f"took {peak:.1f} MB of memory")
        return outcome  # tracing makes everything slow
    outcome = part.check(given, watch)
    if part.seconds is not None:
        took = watch.longest
        for pause in PAUSES:
            if took < part.seconds:
                break
            time.sleep(pause)
            again, before = Watch(), yardstick()
            part.check(given, again)
            now = (before + yardstick()) / 2
            tally.idle = min(tally.idle, now)
            took = min(took, again.longest * tally.idle / now)
        tally.slowest = max(tally.slowest, (took, number))
        if took >= part.seconds:
            raise Wrong(f"took {took:.3f} s")
    return outcome


def fails(part: Part, given: Any) -> bool:
    """Whether the case is wrong."""
    try:
        part.check(given, Watch())
    except Exception:
        return True
    return False


def complain(tally: Tally, told: str, quiet: bool) -> None:
    tally.wrong.append(told)
    if len(tally.wrong) <= SHOWN and not quiet:
        print(f"WRONG, {tally.part.name}: {told}", flush=True)


def progress(tally: Tally, cases: int, elapsed: float, time_box: float | None) -> None:
    done = tally.outcomes.total()
    left = elapsed / done * (cases - done)
    if time_box is not None:
        left = min(left, time_box - elapsed)
    print(
        f"  {tally.part.name} {done:,}/{cases:,}, {len(tally.wrong)} wrong, {elapsed:.0f} s, about {left:.0f} s left",
        flush=True,
    )


def resident() -> float:
    """The most memory that this process has had, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
