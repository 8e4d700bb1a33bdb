"""Measure alternatives in turn in one process; report ratios with their spread, and the machine."""

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

Alternative = Callable[[], AbstractContextManager[Callable[[], object]]]
"""Enters a context that yields the call to time. Entering and leaving are not timed."""


@dataclass(frozen=True)
class Timing:
    """The seconds per call of one alternative, round by round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.seconds)

    def over(self, base: Timing) -> Ratio:
        """Return the ratio to `base`, which was measured in the same rounds."""
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
    """Return the first and the third quartile; of a single value, that value twice."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def clock(device: torch.device) -> Callable[[], float]:
    """Return a clock: CPU seconds of this process, or with a GPU wall seconds once its work is done."""

    def finished() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return finished if device.type == "cuda" else time.process_time


def ready(call: Callable[[], object]) -> Alternative:
    """Return the alternative of a call that needs no context."""
    return lambda: nullcontext(call)


def in_turn(
    alternatives: Mapping[str, Alternative],
    *,
    rounds: int,
    number: int = 1,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Timing]:
    """Return the seconds per call of each alternative in `rounds` rounds, after one that is not counted.

    A round calls every alternative `number` times in turn. Every round starts with another alternative, so that other
    work of the machine affects all alike.
    """
    names = list(alternatives)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with torch.no_grad():
        for turn in range(-1, rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                with alternatives[name]() as call:
                    start = clock()
                    for _ in range(number):
                        call()
                    per_call = (clock() - start) / number
                if turn >= 0:
                    seconds[name].append(per_call)
    return {name: Timing(tuple(per_round)) for name, per_round in seconds.items()}


def machine(*more: str) -> dict[str, Any]:
    """Return the processor, its cores, the threads used, and versions of libraries, including `more`."""
    libraries = ("torch", "transformers", "lm_eval", *more)
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{library: version for library in libraries if (version := version_of(library)) is not None},
    }


def version_of(library: str) -> str | None:
    """Return the version of an installed library; None where it is not installed."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table whose first column is aligned left and the others right."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row))
    terminal = Console()
    Console(width=terminal.width if terminal.is_terminal else 140).print(table)


def write(path: Path | None, report: Mapping[str, Any]) -> None:
    """Write the numbers to the file `path`, if one is given."""
    if path is not None:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
