"""Files of records, one JSON object per line, that only grow: lines are appended, and never changed or removed."""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from io import RawIOBase
from pathlib import Path

from painters.errors import PaintersWarning
from painters.results.lines import FORMAT, Fault, FaultKind, Line, M, TooLongError, read_lines, seal, sync_folder
from painters.results.record import Record, ResultsError

__all__ = [
    "STAMP",
    "ResultsWarning",
    "append",
    "in_reading_order",
    "read",
    "read_intact",
    "replace_file",
    "report_faults",
    "write_lines",
]

STAMP = re.compile(r"\d{8}T\d{6}-\d{6}Z(?=-)")
"""The beginning of the name of a file that a store wrote: the time (UTC) at which its writer began."""
_MOST_NAMED = 5  # damaged lines in a message


class ResultsWarning(PaintersWarning):
    """A warning that damaged lines in files of records were left out."""


def append(path: str | Path, records: Iterable[Record]) -> None:
    """Append records to a file, and return when they are on the disk.

    The records begin on a line of their own, also where an interrupted writer left an unfinished line. There are no
    locks: a file must have one writer at a time.

    Args:
        path: The file. It and its folder are created if they do not exist.
        records: The records to append, a line for each.

    Raises:
        OSError: The file cannot be written. The next call repairs an unfinished line that this one left.
        ResultsError: A record is longer than the longest line that `read` accepts. Nothing was written.

    Examples:
        >>> from painters.harness import score
        >>> from painters.models import load_model
        >>> records = score(*load_model("nano-llama"), "0-10", "nano_arc", limit=2)
        >>> append("runs/records.jsonl", records)
        >>> read("runs/records.jsonl") == records
        True
    """
    write_lines(Path(path), [_line(record) for record in records])


def write_lines(path: Path, lines: Sequence[bytes]) -> None:
    """Append lines, each with its newline, to `path`, and return when they are on the disk."""
    if not lines:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    try:
        with path.open("a+b", buffering=0) as file:
            unwritten = memoryview(_missing_newline(file) + b"".join(lines))
            while unwritten:
                unwritten = unwritten[file.write(unwritten) :]
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    if is_new:
        sync_folder(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Replace `path` by a file with `content`, and return when it is on the disk.

    The replacement is atomic: at any moment the file holds either all of its old content or all of the new.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    sync_folder(path.parent)


def read(path: str | Path) -> list[Record]:
    """Return the intact records of a file, in order.

    Damaged lines are left out with a `ResultsWarning` that names them.

    Args:
        path: A file of records, as `append`, `painters run --out` and `painters sweep` write them.

    Returns:
        One record per intact line; duplicates are not removed.

    Raises:
        ResultsError: There is no such file, or some of its lines were written by another version of painters.

    Examples:
        >>> from painters.harness import score
        >>> from painters.models import load_model
        >>> append("records.jsonl", score(*load_model("nano-llama"), "0-10", "nano_arc", limit=2))
        >>> [(record.plan, record.metric) for record in read("records.jsonl")]
        [('0-10', 'acc'), ('0-10', 'acc_norm')]
    """
    path = Path(path)
    if not path.is_file():
        raise ResultsError(f"records of {path}: there is no such file. `painters run --out {path}` writes one")
    records, faults = read_intact(path, Record)
    report_faults(faults, path)
    return records


def read_intact(path: Path, model: type[M]) -> tuple[list[M], list[Fault]]:
    """Return the intact records of class `model` in `path`, in order, and the faults of all other lines."""
    records: list[M] = []
    faults: list[Fault] = []
    for line in read_lines(path, model):
        if isinstance(line, Line):
            records.append(line.record)
        else:
            faults.append(line)
    return records, faults


def report_faults(faults: Sequence[Fault], path: str | Path) -> None:
    """Raise ResultsError for lines of another version, and warn (ResultsWarning) of damaged ones.

    `path` is the file or folder that was read, for the message.
    """
    for kind in (FaultKind.newer, FaultKind.older):
        if of_kind := [fault for fault in faults if fault.kind == kind]:
            rest = _OTHER_VERSION[kind].format(of_kind[0], path)
            raise ResultsError(f"records of {path}: {_counted(of_kind)} {rest}")
    if faults:
        warnings.warn(
            f"records of {path}: {_counted(faults)} damaged and left out ({_line_numbers(faults)}). A sweep scores "
            f"their cells again; `painters doctor {path}` says more",
            ResultsWarning,
            stacklevel=2,
        )


_OTHER_VERSION = {
    FaultKind.newer: "of a newer painters ({0.reason}; {0.path.name}, line {0.line}). Update painters to read them",
    FaultKind.older: (
        "of an older painters, which wrote no checksums ({0.path.name}, line {0.line}). "
        f"`painters doctor {{1}} --mend` checks them, and writes them anew in format {FORMAT}"
    ),
}


def in_reading_order(paths: Iterable[Path]) -> list[Path]:
    """Return files of records in the order in which they are read: later files override earlier ones.

    In each folder the files that a user named come first, then those of stores by name. A store names a new file so
    that it sorts after those already there, whatever the clock says.
    """
    return sorted(paths, key=lambda path: (path.parent, bool(STAMP.match(path.name)), path.name))


def _line(record: Record) -> bytes:
    """Return the line of a record; raise ResultsError where it is too long."""
    try:
        return seal(record.model_dump_json())
    except TooLongError as error:
        raise ResultsError(f"record of {record.plan} on {record.task}: {error}") from error


def _missing_newline(file: RawIOBase) -> bytes:
    """Return the newline that the last line of `file` lacks, or nothing."""
    end = file.seek(0, os.SEEK_END)
    if not end:
        return b""
    file.seek(end - 1)
    return b"" if file.read(1) == b"\n" else b"\n"


def _counted(faults: Sequence[Fault]) -> str:
    """Return the number of lines with its verb."""
    return "1 line is" if len(faults) == 1 else f"{len(faults):,} lines are"


def _line_numbers(faults: Sequence[Fault]) -> str:
    """Return the files and line numbers of the first few faults."""
    lines: dict[str, list[str]] = defaultdict(list)
    for fault in faults[:_MOST_NAMED]:
        lines[fault.path.name].append(str(fault.line))
    text = "; ".join(f"{name}: {', '.join(numbers)}" for name, numbers in lines.items())
    return text if len(faults) <= _MOST_NAMED else f"{text}; …"
