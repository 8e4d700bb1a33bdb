"""Alternatives measured in turn in one process, their ratios with the spread, and the machine that they hold for."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

Entered = Callable[[], AbstractContextManager[Callable[[], object]]]
"""Makes everything ready and gives what is to be timed; leaving the context takes it down. Neither is timed."""


@dataclass(frozen=True)
class Timing:
    """The seconds of one alternative for one call, round by round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def over(self, base: Timing) -> Ratio:
        """How many times the seconds of `base`, whose rounds lie beside these."""
        rounds = [mine / other for mine, other in zip(self.seconds, base.seconds, strict=True)]
        low, high = quartiles(rounds)
        return Ratio(self.median / base.median, low, high)


@dataclass(frozen=True)
class Ratio:
    """The ratio of two medians, and the quartiles of the ratios within the rounds."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third quartile; of a single value, that value twice."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def clock(device: torch.device) -> Callable[[], float]:
    """What tells the seconds: of this process on the CPU, or of the wall with all work of the GPU finished."""

    def finished() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return finished if device.type == "cuda" else time.process_time


def ready(call: Callable[[], object]) -> Entered:
    """A call that needs nothing around it."""
    return lambda: nullcontext(call)


def in_turn(
    alternatives: Mapping[str, Entered], *, rounds: int, number: int = 1, clock: Callable[[], float] = time.process_time
) -> dict[str, Timing]:
    """The seconds of each alternative for `number` calls, `rounds` times, after a round that is not counted.

    A round calls every alternative once, and every round begins with another one, so that what a machine does beside
    them meets all alike.
    """
    names = list(alternatives)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with torch.no_grad():
        for turn in range(-1, rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                with alternatives[name]() as call:
                    began = clock()
                    for _ in range(number):
                        call()
                    taken = (clock() - began) / number
                if turn >= 0:
                    seconds[name].append(taken)
    return {name: Timing(tuple(taken)) for name, taken in seconds.items()}


def machine(*more: str) -> dict[str, Any]:
    """The processor, the cores, the threads used, and the versions of the libraries, `more` among them."""
    libraries = ("torch", "transformers", "lm_eval", *more)
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{library: version for library in libraries if (version := version_of(library)) is not None},
    }


def version_of(library: str) -> str | None:
    """The version of an installed library; None where it is not installed."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Nothing; prints a table, its first column to the left and the others to the right."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row))
    terminal = Console()
    Console(width=terminal.width if terminal.is_terminal else 140).print(table)


def write(path: Path | None, found: Mapping[str, Any]) -> None:
    """Nothing; the numbers are in the file `path`, if there is to be one."""
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
