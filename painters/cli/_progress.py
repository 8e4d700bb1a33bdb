"""Progress: bars and spinners in a terminal, lines of text elsewhere, nothing without a console."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from painters.errors import printable
from painters.progress import silent_libraries

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


def _bars(console: Console) -> Bars:
    """Return the display of a bar: what is done, on one line or two, the bar, the time, and what stands beside it."""
    return Bars(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=4)),
        TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
        TextColumn("{task.fields[beside]}", markup=False, table_column=Column(no_wrap=True, min_width=18)),
        console=console,
        transient=True,
        expand=True,
    )


class TaskProgress:
    """Moves a bar; without one, prints a line when a task begins and every few seconds. A `progress.OnProgress`.

    Args:
        console: Where lines are printed; None prints nothing.
        bars: Where there is a bar; None prints lines.
        tasks: How many requests and documents each task has, in order; None where it is documents that are counted.
    """

    def __init__(
        self, console: Console | None, bars: Bars | None, tasks: Sequence[tuple[int, int]] | None = None
    ) -> None:
        self._console, self._bars, self._tasks, self._what = console, bars, tasks, ""
        self._bar = None if bars is None else bars.add_task("", total=None, beside="")
        self._began = time.monotonic()
        self._printed_at = -EVERY
        self._first: tuple[float, float] | None = None  # the documents at the first report, and when that was

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        asked, documents = self._in_documents(done, total)
        if self._first is None:
            self._first = asked, now
        left = _left(self._seconds_left(asked, documents, now))
        if self._bars is not None and self._bar is not None:
            text = f"{what}\n{int(asked)}/{documents} documents"
            self._bars.update(self._bar, completed=asked, total=documents, description=text, beside=left)
        elif self._console is not None and (what != self._what or now - self._printed_at >= EVERY):
            times = f"{int(asked)}/{documents} documents; {clock(now - self._began)} elapsed, {left}"
            self._console.print(Text(f"[{int(100 * asked) // max(1, documents):3d} %] {what}, {times}"), soft_wrap=True)
            self._what, self._printed_at = what, now

    def _in_documents(self, done: int, total: int) -> tuple[float, int]:
        """Return how many documents are done, with parts of them, and how many there are."""
        if self._tasks is None:
            return done, total
        requests = sum(count for count, _ in self._tasks)
        asked, left = 0.0, done * requests / max(1, total)
        for count, documents in self._tasks:
            asked += documents * min(1.0, left / max(1, count))
            left = max(0.0, left - count)
        return asked + 1e-9, sum(documents for _, documents in self._tasks)

    def _seconds_left(self, asked: float, documents: int, now: float) -> float | None:
        """Return the estimated seconds that are left, by the pace since the first report."""
        first, then = self._first or (0.0, now)
        return (now - then) * max(0.0, documents - asked) / (asked - first) if asked > first else None


@contextlib.contextmanager
def bar(console: Console | None, tasks: Sequence[tuple[int, int]] | None = None) -> Iterator[TaskProgress]:
    """Show the progress of one model within the block, by a bar in a terminal; yield what moves it.

    `tasks` are the numbers of requests and documents of each task; None where it is documents that are counted.
    """
    with silent_libraries():
        if console is None or not console.is_terminal:
            yield TaskProgress(console, None, tasks)
            return
        with _bars(console) as bars:
            yield TaskProgress(console, bars, tasks)


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
    with _bars(console) as bars:
        sweep_bar = bars.add_task("Loading libraries and models", total=None, beside="")

        def on_progress(now: Progress) -> None:
            bars.update(
                sweep_bar,
                completed=now.done + now.share * now.cells,
                total=now.total,
                description=_what(now, "\n"),
                beside=f"{now.done}/{now.total} cells\n{_left(now.left)}",
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
            what = "done" if is_last else _what(now, ", ")
            times = f"{clock(now.elapsed)} elapsed" + ("" if is_last else f", {_left(now.left)}")
            line = f"[{now.done:{width}d}/{now.total}] {what}; {times}"
            self._console.print(line, markup=False, soft_wrap=True)


def _what(now: Progress, between: str) -> str:
    """Return what is scored at present, with its documents where their number is known."""
    asked, documents = now.documents
    return f"{now.what}{between}{asked}/{documents} documents" if documents else now.what


def _left(seconds: float | None) -> str:
    return "time left not known yet" if seconds is None else f"about {clock(seconds)} left"


def clock(seconds: float) -> str:
    """Return hours, minutes and seconds as text, such as 1:02:03."""
    return str(timedelta(seconds=round(seconds)))
