"""Writers of one store that are killed at random moments, and what is in the store when the last one may finish."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from painters.results import Record, ResultsWarning, Store

COSTS = {"seconds", "date", "command"}  # what may differ between two runs
WITHIN = 0.03  # seconds after a record, in which the next is being written or begun


@dataclass(slots=True)
class Tally:
    """What happened, and what came of it."""

    signals: Counter[str] = field(default_factory=Counter)  # that ended a writer
    moments: Counter[str] = field(default_factory=Counter)  # what a writer had done by then
    finished: int = 0  # writers that ended by themselves
    failed: list[str] = field(default_factory=list)  # writers that ended otherwise
    rounds: int = 0  # stores
    lines: int = 0  # written, those included that say again what another writer wrote
    left_out: int = 0  # damaged or unfinished
    records: int = 0  # that count
    lost: int = 0
    doubled: int = 0
    different: int = 0

    @property
    def kills(self) -> int:
        return sum(self.signals.values())

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.different or self.failed)

    def text(self) -> str:
        signals, moments = (", ".join(f"{n} {what}" for what, n in of.items()) for of in (self.signals, self.moments))
        return (
            f"{self.kills} kills ({signals}; {moments}), {self.finished} writers ended by themselves, "
            f"{self.rounds} stores filled.\n"
            f"{self.lines} lines written, {self.left_out} of them torn; {self.records} records count: "
            f"{self.lost} lost, {self.doubled} doubled, {self.different} different from an undisturbed run"
            + "".join(f"\nfailed: {told}" for told in self.failed)
        )


@dataclass(slots=True)
class Writer:
    """A process that writes, and when it is to be killed: so many seconds after so many bytes."""

    process: int
    signal: int
    after: int  # bytes in its own file
    delay: float
    due: float | None = None  # on the monotonic clock, once the bytes are there
    sent: bool = False


def content(records: list[Record]) -> Counter[str]:
    """All that is recorded but what it cost, when and by which command -> how often."""
    return Counter(record.model_dump_json(exclude=COSTS) for record in records)


def fork(work: Callable[[], object], log: Path) -> int:
    """The id of a process that does `work` on what is loaded here already, and prints into `log`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn where a library has started threads
        process = os.fork()
    if process:
        return process
    code = 1
    try:
        number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(number, stream)
        work()
        code = 0
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def storm(
    work: Callable[[Path], object],
    folder: Path,
    whole: list[Record],
    *,
    kills: int,
    writers: int,
    seed: int,
    longest: float,
    tell: Callable[[Tally], None] = lambda tally: None,
) -> Tally:
    """What came of so many kills of so many processes at once that do `work` on a store in `folder`.

    A kill comes up to `longest` seconds after the start, or within moments of a record of that process. A store that is
    filled is compared with the records of an undisturbed run, `whole`, and another is begun.
    """
    moments, tally, store = random.Random(seed), Tally(), folder / "store-0"
    running: dict[int, Writer] = {}
    seen: set[bytes] = set()
    log, is_filled = folder / "log", False
    while tally.kills < kills:
        while len(running) < writers:
            number = moments.choice((signal.SIGKILL, signal.SIGTERM))
            after = moments.choice((0, 0, 1, 1, 3000))
            delay = moments.uniform(0, WITHIN if after else longest)
            process = fork(partial(work, store), log)
            running[process] = Writer(process, number, after, delay)
        time.sleep(0.001)
        for writer in list(running.values()):
            _fire(writer, store)
            ended, status = os.waitpid(writer.process, os.WNOHANG)
            if not ended:
                continue
            del running[writer.process]
            seen |= _lines(store)
            code = os.waitstatus_to_exitcode(status)
            is_filled |= code == 0
            _note(writer, code, store, tally)
            tell(tally)
        if is_filled:
            _end(running)
            _compare(work, store, whole, seen, tally, log)
            is_filled, seen, store = False, set(), folder / f"store-{tally.rounds}"
    _end(running)
    _compare(work, store, whole, seen, tally, log)
    tally.failed += _tracebacks(log.read_text(errors="replace"))
    return tally


def _tracebacks(told: str) -> list[str]:
    """The tracebacks in a log, but for those of a signal that met a destructor, of which Python itself tells."""
    lines = told.splitlines()
    begins = [number for number, line in enumerate(lines) if line.startswith("Traceback")]
    return [
        "\n".join(lines[number : number + 30])
        for number in begins
        if not number or not lines[number - 1].startswith("Exception ignored in")
    ]


def _fire(writer: Writer, store: Path) -> None:
    """Send the writer its signal when it is due."""
    if writer.sent:
        return
    if writer.due is None and (not writer.after or _size(writer, store) >= writer.after):
        writer.due = time.monotonic() + writer.delay
    if writer.due is not None and time.monotonic() >= writer.due:
        writer.sent = True
        os.kill(writer.process, writer.signal)


def _size(writer: Writer, store: Path) -> int:
    """Bytes in the writer's own file."""
    return sum(path.stat().st_size for path in store.glob(f"*-{writer.process}.jsonl"))


def _note(writer: Writer, code: int, store: Path, tally: Tally) -> None:
    """Count how the writer ended."""
    if code == 0:
        tally.finished += 1
    elif writer.sent and code in (-writer.signal, 128 + writer.signal):
        tally.signals[signal.Signals(writer.signal).name] += 1
        tally.moments["after records" if _size(writer, store) else "before any"] += 1
    else:
        tally.failed.append(f"a writer ended with code {code}")


def _end(running: dict[int, Writer]) -> None:
    """End the writers that still run, without counting them."""
    for process in running:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    running.clear()


def _compare(
    work: Callable[[Path], object], store: Path, whole: list[Record], seen: set[bytes], tally: Tally, log: Path
) -> None:
    """Let one more writer finish, and count what is in the store then."""
    seen |= _lines(store)
    _, status = os.waitpid(fork(partial(work, store), log), 0)
    if code := os.waitstatus_to_exitcode(status):
        tally.failed.append(f"the last writer ended with code {code}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResultsWarning)
        found = content(Store(store).records())
    expected = content(whole)
    lines = [line for path in store.glob("*.jsonl") for line in path.read_bytes().splitlines(keepends=True)]
    tally.rounds += 1
    tally.lines += len(lines)
    tally.left_out += sum(not line.endswith(b'"}\n') for line in lines)
    tally.records += found.total()
    tally.lost += len(seen - set(lines)) + len(expected - found)
    tally.doubled += sum(count - 1 for count in found.values())
    tally.different += len(found.keys() - expected.keys())


def _lines(store: Path) -> set[bytes]:
    """The whole lines in the store's files."""
    return {
        line
        for path in store.glob("*.jsonl")
        for line in path.read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
    }
