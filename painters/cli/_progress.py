"""Progress: bars and spinners in a terminal, lines elsewhere, nothing without a console."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.progress import TimeRemainingColumn as TimeLeftColumn
from rich.text import Text

from painters.errors import printable

if TYPE_CHECKING:
    from painters.sweep import Progress

EVERY = 10.0  # seconds between two lines of progress in a file


@contextlib.contextmanager
def status(text: str, console: Console | None) -> Iterator[None]:
    """Nothing; meanwhile a spinner with `text` in a terminal, one line of it elsewhere."""
    told = Text(printable(text))
    if console is None:
        yield
    elif console.is_terminal:
        with console.status(told):
            yield
    else:
        console.print(told, soft_wrap=True)
        yield


class Tell:
    """Moves the bar; in a file, a line for every task instead."""

    def __init__(self, console: Console | None, bar: Bars | None) -> None:
        self._console, self._bar, self._what = console, bar, ""
        self._task = None if bar is None else bar.add_task("", total=None)

    def __call__(self, done: int, total: int, what: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, description=what)
        elif self._console is not None and what != self._what:
            self._console.print(Text(f"[{100 * done // total:3d} %] {what}"))
            self._what = what


@contextlib.contextmanager
def bar(console: Console | None) -> Iterator[Tell]:
    if console is None or not console.is_terminal:
        yield Tell(console, None)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeLeftColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield Tell(console, bars)


@contextlib.contextmanager
def showing(console: Console | None) -> Iterator[Callable[[Progress], None] | None]:
    """A function that shows progress: a bar in a terminal, lines elsewhere, and nothing without a console."""
    if console is None:
        yield None
        return
    if not console.is_terminal:
        console.print("Loading libraries and models", soft_wrap=True)
        yield _Lines(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[cells]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("Loading libraries and models", total=None, cells="", left="")

        def tell(now: Progress) -> None:
            bars.update(
                task,
                completed=now.done + now.share,
                total=now.total,
                description=now.what,
                cells=f"{now.done}/{now.total} cells",
                left=_left(now),
            )

        yield tell


class _Lines:
    """Prints a line for a cell, and none for those that follow within seconds."""

    def __init__(self, console: Console) -> None:
        self._console, self._last = console, -EVERY

    def __call__(self, now: Progress) -> None:
        last = now.done == now.total
        if last or time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            width = len(str(now.total))
            what = "done" if last else now.what
            times = f"{clock(now.elapsed)} elapsed" + ("" if last else f", {_left(now)}")
            line = f"[{now.done:{width}d}/{now.total}] {what}; {times}"
            self._console.print(line, markup=False, soft_wrap=True)


def _left(now: Progress) -> str:
    return "time left not known yet" if now.left is None else f"about {clock(now.left)} left"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03."""
    return str(timedelta(seconds=round(seconds)))
