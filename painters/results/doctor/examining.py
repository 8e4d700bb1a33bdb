"""Examine the files of a store: damaged lines, duplicates, incomplete cells, numbers that contradict each other."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from painters.errors import PaintersError
from painters.results.doctor.consistency import inconsistency
from painters.results.files import in_reading_order, read_intact
from painters.results.lines import Fault, FaultKind
from painters.results.partial import CHECKPOINT, SUFFIX, Partial
from painters.results.record import Record, key
from painters.results.similarity_record import SimilarityRecord, holds_similarities

__all__ = ["Diagnosis", "DoctorError", "Examined", "examine"]


class DoctorError(PaintersError, ValueError):
    """A path that holds no records to examine."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Examined:
    """What one file holds.

    Attributes:
        path: The file.
        kind: `scores` or `similarities`.
        records: How many intact records it holds.
        faults: Its lines that are not intact records.
        unreadable: Why the file cannot be read; None where it can.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("records.jsonl").write_text("nonsense")
        >>> [file] = examine("records.jsonl").files
        >>> file.records, [(fault.line, str(fault.kind)) for fault in file.faults]
        (0, [(1, 'unfinished')])
    """

    path: Path
    kind: str
    records: int
    faults: tuple[Fault, ...]
    unreadable: str | None = None

    def count(self, *kinds: FaultKind) -> int:
        """Return how many faults are of one of these kinds.

        Args:
            *kinds: The kinds to count.

        Returns:
            The number of faults.
        """
        return sum(fault.kind in kinds for fault in self.faults)


@dataclass(slots=True)
class Diagnosis:
    """What a store, or one file of records, holds.

    Attributes:
        folder: The folder or file that was examined.
        files: What each file of records holds.
        records: How many distinct records of scores there are.
        doubles: How many more records repeat the key of one of these.
        cells: How many cells of experiments have all their metrics.
        parts: Cells that lack a metric.
        differing: Duplicates whose value or outcomes differ.
        contested: Cells that were scored with several weights or requests.
        strange: Records whose numbers contradict each other, with the reason.
        others: Files that hold no records.
        drafts: Temporary files that interrupted writers left.
        partials: What scorings that are not whole have kept: file -> how many answers are in it.

    Examples:
        >>> from painters.harness import score
        >>> from painters.models import load_model
        >>> from painters.results import Store
        >>> Store("runs").append(score(*load_model("nano-llama"), "0-10", "nano_arc", limit=2))
        >>> diagnosis = examine("runs")
        >>> diagnosis.is_sound, diagnosis.records, diagnosis.doubles
        (True, 2, 0)
    """

    folder: Path
    files: list[Examined] = field(default_factory=list)
    records: int = 0
    doubles: int = 0
    cells: int = 0
    parts: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    contested: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    drafts: list[Path] = field(default_factory=list)
    partials: dict[Path, int] = field(default_factory=dict)

    @property
    def is_sound(self) -> bool:
        """Whether every line of every file is an intact record of this version."""
        return not any(file.faults or file.unreadable for file in self.files)

    def count(self, *kinds: FaultKind) -> int:
        """Return how many faults of all files are of one of these kinds.

        Args:
            *kinds: The kinds to count.

        Returns:
            The number of faults.
        """
        return sum(file.count(*kinds) for file in self.files)


def examine(results: str | Path) -> Diagnosis:
    r"""Examine a store, or one file of records. Nothing is changed.

    Args:
        results: A folder, whose .jsonl files are examined at any depth, or one file.

    Returns:
        What the files hold, and what is wrong with them.

    Raises:
        DoctorError: There is no such file or folder, or the folder holds no .jsonl file.

    Examples:
        >>> from pathlib import Path
        >>> from painters.harness import score
        >>> from painters.models import load_model
        >>> from painters.results import append
        >>> append("runs/a.jsonl", score(*load_model("nano-llama"), "0-10", "nano_arc", limit=2))
        >>> with Path("runs/a.jsonl").open("a") as file:
        ...     _ = file.write("nonsense\n")
        >>> diagnosis = examine("runs")
        >>> diagnosis.is_sound, diagnosis.records
        (False, 2)
        >>> [(fault.line, str(fault.kind)) for file in diagnosis.files for fault in file.faults]
        [(3, 'damaged')]
    """
    results = Path(results)
    if not results.exists():
        raise DoctorError(f"doctor of {results}: there is no such file or folder. `painters sweep` writes one")
    diagnosis = Diagnosis(results)
    paths = list(_record_files(results, diagnosis))
    scores: list[Record] = []
    for path in in_reading_order(paths):
        examined, records = _examine_file(path)
        diagnosis.files.append(examined)
        scores += records
    if not diagnosis.files and not diagnosis.partials:
        raise DoctorError(f"doctor of {results}: the folder holds no .jsonl file, so nothing to examine")
    _compare(scores, diagnosis)
    return diagnosis


def _record_files(folder: Path, diagnosis: Diagnosis) -> Iterator[Path]:
    """Yield the files of records in `folder`, at any depth, and note all other files in `diagnosis`.

    A single file that is no partial results is taken for one of records.
    """
    is_file = folder.is_file()
    for path in [folder] if is_file else sorted(folder.rglob("*")):
        if path.suffix == SUFFIX and path.is_file():
            with contextlib.suppress(OSError):
                diagnosis.partials[path] = sum(len(one.answers) for one in read_intact(path, Partial)[0])
        elif path.suffix == CHECKPOINT:
            diagnosis.partials[path] = 0
        elif is_file or (path.suffix == ".jsonl" and path.is_file()):
            yield path
        elif path.suffix == ".tmp":
            diagnosis.drafts.append(path)
        elif not path.is_dir():
            diagnosis.others.append(path)


def _examine_file(path: Path) -> tuple[Examined, Sequence[Record]]:
    """Return what `path` holds, and its intact records of scores."""
    kind = "scores"
    try:
        if holds_similarities(path):
            kind = "similarities"
            similarities, faults = read_intact(path, SimilarityRecord)
            return Examined(path, kind, len(similarities), tuple(faults)), ()
        records, faults = read_intact(path, Record)
    except OSError as error:
        return Examined(path, kind, 0, (), error.strerror or str(error)), ()
    return Examined(path, kind, len(records), tuple(faults)), records


def _compare(records: Sequence[Record], diagnosis: Diagnosis) -> None:
    """Compare the records of all files with one another, and note in `diagnosis` what does not fit together."""
    _compare_duplicates(records, diagnosis)
    for record in records:
        if (reason := inconsistency(record)) is not None:
            diagnosis.strange.append(f"{_name(record)}: {reason}")
    _compare_cells(records, diagnosis)


def _compare_duplicates(records: Sequence[Record], diagnosis: Diagnosis) -> None:
    """Count distinct records and duplicates, and note duplicates with another outcome."""
    first: dict[tuple[str, str | None], Record] = {}
    differing: Counter[str] = Counter()
    for record in records:
        original = first.setdefault((key(record), record.cell_key), record)
        if original is not record:
            diagnosis.doubles += 1
            if (original.value, original.outcomes) != (record.value, record.outcomes):
                differing[_name(record)] += 1
    diagnosis.records = len(first)
    diagnosis.differing = list(differing)


def _compare_cells(records: Sequence[Record], diagnosis: Diagnosis) -> None:
    """Count complete cells of experiments, and note incomplete and contested ones."""
    first: dict[str, Record] = {}
    metrics: dict[str, set[str]] = defaultdict(set)
    sources: dict[str, set[tuple[str | None, str]]] = defaultdict(set)  # weights and requests
    for record in records:
        if (cell := record.cell_key) is not None:
            first.setdefault(cell, record)
            metrics[cell].add(record.metric)
            sources[cell].add((record.weights, record.requests))
    complete = {cell for cell, record in first.items() if record.asked and set(record.asked.metrics) <= metrics[cell]}
    diagnosis.cells = len(complete)
    diagnosis.parts = [_name(record) for cell, record in first.items() if cell not in complete]
    diagnosis.contested = [_name(first[cell]) for cell, several in sources.items() if len(several) > 1]


def _name(record: Record) -> str:
    """Return how a report names the record."""
    return f"{record.model} under {record.plan} on {record.task}, {record.metric}"
