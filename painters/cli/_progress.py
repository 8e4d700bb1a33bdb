"""Progress: bars and spinners in a terminal, lines of text elsewhere, nothing without a console."""

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
    """Show `text` beside a spinner within the block; where the console is no terminal, print it as a line."""
    shown = Text(printable(text))
    if console is None:
        yield
    elif console.is_terminal:
        with console.status(shown):
            yield
    else:
        console.print(shown, soft_wrap=True)
        yield


class TaskProgress:
    """Moves a bar; without one, prints a line when a task begins. It is a `progress.OnProgress`."""

    def __init__(self, console: Console | None, bars: Bars | None) -> None:
        self._console, self._bars, self._what = console, bars, ""
        self._bar = None if bars is None else bars.add_task("", total=None)

    def __call__(self, done: int, total: int, what: str) -> None:
        if self._bars is not None and self._bar is not None:
            self._bars.update(self._bar, completed=done, total=total, description=what)
        elif self._console is not None and what != self._what:
            self._console.print(Text(f"[{100 * done // total:3d} %] {what}"))
            self._what = what


@contextlib.contextmanager
def bar(console: Console | None) -> Iterator[TaskProgress]:
    """Show the progress of one model within the block, by a bar in a terminal; yield what moves it."""
    if console is None or not console.is_terminal:
        yield TaskProgress(console, None)
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
        yield TaskProgress(console, bars)


@contextlib.contextmanager
def showing(console: Console | None) -> Iterator[Callable[[Progress], None] | None]:
    """Show the progress of a sweep within the block: a bar in a terminal, lines elsewhere.

    Yields:
        What is called with each `Progress`; None without a console, where nothing is shown.
    """
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
        sweep_bar = bars.add_task("Loading libraries and models", total=None, cells="", left="")

        def on_progress(now: Progress) -> None:
            bars.update(
                sweep_bar,
                completed=now.done + now.share,
                total=now.total,
                description=now.what,
                cells=f"{now.done}/{now.total} cells",
                left=_left(now),
            )

        yield on_progress


class _Lines:
    """Prints a line of progress every `EVERY` seconds, and one at the end."""

    def __init__(self, console: Console) -> None:
        self._console, self._last = console, -EVERY

    def __call__(self, now: Progress) -> None:
        is_last = now.done == now.total
        if is_last or time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            width = len(str(now.total))
            what = "done" if is_last else now.what
            times = f"{clock(now.elapsed)} elapsed" + ("" if is_last else f", {_left(now)}")
            line = f"[{now.done:{width}d}/{now.total}] {what}; {times}"
            self._console.print(line, markup=False, soft_wrap=True)


def _left(now: Progress) -> str:
    return "time left not known yet" if now.left is None else f"about {clock(now.left)} left"


def clock(seconds: float) -> str:
    """Return hours, minutes and seconds as text, such as 1:02:03."""
    return str(timedelta(seconds=round(seconds)))
