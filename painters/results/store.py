"""The store: a folder of record files, one writer each, that are read as one."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from painters.experiment import Cell
from painters.results.files import STAMP, append, in_reading_order, read_intact, report_faults, write_lines
from painters.results.lines import Fault, sync_folder
from painters.results.partial import PartialFiles
from painters.results.record import Record, ResultsError, key
from painters.results.writers import TIME, new_name

__all__ = ["Answers", "Objection", "Store"]

Objection = Callable[[Cell, Record], str | None]
"""Returns why a record does not count as an answer to a cell, or None."""

_PROBE = 4096  # bytes that a store must accept before a sweep loads anything


@dataclass(slots=True)
class Answers:
    """Which records answer which cells of an experiment.

    A record answers a cell of the same model, revision, dtype, plan, kv, task, shots, limit, seed and batch size, all
    as the experiment asked for them. One scored in lm-eval's batches also answers a cell that asks for shared batches.

    A scoring, the records of all metrics of a cell, counts only when it is complete. Where a cell was scored again,
    because its weights, requests, device or libraries changed, the latest scoring counts: the last in the order of
    files and lines, not of dates, because clocks may go backwards.

    Attributes:
        records: The key of an answered cell -> its records, one per metric.
        missing: The cells without an answer, in order.
        refused: Cells with a complete scoring that does not count, each with the reason.
        contested: Cells that were scored with several weights or requests.

    Examples:
        >>> from painters.experiment import Cell
        >>> from painters.plan import Plan
        >>> settings = {"model": "nano-llama", "revision": None, "dtype": "auto", "kv": "exact", "num_layers": 12}
        >>> settings |= {"task": "nano_arc", "shots": None, "limit": 2, "seed": 1234, "batch_size": 8}
        >>> cell = Cell(plan=Plan.parse("0-10"), **settings)
        >>> answers = Store("empty").answers([cell])
        >>> len(answers.missing), answers.of(cell)
        (1, ())
    """

    records: dict[str, tuple[Record, ...]] = field(default_factory=dict)
    missing: list[Cell] = field(default_factory=list)
    refused: list[tuple[Cell, str]] = field(default_factory=list)
    contested: list[Cell] = field(default_factory=list)

    def of(self, cell: Cell) -> tuple[Record, ...]:
        """Return the records that answer a cell.

        Args:
            cell: A cell of the experiment.

        Returns:
            One record per metric; empty where the cell is missing.
        """
        return self.records.get(cell.key, ())


class Store:
    """A folder of record files. Reading merges all of them; each process writes to a file of its own.

    So writers need no locks, on any file system. Where two sweeps score the same cells at the same time, both keep
    their records and one scoring counts.

    Args:
        folder: The folder, which need not exist yet.

    Examples:
        >>> from painters.harness import score
        >>> from painters.models import load_model
        >>> store = Store("runs")
        >>> store.append(score(*load_model("nano-llama"), "0-10", "nano_arc", limit=2))
        >>> [(record.plan, record.metric) for record in Store("runs").records()]
        [('0-10', 'acc'), ('0-10', 'acc_norm')]
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._own_file: Path | None = None

    def records(self) -> list[Record]:
        """Return all intact records, file by file.

        Damaged lines are left out with a `ResultsWarning` that names them.

        Returns:
            The records; of several with the same key that answer the same cell the first. Empty where the folder does
            not exist.

        Raises:
            ResultsError: There is a file in place of the folder, or some lines are of another version of painters.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise ResultsError(f"store {self.folder}: a file is there. A store is a folder: give another name")
        by_key: dict[tuple[str, str | None], Record] = {}
        faults: list[Fault] = []
        for path in in_reading_order(path for path in self.folder.glob("*.jsonl") if path.is_file()):
            records, faults_of_file = read_intact(path, Record)
            faults += faults_of_file
            for record in records:
                by_key.setdefault((key(record), record.cell_key), record)
        report_faults(faults, self.folder)
        return list(by_key.values())

    def append(self, records: Iterable[Record]) -> None:
        """Append records to this process's file, and return when they are on the disk.

        Args:
            records: The records to keep.

        Raises:
            OSError: The file cannot be written.
            ResultsError: A record is longer than the longest line that readers accept.
        """
        if self._own_file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._own_file = self._new_file()
        append(self._own_file, records)

    @property
    def partial_files(self) -> PartialFiles:
        """The files of scorings in this folder that are not whole yet."""
        return PartialFiles(self.folder)

    def check_writable(self) -> None:
        """Check that records can be kept here, so that a sweep fails at once and not after an hour.

        Raises:
            OSError: The folder cannot be created, or not written to, or its disk is full.
        """
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
        """Return the cells that have no complete scoring.

        Args:
            cells: Cells of an experiment.

        Returns:
            Those without an answer, in order.
        """
        return self.answers(cells).missing

    def answers(self, cells: Sequence[Cell], objection: Objection | None = None) -> Answers:
        """Find the records that answer cells of an experiment.

        Args:
            cells: Cells of an experiment.
            objection: Returns why a record does not count as an answer to a cell, or None where it counts.

        Returns:
            The records of each answered cell, and the cells that are missing, refused or contested.
        """
        scorings = _scorings(self.records())
        answers = Answers()
        for cell in cells:
            counted: dict[int, tuple[Record, ...]] = {}
            for position, scoring in chain.from_iterable(scorings.get(cell_key, ()) for cell_key in cell.keys):
                reason = objection(cell, scoring[0]) if objection else None
                if reason is None:
                    counted[position] = scoring
                else:
                    answers.refused.append((cell, reason))
            if not counted:
                answers.missing.append(cell)
                continue
            answers.records[cell.key] = counted[max(counted)]
            if len({(scoring[0].weights, scoring[0].requests) for scoring in counted.values()}) > 1:
                answers.contested.append(cell)
        return answers

    def _new_file(self, suffix: str = ".jsonl") -> Path:
        """Create a file that no other writer has, named by time, machine and process.

        Its name sorts after those of all files that are there, also where the clock went backwards.
        """
        stamps = (STAMP.match(path.name) for path in self.folder.glob("*.jsonl"))
        newest = max((stamp[0] for stamp in stamps if stamp), default="")
        while True:
            path = self.folder / f"{new_name(_after(newest))}{suffix}"
            try:
                path.open("xb").close()
            except FileExistsError:
                newest = path.name[: path.name.index("Z") + 1]
                continue
            sync_folder(self.folder)
            return path


def _after(stamp: str) -> str:
    """Return the stamp one microsecond later; empty where `stamp` is no time."""
    try:
        return (datetime.datetime.strptime(stamp, TIME) + datetime.timedelta(microseconds=1)).strftime(TIME)
    except (ValueError, OverflowError):
        return ""


def _scorings(records: Iterable[Record]) -> dict[str, list[tuple[int, tuple[Record, ...]]]]:
    """Group records into complete scorings, by the key of their cell.

    A scoring comes with its position among all scorings: a later one has a larger number.
    """
    by_metric_of: dict[tuple[str, str], dict[str, Record]] = defaultdict(dict)
    for record in records:
        if (cell_key := record.cell_key) is not None:
            settings = key(record.model_copy(update={"metric": ""}))
            by_metric_of[cell_key, settings][record.metric] = record
    scorings: dict[str, list[tuple[int, tuple[Record, ...]]]] = defaultdict(list)
    for position, ((cell_key, _), by_metric) in enumerate(by_metric_of.items()):
        asked = next(iter(by_metric.values())).asked
        if asked is not None and set(asked.metrics) <= set(by_metric):
            scorings[cell_key].append((position, tuple(by_metric[metric] for metric in asked.metrics)))
    return scorings
