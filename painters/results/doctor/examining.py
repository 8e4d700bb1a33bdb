"""The doctor: what is right and wrong with the files of a store, and how to put it right.

Nothing is lost by it: a file is replaced as a whole, and the old one stays beside it as .bak.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from painters.errors import PaintersError
from painters.results.doctor.mending import Mended, mend
from painters.results.doctor.sums import objection
from painters.results.files import in_order, intact
from painters.results.lines import Fault, Kind
from painters.results.similarity_record import SimilarityRecord, holds_similarities
from painters.results.table import Record, key

__all__ = ["Diagnosis", "DoctorError", "Examined", "Mended", "examine", "mend"]


class DoctorError(PaintersError, ValueError):
    """Something that is no store of records."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Examined:
    """What is in one file."""

    path: Path
    kind: str  # scores or similarities
    records: int  # intact ones
    faults: tuple[Fault, ...]
    unreadable: str | None = None  # why

    def count(self, *kinds: Kind) -> int:
        """The faults of these kinds."""
        return sum(fault.kind in kinds for fault in self.faults)


@dataclass(slots=True)
class Diagnosis:
    """What is in a store, or in one file of records."""

    folder: Path
    files: list[Examined] = field(default_factory=list)
    records: int = 0  # distinct ones
    doubles: int = 0  # of records that are there too
    cells: int = 0  # of experiments, with all their metrics
    parts: list[str] = field(default_factory=list)  # cells that lack a metric
    differing: list[str] = field(default_factory=list)  # doubles with another outcome
    contested: list[str] = field(default_factory=list)  # cells scored with several weights or requests
    strange: list[str] = field(default_factory=list)  # records whose numbers do not follow from one another
    others: list[Path] = field(default_factory=list)  # files that hold no records
    drafts: list[Path] = field(default_factory=list)  # what interrupted writers left

    @property
    def is_sound(self) -> bool:
        """Whether every line of every file is an intact record of this version."""
        return not any(one.faults or one.unreadable for one in self.files)

    def count(self, *kinds: Kind) -> int:
        """The faults of these kinds."""
        return sum(one.count(*kinds) for one in self.files)


def examine(results: str | Path) -> Diagnosis:
    """What is in a store, at any depth, or in one file of records. DoctorError where there is neither."""
    results = Path(results)
    if not results.exists():
        raise DoctorError(f"doctor of {results}: there is no such file or folder. `painters sweep` writes one")
    found = Diagnosis(results)
    paths = [results] if results.is_file() else list(_sort(results, found))
    scores: list[Record] = []
    for path in in_order(paths):
        examined, records = _file(path)
        found.files.append(examined)
        scores += records
    if not found.files:
        raise DoctorError(f"doctor of {results}: the folder holds no .jsonl file, so nothing to examine")
    _compare(scores, found)
    return found


def _sort(folder: Path, found: Diagnosis) -> Iterator[Path]:
    """The files of records in `folder`; the others are in `found`."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".jsonl" and path.is_file():
            yield path
        elif path.suffix == ".tmp":
            found.drafts.append(path)
        elif not path.is_dir():
            found.others.append(path)


def _file(path: Path) -> tuple[Examined, Sequence[Record]]:
    """What is in `path`, and the scores in it."""
    kind = "scores"
    try:
        if holds_similarities(path):
            kind = "similarities"
            measured, faults = intact(path, SimilarityRecord)
            return Examined(path, kind, len(measured), tuple(faults)), ()
        records, faults = intact(path, Record)
    except OSError as error:
        return Examined(path, kind, 0, (), error.strerror or str(error)), ()
    return Examined(path, kind, len(records), tuple(faults)), records


def _compare(records: Sequence[Record], found: Diagnosis) -> None:
    """Nothing; `found` says what the records of all files say of one another."""
    first: dict[str, Record] = {}
    metrics: dict[str, set[str]] = defaultdict(set)
    ways: dict[str, set[tuple[str | None, str]]] = defaultdict(set)
    names: dict[str, Record] = {}
    differing: Counter[str] = Counter()
    for record in records:
        same = first.setdefault(key(record), record)
        if same is not record:
            found.doubles += 1
            if (same.value, same.outcomes) != (record.value, record.outcomes):
                differing[_named(record)] += 1
        if (reason := objection(record)) is not None:
            found.strange.append(f"{_named(record)}: {reason}")
        if (cell := record.cell_key) is not None:
            names.setdefault(cell, record)
            metrics[cell].add(record.metric)
            ways[cell].add((record.weights, record.requests))
    found.records = len(first)
    found.differing = list(differing)
    whole = {cell for cell, one in names.items() if one.asked and set(one.asked.metrics) <= metrics[cell]}
    found.cells = len(whole)
    found.parts = [_named(one) for cell, one in names.items() if cell not in whole]
    found.contested = [_named(names[cell]) for cell, several in ways.items() if len(several) > 1]


def _named(record: Record) -> str:
    return f"{record.model} under {record.plan} on {record.task}, {record.metric}"
