"""The store: a folder of record files, one writer each, that are read as one."""

from __future__ import annotations

import datetime
import os
import re
import socket
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from painters.experiment import Cell
from painters.results.files import STAMP, answer_for, append, in_order, intact, write_lines
from painters.results.lines import Fault, sync_folder
from painters.results.record import Record, ResultsError, key

Objection = Callable[[Cell, Record], str | None]

_TIME = "%Y%m%dT%H%M%S-%fZ"  # as STAMP has it
_PROBE = 4096  # bytes that a store has to take before a sweep loads anything


@dataclass(slots=True)
class Answers:
    """Which records answer which cells.

    A record answers the cell of the same model, revision, dtype, plan, kv, task, shots, limit, seed and batch size as
    they were asked for; one in lm-eval's batches also where shared ones would do. A scoring counts when all its metrics
    are there. Where a cell was scored again, because its weights, requests, device or libraries had changed, the latest
    scoring counts: the last in the order of the files and their lines, for clocks may go backwards.
    """

    records: dict[str, tuple[Record, ...]] = field(default_factory=dict)  # the key of the cell -> one per metric
    missing: list[Cell] = field(default_factory=list)
    refused: list[tuple[Cell, str]] = field(default_factory=list)  # scorings that do not count, and why
    contested: list[Cell] = field(default_factory=list)  # scored with several weights or requests

    def of(self, cell: Cell) -> tuple[Record, ...]:
        """The records of `cell`, none where it is missing."""
        return self.records.get(cell.key, ())


class Store:
    """A folder of record files. Reading merges all of them, writing appends to a file of this process alone.

    So writers need no locks, on no file system. Sweeps of the same cells at once score them twice, and one counts.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._mine: Path | None = None

    def records(self) -> list[Record]:
        """All intact records, file by file; of equal keys the first. A store that does not exist yet has none.

        A ResultsWarning names the lines that were left out; ResultsError where some are of another version.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise ResultsError(f"store {self.folder}: a file is there. A store is a folder: give another name")
        found: dict[str, Record] = {}
        left_out: list[Fault] = []
        for path in in_order(path for path in self.folder.glob("*.jsonl") if path.is_file()):
            records, faults = intact(path, Record)
            left_out += faults
            for record in records:
                found.setdefault(key(record), record)
        answer_for(left_out, self.folder)
        return list(found.values())

    def append(self, records: Iterable[Record]) -> None:
        """Nothing; the records are on the disk when this returns."""
        if self._mine is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._mine = self._new_file()
        append(self._mine, records)

    def check_writable(self) -> None:
        """Nothing; OSError now rather than after an hour if records cannot be kept here."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            probe = self._new_file(".tmp")
            try:
                write_lines(probe, [b" " * _PROBE])
            finally:
                probe.unlink()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.folder)) from error

    def missing(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells that have no whole scoring, in order."""
        return self.answers(cells).missing

    def answers(self, cells: Sequence[Cell], objection: Objection | None = None) -> Answers:
        """What answers `cells`; `objection` says of a record why it does not count, or None."""
        scorings = _scorings(self.records())
        found = Answers()
        for cell in cells:
            counted: dict[int, tuple[Record, ...]] = {}
            for place, scoring in chain.from_iterable(scorings.get(asked, ()) for asked in cell.keys):
                reason = objection(cell, scoring[0]) if objection else None
                if reason is None:
                    counted[place] = scoring
                else:
                    found.refused.append((cell, reason))
            if not counted:
                found.missing.append(cell)
                continue
            found.records[cell.key] = counted[max(counted)]
            if len({(scoring[0].weights, scoring[0].requests) for scoring in counted.values()}) > 1:
                found.contested.append(cell)
        return found

    def _new_file(self, suffix: str = ".jsonl") -> Path:
        """A file that no other writer has: named by time, machine and process, so that files sort by age.

        Also where the clock went backwards, its name comes after those that are there.
        """
        stamps = (STAMP.match(path.name) for path in self.folder.glob("*.jsonl"))
        newest = max((stamp[0] for stamp in stamps if stamp), default="")
        while True:
            now = max(datetime.datetime.now(datetime.UTC).strftime(_TIME), _after(newest))
            path = self.folder / f"{now}-{host_name()}-{os.getpid()}{suffix}"
            try:
                path.open("x").close()
            except FileExistsError:
                newest = now
                continue
            sync_folder(self.folder)
            return path


def host_name() -> str:
    """This machine's name, as names of files have it."""
    return re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())[:40].strip("-") or "host"


def _after(stamp: str) -> str:
    """The next stamp; none where there is no time of that name."""
    try:
        return (datetime.datetime.strptime(stamp, _TIME) + datetime.timedelta(microseconds=1)).strftime(_TIME)
    except (ValueError, OverflowError):
        return ""


def _scorings(records: Iterable[Record]) -> dict[str, list[tuple[int, tuple[Record, ...]]]]:
    """The key of a cell -> its scorings that have all their metrics, each with its place among all."""
    groups: dict[tuple[str, str], dict[str, Record]] = defaultdict(dict)
    for record in records:
        if (asked := record.cell_key) is not None:
            same = key(record.model_copy(update={"metric": ""}))
            groups[asked, same][record.metric] = record
    found: dict[str, list[tuple[int, tuple[Record, ...]]]] = defaultdict(list)
    for place, ((asked, _), by_metric) in enumerate(groups.items()):
        wanted = next(iter(by_metric.values())).asked
        if wanted is not None and set(wanted.metrics) <= set(by_metric):
            found[asked].append((place, tuple(by_metric[metric] for metric in wanted.metrics)))
    return found
